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


def divide(clips, target, usable=None, **options):
    return split_rows(clips, target, np.ones(len(clips), bool) if usable is None else usable, **options)


@given(st.integers(3, 6), st.integers(8, 20), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_folds_test_every_clip_once_and_keep_groups_on_one_side(folds, num_groups, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, num_groups, 150)
    target = rng.integers(0, 3, 150)
    clips = table(150, groups=[f"g{g}" for g in groups])
    splits = divide(clips, target, folds=min(folds, len(set(groups))), seed=seed)
    assert sorted(np.concatenate([p.test for p in splits])) == list(range(150))
    for k, p in enumerate(splits):
        assert np.array_equal(p.val, splits[(k + 1) % len(splits)].test)
        assert sorted(np.concatenate([p.train, p.val, p.test])) == list(range(150))
        assert not set(groups[p.train]) & set(groups[p.test])
        assert not set(groups[p.train]) & set(groups[p.val])


def test_the_policy_names_a_column():
    clips = table(6, ["train", "train", "val", "val", "test", "test"], split_other=["test", "val", "train"] * 2)
    target = np.arange(6) % 2
    assert divide(clips, target)[0].test.tolist() == [4, 5]
    assert divide(clips, target, policy="other")[0].test.tolist() == [0, 3]
    with pytest.raises(ValueError, match="Did you mean other"):
        divide(clips, target, policy="othr")


def test_a_val_split_is_split_off_from_train_by_group_and_test_is_not_touched():
    groups = [f"g{i // 5}" for i in range(100)]
    clips = table(100, ["train"] * 80 + ["test"] * 20, groups)
    (splits,) = divide(clips, np.arange(100) % 4)
    assert splits.test.tolist() == list(range(80, 100))
    assert 5 <= len(splits.val) <= 20
    assert not {groups[i] for i in splits.val} & {groups[i] for i in splits.train}
    assert "split off by group" in splits.notes[0]
    (again,) = divide(clips, np.arange(100) % 4)
    assert np.array_equal(splits.val, again.val)


def test_clips_without_any_split_get_all_three_splits():
    (splits,) = divide(table(70), np.arange(70) % 2)
    assert min(len(splits.train), len(splits.val), len(splits.test)) >= 7
    assert "no split" in splits.notes[0]


def test_flagged_clips_leave_train_only():
    clips = table(6, ["train", "train", "train", "val", "test", "test"], flag=["bad", "", "", "bad", "bad", ""])
    target = np.arange(6) % 2
    (splits,) = divide(clips, target)
    assert splits.train.tolist() == [1, 2]
    assert splits.val.tolist() == [3]
    assert splits.test.tolist() == [4, 5]
    assert "left out of train: 1 (2 remain" in splits.notes[0]
    assert divide(clips, target, keep_flagged=True)[0].train.tolist() == [0, 1, 2]


def test_one_group_leaves_no_val_and_no_training_clip_is_an_error():
    (splits,) = divide(table(5, ["train"] * 5, ["g"] * 5), np.arange(5) % 2)
    assert len(splits.val) == 0
    with pytest.raises(ValueError, match="train split"):
        divide(table(4, ["test"] * 4), np.arange(4) % 2)


def test_more_folds_than_groups_are_refused():
    for groups, advice in (
        (["a", "b"] * 5, "2, got 5. Add clips"),
        (["a", "b", "c", "d", "a"] * 2, "4, got 5. Pass --folds 4"),
    ):
        with pytest.raises(ValueError, match=f"no more than the number of groups .*, {advice}"):
            divide(table(10, groups=groups), np.arange(10) % 2, folds=5)


def test_a_class_of_one_clip_does_not_stop_the_folds():
    target = np.array([0] * 20 + [1] * 20 + [2])
    assert len(divide(table(41), target, folds=5)) == 5


def test_many_clips_without_groups_are_divided_as_evenly():
    """VGGSound has 180,000 clips, 309 classes, no groups and no val split."""
    num_clips, num_classes = 180_000, 309
    target = np.random.default_rng(0).integers(0, num_classes, num_clips)
    (splits,) = divide(table(num_clips, split=["train"] * num_clips), target)
    assert sorted([*splits.train, *splits.val]) == list(range(num_clips))
    counts = np.bincount(target[splits.val], minlength=num_classes)
    assert np.abs(counts - np.bincount(target) / 7).max() <= 1
