"""Decisions of labels and numbers: those of the evaluation are those of the runs, and of the measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, recall_score

from amr.fusion.report.decisions import of_predictions
from amr.fusion.report.read import read_results
from amr.fusion.report.sections import sections
from amr.fusion.report.settings import best_run, settings_of

BOTH = pytest.mark.parametrize("name", ["labels", "numbers"])


@pytest.fixture
def results(of_tasks, name):
    return read_results(of_tasks[name])


@BOTH
def test_decisions_give_the_measures_of_the_runs(results, name):
    for run in results.runs:
        mine = results.decisions.of([run.name])
        assert mine.tested.all()
        if name == "numbers":
            assert mine.errors.mean() == pytest.approx(run.test["mae"], abs=1e-4)
            assert not mine.right.any()
        else:
            assert mine.right.mean() == pytest.approx(run.test["accuracy"])
            truth = np.where(mine.target > 0, mine.probability[0], 1 - mine.probability[0])
            assert mine.errors[0] == pytest.approx(-np.log(truth.astype(float)).sum(-1), rel=1e-6)


@BOTH
def test_a_single_run_has_the_decisions_of_its_predictions(results, of_tasks, name, tasks_home):
    from amr.fusion.config import FitConfig
    from amr.fusion.fit import fit
    from amr.fusion.runs.read import read_run

    from .conftest import TARGETS

    options = {"cache": str(tasks_home / "caches" / "x.h5"), "epochs": 15, "lr": 0.05, "device": "cpu"}
    alone = fit(FitConfig(out=str(tasks_home / f"alone-{name}"), **TARGETS[name], **options)).run
    mine = of_predictions(read_run(alone))
    same = results.decisions.of([run.name for run in results.runs if run.seed == 0 and not run.regularized])
    assert mine.ids.tolist() == same.ids.tolist()
    np.testing.assert_allclose(mine.target, same.target, atol=1e-5)
    if name == "numbers":
        np.testing.assert_allclose(mine.preds, same.preds, atol=1e-5)
    else:
        np.testing.assert_array_equal(mine.preds, same.preds)
        np.testing.assert_allclose(mine.probability, same.probability, atol=1e-3)
    np.testing.assert_allclose(mine.shares, same.shares, atol=1e-3)


@pytest.mark.parametrize("name", ["labels"])
def test_measures_of_each_label_are_those_of_scikit_learn(results, name):
    settings = settings_of(results)
    table = sections["recognized"](results, settings).table
    assert table.columns == ("setting", "label", "clips", "F1", "average precision (AP)", "recall")
    for row in table.rows:
        setting, label, clips, *values = (cell.value for cell in row)
        mine = results.decisions.of([run.name for s in settings if s.label == setting for run in s.runs])
        c = results.classes.index(label)
        of_label = mine.target[:, c]
        assert clips == of_label.sum()
        found = [
            np.mean([f1_score(of_label, preds[:, c]) for preds in mine.preds]),
            np.mean([average_precision_score(of_label, p[:, c]) for p in mine.probability]),
            np.mean([recall_score(of_label, preds[:, c]) for preds in mine.preds]),
        ]
        assert values == pytest.approx(found, abs=1e-6)


@BOTH
def test_sections_about_one_class_per_clip_are_left_out(results, name):
    made = {each for each in sections if sections[each](results, settings_of(results)) is not None}
    only = {"labels": {"classes", "recognized", "reliability"}, "numbers": {"numbers"}}
    assert only[name] <= made
    assert not made & ({"confusion", "numbers", "classes", "recognized", "reliability"} - only[name])
    assert {"verdict", "share", "use", "missing", "noise", "training", "runs"} <= made


@pytest.mark.parametrize("name", ["numbers"])
def test_parts_of_the_numbers_together_have_the_error_of_the_run(results, name):
    picture = sections["numbers"](results, settings_of(results))
    clips, errors = (np.array([row[i].value for row in picture.table.rows], float) for i in (1, 4))
    run = best_run(settings_of(results))
    assert f"seed {run.seed}" in picture.caption
    assert (clips * errors).sum() / clips.sum() == pytest.approx(run.test["mae"], abs=1e-4)


@BOTH
def test_words_are_of_the_score(results, name):
    from amr.fusion.report.chapter import chapter_of
    from amr.fusion.report.config import ReportConfig

    chapter = chapter_of(results, "s1", ReportConfig((str(results.folder),)))
    text = json.dumps(
        [chapter.verdict, chapter.sentences, chapter.headline.columns, dict(chapter.headline.notes)]
        + [[p.title, p.caption, p.alt, p.table.caption, p.table.columns] for p in chapter.all_pictures]
    )
    assert "accuracy" not in text.lower()
    assert {"labels": "mAP lost", "numbers": "rise of MAE"}[name] in text


@BOTH
def test_the_gains_decide_the_best_run(results, name):
    settings = settings_of(results)
    values = [run.val[run.score.name] for setting in settings for run in setting.runs]
    assert best_run(settings).val[results.score.name] == (min(values) if name == "numbers" else max(values))


@BOTH
def test_untested_clips_are_in_no_measure(results, name):
    from dataclasses import replace

    mine = results.decisions
    for field in ("preds", "probability"):
        values = getattr(mine, field)
        if values is not None and not (name == "labels" and field == "preds"):
            values = values.astype(float).copy()
            values[:, 0] = np.nan
            mine = replace(mine, **{field: values})
    assert not mine.tested[:, 0].any()
    assert mine.tested[:, 1:].all()
