from __future__ import annotations

from dataclasses import replace

from amr.fusion.report import compare
from amr.fusion.report.compare import compared
from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of


def test_the_page_holds_one_run_of_each_setting_and_of_one_seed(made):
    results = read_results(made(p_corrected=0.5))
    found = compared(results, settings_of(results), "")
    assert found["runs"][0]["name"] == "no AMR, seed 1"  # the reference, its best seed on val
    assert {run["name"].partition(", ")[2] for run in found["runs"]} == {"seed 1"}
    assert len(found["runs"]) == 5
    mine = results.decisions.of(["naive_audio+video_None_1"])
    assert found["runs"][0]["preds"] == mine.preds[0].tolist()
    assert found["runs"][0]["shares"] == [round(100 * float(share)) for share in mine.shares[0, :, 0].astype(float)]
    assert (found["ids"], found["modality"]) == (mine.ids.tolist(), "audio")


def test_of_many_clips_there_are_fewer_runs(made, monkeypatch):
    monkeypatch.setattr(compare, "MAX_DECISIONS", 70)
    results = read_results(made(p_corrected=0.5))
    assert len(compared(results, settings_of(results), "")["runs"]) == 2
    monkeypatch.setattr(compare, "MAX_DECISIONS", 1)
    assert len(compared(results, settings_of(results), "")["runs"]) == 1


def test_without_decisions_there_is_nothing_to_compare(made):
    results = read_results(made())
    assert compared(results, settings_of(results), "") is None
    results = read_results(made("evaluated", p_corrected=0.5))
    none = replace(results.decisions, ids=results.decisions.ids[:0])
    results.__dict__["decisions"] = none
    assert compared(results, settings_of(results), "") is None
