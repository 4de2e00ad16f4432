"""Targets: classes, labels and numbers from the columns of a table of clips."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from amr.fusion.data.targets import TargetScale, read_targets, strata

CLIPS = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d", "e"],
        "tags": ["dog; cat", "", "absent", " cat ;;", "cat"],
        "happy": ["1", "0", "1.0", "", "0"],
        "sad": ["0", "1", "1", "1", "absent"],
        "score": ["-1.5", "2", "", "0", "1e-1"],
        "same": ["1"] * 5,
        "text": ["x", "1", "2", "3", "4"],
    }
)


def test_labels_of_a_cell_are_separated():
    found = read_targets(CLIPS, "tags", "multilabel", ";")
    assert found.classes == ("cat", "dog")
    np.testing.assert_array_equal(found.values, [[1, 1], [0, 0], [np.nan] * 2, [1, 0], [1, 0]])


def test_columns_of_0_and_1_are_labels_in_their_order():
    found = read_targets(CLIPS, "sad, happy", "multilabel")
    assert found.classes == ("sad", "happy")
    np.testing.assert_array_equal(found.values, [[0, 1], [1, 0], [1, 1], [np.nan] * 2, [np.nan] * 2])


def test_true_and_false_are_1_and_0():
    clips = CLIPS.assign(happy=["True", "FALSE", " true", "", "0"])
    found = read_targets(clips, "happy,sad", "multilabel").values
    np.testing.assert_array_equal(found[:3], [[1, 0], [0, 1], [1, 1]])


def test_numbers_are_read_and_empty_cells_left_out():
    found = read_targets(CLIPS, "score", "regression")
    assert found.classes == ("score",)
    np.testing.assert_allclose(found.values, np.array([-1.5, 2, np.nan, 0, 0.1], np.float32))


@pytest.mark.parametrize(
    ("label", "task", "separator", "message"),
    [
        ("happy", "multilabel", None, "must have --label-separator, or several columns of 0 and 1"),
        ("happy,happy", "multilabel", None, "each column once"),
        (
            "happy,score",
            "multilabel",
            None,
            "score must be 0 or 1, or true or false, for --task multilabel, got '-1.5' for clip 'a'",
        ),
        ("happy,sda", "multilabel", None, "Did you mean sad"),
        ("tags", "multilabel", "|", "at least two labels"),
        ("same", "multilabel", ";", "at least two labels"),
        ("text", "regression", None, "column of numbers for --task regression, got 'x' in 'text' for clip 'a'"),
        ("same", "regression", None, "two different numbers"),
        ("scroe", "regression", None, "Did you mean score"),
        ("id", "regression", None, "--label must be one of"),
    ],
)
def test_columns_that_hold_no_such_targets_are_refused(label, task, separator, message):
    if (label, separator) == ("tags", "|"):
        clips = CLIPS.assign(tags=["cat"] * 5)
    else:
        clips = CLIPS
    with pytest.raises(ValueError, match=message):
        read_targets(clips, label, task, separator)


def test_splits_are_stratified_by_the_set_of_labels():
    values = read_targets(CLIPS, "tags", "multilabel", ";").values
    codes = strata("multilabel", values)
    assert codes[3] == codes[4]
    assert len(set(codes.tolist())) == 4
    assert strata("regression", values[:, 0]).tolist() == [0] * 5


def test_the_scale_of_numbers_is_that_of_the_train_clips():
    train = torch.tensor([1.0, 2.0, 6.0])
    scale = TargetScale.of(train)
    assert (scale.mean, scale.std) == (3, pytest.approx(float(train.std(correction=0))))
    assert scale.apply(train).mean().item() == pytest.approx(0)
    torch.testing.assert_close(scale.undo(scale.apply(train)), train)
    assert TargetScale.of(torch.tensor([2.0, 2.0])) == TargetScale(2.0, 1.0)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_list_of_columns_is_for_labels(task):
    clips = pd.DataFrame({"id": ["a", "b"], "x": ["0", "1"], "y": ["1", "0"]})
    with pytest.raises(ValueError, match=rf"one column for --task {task}, got 'x,y'\. Pass --task multilabel"):
        read_targets(clips, "x,y", task)
