import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.data.splits import split_rows


def table(num_clips, split=None, groups=None, **columns):
    return pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(num_clips)],
            "split": [""] * num_clips if split is None else split,
            "group": [""] * num_clips if groups is None else groups,
            **columns,
        }
    )


def parts_of(clips, target, usable=None, **options):
    return split_rows(clips, target, np.ones(len(clips), bool) if usable is None else usable, **options)


@given(st.integers(3, 6), st.integers(8, 20), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_folds_test_every_clip_once_and_keep_groups_on_one_side(folds, num_groups, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, num_groups, 150)
    target = rng.integers(0, 3, 150)
    clips = table(150, groups=[f"g{g}" for g in groups])
    parts = parts_of(clips, target, folds=min(folds, len(set(groups))), seed=seed)
    assert sorted(np.concatenate([p.test for p in parts])) == list(range(150))
    for k, p in enumerate(parts):
        assert np.array_equal(p.val, parts[(k + 1) % len(parts)].test)
        assert sorted(np.concatenate([p.train, p.val, p.test])) == list(range(150))
        assert not set(groups[p.train]) & set(groups[p.test])
        assert not set(groups[p.train]) & set(groups[p.val])


def test_the_policy_names_a_column():
    clips = table(6, ["train", "train", "val", "val", "test", "test"], split_other=["test", "val", "train"] * 2)
    target = np.arange(6) % 2
    assert parts_of(clips, target)[0].test.tolist() == [4, 5]
    assert parts_of(clips, target, policy="other")[0].test.tolist() == [0, 3]
    with pytest.raises(ValueError, match="Did you mean other"):
        parts_of(clips, target, policy="othr")


def test_a_val_part_is_carved_out_of_train_by_group_and_test_is_not_touched():
    groups = [f"g{i // 5}" for i in range(100)]
    clips = table(100, ["train"] * 80 + ["test"] * 20, groups)
    (parts,) = parts_of(clips, np.arange(100) % 4)
    assert parts.test.tolist() == list(range(80, 100))
    assert 5 <= len(parts.val) <= 20
    assert not {groups[i] for i in parts.val} & {groups[i] for i in parts.train}
    assert "carved out by group" in parts.notes[0]
    (again,) = parts_of(clips, np.arange(100) % 4)
    assert np.array_equal(parts.val, again.val)


def test_clips_without_any_split_get_all_three_parts():
    (parts,) = parts_of(table(70), np.arange(70) % 2)
    assert min(len(parts.train), len(parts.val), len(parts.test)) >= 7
    assert "no split" in parts.notes[0]


def test_flagged_clips_leave_train_only():
    clips = table(6, ["train", "train", "train", "val", "test", "test"], flag=["bad", "", "", "bad", "bad", ""])
    target = np.arange(6) % 2
    (parts,) = parts_of(clips, target)
    assert parts.train.tolist() == [1, 2]
    assert parts.val.tolist() == [3]
    assert parts.test.tolist() == [4, 5]
    assert "left out of train: 1 (2 stay" in parts.notes[0]
    assert parts_of(clips, target, keep_flagged=True)[0].train.tolist() == [0, 1, 2]


def test_one_group_leaves_no_val_and_no_training_clip_is_an_error():
    (parts,) = parts_of(table(5, ["train"] * 5, ["g"] * 5), np.arange(5) % 2)
    assert len(parts.val) == 0
    with pytest.raises(ValueError, match="train part"):
        parts_of(table(4, ["test"] * 4), np.arange(4) % 2)


def test_more_folds_than_groups_are_refused():
    with pytest.raises(ValueError, match="no more than the 2 groups"):
        parts_of(table(10, groups=["a", "b"] * 5), np.arange(10) % 2, folds=5)


def test_a_class_of_one_clip_does_not_stop_the_folds():
    target = np.array([0] * 20 + [1] * 20 + [2])
    assert len(parts_of(table(41), target, folds=5)) == 5


def test_many_clips_without_groups_are_divided_as_evenly():
    """VGGSound has 180,000 clips, 309 classes, no groups and no val part."""
    num_clips, num_classes = 180_000, 309
    target = np.random.default_rng(0).integers(0, num_classes, num_clips)
    (parts,) = parts_of(table(num_clips, split=["train"] * num_clips), target)
    assert sorted([*parts.train, *parts.val]) == list(range(num_clips))
    counts = np.bincount(target[parts.val], minlength=num_classes)
    assert np.abs(counts - np.bincount(target) / 7).max() <= 1
