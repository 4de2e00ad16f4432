"""Words about numbers, with the digits that matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.explain.number import NumberExplanation, RemovedNumber, number_text


def number_explanation(value=1.25, true_value=1.5, std=2.0, **removed: dict[str, float]) -> NumberExplanation:
    removed = removed or {"zero": {"audio": 0.5, "video": 1.25}}
    return NumberExplanation(
        clip="a",
        run="runs/x",
        head="concat",
        method="naive",
        amr_ratio=None,
        pred=f"{value:.6g}",
        true=None if true_value is None else f"{true_value:.6g}",
        probabilities={},
        share={"grad_x_input": {m: 1 / len(of) for of in [next(iter(removed.values()))] for m in of}},
        removed={
            baseline: {m: RemovedNumber(f"{v:.6g}", v) for m, v in of.items()} for baseline, of in removed.items()
        },
        steps={},
        notes=(),
        picture="a.png",
        column="sentiment",
        value=value,
        true_value=true_value,
        train_mean=0.1,
        train_std=std,
    )


def test_the_words_have_the_column_and_the_truth():
    e = number_explanation()
    assert e.sentence == "sentiment 1.25; the true number is 1.50"
    assert number_explanation(true_value=None).sentence == "sentiment 1.25"
    title, columns, rows = e.table()
    assert title == "sentiment 1.25, true 1.5"
    assert columns == ["", "audio", "video"]
    assert rows[1:] == [["sentiment if replaced by zero", "0.50", "1.25"]]


@pytest.mark.parametrize(("std", "is_same"), [(2.0, True), (0.2, False)])
def test_baselines_agree_in_units_of_the_train_deviation(std, is_same):
    e = number_explanation(std=std, zero={"audio": 0.5}, mean={"audio": 0.501})
    assert len(e.baselines) == (1 if is_same else 2)


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e3))
def test_a_number_is_written_to_a_hundredth_of_the_deviation(value, unit):
    text = number_text(value, unit)
    assert abs(float(text) - value) <= 0.005 * unit * (1 + 1e-6) + 0.5 * (
        unit >= 100
    )  # no digit before the point is left out
    assert not text.startswith("-0.00") or float(text) < 0


def test_other_numbers_have_an_exponent():
    assert number_text(2.5e9, 1e8) == "2.500e+09"
    assert number_text(1.2346e-6, 1e-7) == "1.235e-06"
    assert number_text(0.0, 1e-9) == "0e+00"
