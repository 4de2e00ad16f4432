"""Which tasks a method can train for."""

import pytest

from amr.fusion.config import FitConfig
from amr.fusion.methods import methods
from amr.fusion.methods.base import PARTS_ADD_UP
from amr.fusion.resolve import check_task
from amr.fusion.tasks import tasks

OWN = ("multi-loss", "mmpareto", "gradient-blending")


def reason(name, task, **options):
    return methods[name].unfit(methods[name].Options(**options), tasks[task])


def test_parts_of_a_number_do_not_each_learn_the_number():
    """The optimum of L + sum_m L_m for parts that add up is 2 M / (M + 1) times the number: too much for M > 1."""
    for name in OWN:
        assert reason(name, "regression", own=False) == PARTS_ADD_UP
        assert reason(name, "regression", own=True) == reason(name, "multilabel", own=False) == ""
    assert reason("dgl", "regression") == PARTS_ADD_UP
    assert reason("multi-loss", "regression", weight=0.0) == ""
    assert "no bound" in reason("mcr", "regression")
    assert reason("mcr", "regression", weight=0.0) == PARTS_ADD_UP
    assert reason("mcr", "regression", weight=0.0, unimodal=0.0) == reason("mcr", "multilabel") == ""


def test_the_error_says_the_reason_and_what_to_pass():
    with pytest.raises(ValueError, match="got multi-loss: it trains each modality") as error:
        check_task(FitConfig(cache="c", method="multi-loss", task="regression"))
    assert "Pass --method-option own=true, or choose another method." in str(error.value)
