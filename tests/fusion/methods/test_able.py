"""Sweeps over all methods."""

from pathlib import Path

import pytest

from amr.cli import run as amr
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.methods import methods
from amr.fusion.methods.able import able_methods
from amr.fusion.sweep import trainings
from amr.fusion.sweep.sweep import SweepResult, sweep
from amr.fusion.swept import SweepConfig

EMPTY = SweepResult(Path("nowhere"), ())


def test_all_is_taken_in_either_case_and_alone():
    assert (
        SweepConfig(method="ALL").method
        == ("all",)
        == TrainSweepConfig(TrainConfig(dataset="crema-d", objective="joint"), "all").method
    )
    assert {member.method for member in SweepConfig(method="all").members()} == {*methods}
    assert SweepConfig.parse(swept={"method": "All"}).method == ("all",)
    with pytest.raises(ValueError, match="--method must be all alone or names, got all,naive"):
        SweepConfig(method=("all", "naive"))


@pytest.mark.parametrize("every", ["all", "ALL"])
def test_all_methods_are_many_trainings_of_encoders(every, monkeypatch):
    asked = []
    monkeypatch.setattr(trainings, "sweep_trainings", lambda config, progress, **_: asked.append(config) or EMPTY)
    assert amr(["train-encoders", "--dataset", "synthetic", "--objective", "joint", "--method", every]) == 0
    assert {member.method for member in asked[0].members()} == {*methods}


def test_a_fit_is_told_that_all_is_for_sweeps():
    with pytest.raises(ValueError, match=r"--method must be one name, got ALL\. Use amr sweep --method all"):
        FitConfig(method="ALL")


def test_methods_that_cannot_run_are_named_with_the_reason():
    def check(config):
        if config == ("ume", "plain") or config == ("gge", "1:1"):
            raise ValueError("--lr must be high, got low. Pass 1.")

    names, notes = able_methods(lambda name: [(name, "plain"), (name, "1:1")], check)
    assert names == tuple(name for name in methods if name not in ("ume", "gge"))
    assert notes == [f"{name} is left out: --lr must be high, got low" for name in ("ume", "gge")]


def test_what_naive_training_cannot_run_with_is_an_error():
    def check(name):
        raise ValueError(f"--method must be good, got {name}. Pass another.")

    with pytest.raises(ValueError, match="got naive"):
        able_methods(lambda name: [name], check)


def test_a_sweep_over_all_has_every_method_with_a_ratio_where_it_takes_one(small_cache):
    """Without adapters, those that act on them are left out; the others have both rows, or one."""
    base = FitConfig(cache=str(small_cache), epochs=1, device="cpu")
    result = sweep(SweepConfig(base, method="all", amr_ratio=("none", "1:1")))
    left_out = {note.split()[0] for note in result.notes if "is left out" in note}
    assert left_out == {name for name, each in methods.items() if each.needs_adapter or each.needs_encoders}
    ratios = result.table.groupby("method")["amr_ratio"].unique()
    assert {*ratios.index} == {*methods} - left_out
    for name, found in ratios.items():
        assert len(found) == (2 if methods[name].fuses else 1), name
