"""Modality scaling in evaluation: a curve for plain heads whose logits are a sum over modalities."""

import pytest

from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.evaluate.references import scaling
from amr.fusion.evaluate.references.scaling import factors_of
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


def curves(cache, head="concat", hidden=0):
    base = FitConfig(cache=str(cache), epochs=3, lr=0.01, device="cpu", head=head, hidden=hidden)
    folder = sweep(SweepConfig(base, amr_ratio=("none", "1:1"), seed=(0, 1))).folder
    document = evaluate(EvaluateConfig(run=folder, bootstrap=0, device="cpu")).document
    return {(entry["amr_ratio"], entry["seed"]): entry for entry in document["runs"]}


def test_factors_favor_each_modality_in_turn():
    assert [*factors_of(["a", "b"]).items()][::3] == [("a=4:b=1", (1.0, 0.25)), ("a=1:b=4", (0.25, 1.0))]
    assert len(factors_of(["a", "b", "c"])) == 6


@pytest.mark.parametrize("head", ["concat", "sum", "cosine"])
def test_plain_heads_have_a_curve_and_others_none(small_cache, head):
    entries = curves(small_cache, head)
    for (ratio, _), entry in entries.items():
        assert (entry["modality_scaling"] is None) == (ratio is not None)
        for point in entry["modality_scaling"] or ():
            assert {*point} == {"ratio", "factors", "accuracy", "use", "use_share"}
    first = entries[None, 0]["modality_scaling"]
    assert first[0]["use_share"]["audio"] > first[-1]["use_share"]["audio"]


def test_heads_whose_logits_are_no_sum_have_no_curve(small_cache):
    entries = curves(small_cache, hidden=4)
    assert all(entry["modality_scaling"] is None for entry in entries.values())


def test_even_factors_are_the_plain_head_and_a_factor_of_0_removes_a_modality(small_cache, monkeypatch):
    ratios = {"1:1": (1.0, 1.0), "1:0": (1.0, 0.0)}
    monkeypatch.setattr(scaling, "factors_of", lambda _: ratios)
    entry = curves(small_cache)[None, 1]
    even, alone = entry["modality_scaling"]
    assert even["accuracy"] == pytest.approx(entry["measures"]["accuracy"])
    assert even["use"] == pytest.approx(entry["measures"]["perceptual"], abs=1e-6)
    assert alone["use_share"] == {"audio": 1.0, "video": 0.0}
