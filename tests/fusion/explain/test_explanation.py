"""Baselines that agree are shown once."""

from __future__ import annotations

import pytest

from amr.fusion.explain.classes import ClassExplanation, Removed


def explanation(**removed: dict[str, Removed]) -> ClassExplanation:
    return ClassExplanation(
        clip="a",
        run="runs/x",
        head="concat",
        method="naive",
        amr_ratio=None,
        pred="1",
        true="0",
        probabilities={"0": 0.02, "1": 0.98},
        share={"grad_x_input": {"audio": 0.25, "video": 0.75}},
        removed=removed,
        steps={},
        notes=(),
        picture="a.png",
    )


def without(probability: float, pred: str = "1", true_probability: float = 0.1) -> Removed:
    return Removed(pred, max(probability, 1 - probability), probability, true_probability)


def test_baselines_that_agree_are_one_and_json_keeps_both():
    both = explanation(zero={"audio": without(0.5)}, mean={"audio": without(0.5 + 1e-6)})
    assert both.baselines == {"zero or mean": {"audio": without(0.5)}}
    assert set(both.to_json()["removed"]) == {"zero", "mean"}
    assert both.to_json()["share"] == {"grad_x_input": {"audio": 0.25, "video": 0.75}}


@pytest.mark.parametrize("mean", [without(0.52), without(0.5, pred="0"), without(0.5, true_probability=0.2)])
def test_baselines_that_differ_are_two(mean):
    assert set(explanation(zero={"audio": without(0.5)}, mean={"audio": mean}).baselines) == {"zero", "mean"}
