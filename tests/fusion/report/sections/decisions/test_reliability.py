from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from amr.fusion.report.read import read_results
from amr.fusion.report.sections.decisions.recognized import recognized
from amr.fusion.report.sections.decisions.reliability import reliability
from amr.fusion.report.settings import settings_of


@pytest.fixture
def evaluated(made):
    results = read_results(made(p_corrected=0.5))
    return results, settings_of(results)


def test_bins_are_means_of_their_clips(evaluated):
    results, settings = evaluated
    picture = reliability(results, settings)
    mine = results.decisions.of([run.name for run in settings[0].runs])
    confidence, right = mine.probability.max(-1).ravel(), (mine.preds == mine.target).ravel()
    rows = [row for row in picture.table.rows if row[0].text == "no AMR"]
    assert sum(row[4].value for row in rows) == confidence.size
    for row in rows:
        low = np.floor(row[1].value * 15) / 15
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        assert row[4].value == inside.sum()
        assert row[2].value == pytest.approx(right[inside].mean())
    whole = sum(row[4].value * abs(row[1].value - row[2].value) for row in rows) / confidence.size
    assert 0 < whole < 1  # of all seeds together; the caption has the mean over seeds
    assert "no AMR 0." in picture.caption


def test_accuracy_and_average_precision_of_classes_agree_with_scikit_learn(evaluated):
    results, settings = evaluated
    picture = recognized(results, settings)
    assert [*picture.plots] == ["accuracy", "average precision (AP)"]
    mine = results.decisions.of([run.name for run in settings[0].runs])
    rows = {(row[0].text, row[1].text): [cell.value for cell in row[2:]] for row in picture.table.rows}
    for c, name in enumerate(results.classes):
        of_class = mine.target == c
        precision = [average_precision_score(of_class, p[:, c].astype(float)) for p in mine.probability]
        expected = [of_class.sum(), (mine.preds[:, of_class] == c).mean(), np.mean(precision)]
        assert rows["no AMR", name] == pytest.approx(expected)


def test_without_probabilities_there_is_accuracy_only(evaluated):
    results, settings = evaluated
    bare = replace(results.decisions, probability=None, confidence=None)
    results.__dict__["decisions"] = bare  # where cached_property keeps it
    assert reliability(results, settings) is None
    picture = recognized(results, settings)
    assert picture.choice == ""
    assert picture.title == "Accuracy, class by class"
    assert "precision" not in picture.caption
    assert "average precision (AP)" not in picture.table.columns
