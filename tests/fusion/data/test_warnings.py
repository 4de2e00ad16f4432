"""Sentences about data that make a result doubtful."""

import itertools
import sys

import numpy as np
import pandas as pd
import torch

from amr.fusion.config import FitConfig
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.splits import SplitRows
from amr.fusion.data.warnings import SplitData
from amr.fusion.fit import fit
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


def data_warnings(data, all_splits, **options):
    return SplitData(data.clips, data.target.numpy(), data.classes, all_splits, **options).warnings()


def dataset(classes, groups=None):
    """A dataset whose clip i has class classes[i]."""
    names = tuple(sorted(set(classes)))
    clips = pd.DataFrame({"id": [f"c{i}" for i in range(len(classes))], "group": groups or [""] * len(classes)})
    target = torch.tensor([names.index(each) for each in classes])
    present = torch.ones(len(classes), 1, dtype=torch.bool)
    return Dataset(clips, {"audio": torch.zeros(len(classes), 2)}, present, target, names, {})


def splits(train, val, test):
    bounds = np.cumsum([0, train, val, test])
    return SplitRows(*(np.arange(a, b) for a, b in itertools.pairwise(bounds)))


def test_large_splits_of_whole_groups_are_not_worth_a_word():
    assert data_warnings(dataset(["a", "b"] * 40), [splits(40, 10, 30)]) == []


def test_a_class_without_a_train_clip_is_named_with_the_clips_that_it_spoils():
    (text,) = data_warnings(dataset(["a", "b"] * 20 + ["c"] * 2 + ["a", "b"] * 20), [splits(40, 10, 32)])
    assert text.startswith("1 class (c) without a train clip: 2 val or test clips can only be wrong")


def test_every_fold_is_looked_at():
    folds = [splits(40, 10, 32), SplitRows(np.arange(12, 82), np.arange(2), np.arange(2, 12))]
    found = data_warnings(dataset(["a", "b"] * 20 + ["c"] * 2 + ["a", "b"] * 20), folds)
    assert found[0].startswith("1 class (c) without a train clip in a fold")
    assert "the test split has 10 clips: one clip changes accuracy by 0.10. Pass fewer --folds" in found[1]
    assert found[2].startswith("the val split has 2 clips")


def test_groups_on_both_sides_are_counted():
    groups = [f"g{i % 5}" for i in range(80)]
    (text,) = data_warnings(dataset(["a", "b"] * 40, groups), [splits(40, 10, 30)])
    assert text.startswith("5 groups (g0, g1, g2, ...) in train and in val or test: results are too good. --folds 5")


def test_a_split_of_whole_groups_is_advised():
    data = dataset(["a", "b"] * 40, [f"g{i % 5}" for i in range(80)])
    data.clips["split"] = ["train"] * 40 + ["val"] * 10 + ["test"] * 30
    data.clips["split_person"] = ["train" if i % 5 < 3 else "test" for i in range(80)]
    (text,) = data_warnings(data, [splits(40, 10, 30)])
    ways = "--split-policy person or --folds 5 keep groups together"
    assert text.endswith(f"results are too good. {ways}; or correct the column split")
    (text,) = data_warnings(data, [splits(40, 10, 30)], has_folds=False)
    assert text.endswith("--split-policy person keeps groups together; or correct the column split")


def test_no_group_of_many_is_looked_for_on_its_own():
    """As many calls for 4 groups as for 400: each of them would look at all clips."""
    num_calls = []
    for num_groups in (4, 400):
        groups = [f"g{i % num_groups:03d}" for i in range(800)]
        data = dataset(["a", "b"] * 400, groups)
        calls = []
        sys.setprofile(lambda frame, event, argument, calls=calls: calls.append(event))
        try:
            found = data_warnings(data, [splits(400, 100, 300)])
        finally:
            sys.setprofile(None)
        assert found[0].startswith(f"{num_groups} groups (g000, g001, g002, ...) in train and in val or test")
        num_calls.append(len(calls))
    assert abs(num_calls[1] - num_calls[0]) < 400


def test_clips_without_a_group_are_groups_of_their_own():
    assert data_warnings(dataset(["a", "b"] * 40, [""] * 80), [splits(40, 10, 30)]) == []


def test_classes_of_a_single_clip_are_counted():
    found = data_warnings(dataset([f"c{i}" for i in range(80)]), [splits(40, 10, 30)])
    assert "80 of 80 classes (c0, c1, c10, ...) have a single clip" in found[1]


def test_numbers_that_are_not_whole_are_said_to_be_taken_as_classes():
    few = [splits(60, 20, 40)]
    (warning,) = data_warnings(dataset(["0.5", "1", "1.5"] * 40), few)
    assert warning == "3 numbers such as 0.5 are taken as classes. Pass --task regression to predict the number"
    assert data_warnings(dataset(["0", "1", "2"] * 40), few) == data_warnings(dataset(["0.5", "cat"] * 60), few) == []


def test_small_splits_say_what_one_clip_is_worth():
    assert data_warnings(dataset(["a", "b"] * 22), [splits(40, 2, 2)]) == [
        "the test split has 2 clips: one clip changes accuracy by 0.50. Pass --folds 5 to test on every clip",
        "the val split has 2 clips: it hardly tells epochs apart. Pass --folds 5 to test on every clip",
    ]


def test_advice_is_possible():
    (small,) = data_warnings(dataset(["a", "b"] * 22), [splits(24, 10, 10)], has_folds=False)
    assert small.endswith("one clip changes accuracy by 0.10. Add clips")
    groups = [f"g{i % 3}" for i in range(80)]  # too few for five folds
    (text,) = data_warnings(dataset(["a", "b"] * 40, groups), [splits(40, 10, 30)])
    assert text.endswith("results are too good. Correct the column split")


def test_a_single_class_and_a_missing_val_split_are_said():
    found = data_warnings(dataset(["a"] * 5 + ["b"]), [splits(5, 0, 1)])
    assert found[0] == "all train clips have the class a: every prediction is that. Add clips"
    assert found[-1] == "there is no val clip: the last epoch is kept. Add clips"


def test_a_fit_and_a_sweep_say_them_and_the_ratio_that_was_not_reached(small_cache):
    result = fit(FitConfig(cache=str(small_cache), epochs=1, device="cpu", amr_ratio="0:1"))
    document = result.to_json()
    assert document["target_share"] == {"audio": 0.0, "video": 1.0}
    small, missed = document["warnings"]
    assert small.startswith("the test split has 20 clips")
    assert missed.startswith("the ratio audio=0:video=1 was not reached: shares 0.")
    assert result.record.warnings == (small,)
    swept = sweep(SweepConfig(FitConfig(cache=str(small_cache), epochs=1, device="cpu"), amr_ratio=["none", "0:1"]))
    assert swept.warnings[0] == small
    assert swept.warnings[1].startswith("1 of 1 runs with AMR did not reach their ratio, such as naive_concat_amr-0-1")


def test_a_ratio_that_is_reached_or_switched_off_is_not_mentioned(small_cache):
    for settings in ({"amr_ratio": "1:1", "epochs": 30}, {"amr_ratio": "0:1", "amr_weight": 0.0, "epochs": 1}):
        result = fit(FitConfig(cache=str(small_cache), device="cpu", **settings))
        assert [text for text in result.warnings if "not reached" in text] == []


def test_few_test_clips_are_said_in_words_of_the_task():
    few = dataset(["a", "b"] * 30)
    for task, score in (("multilabel", "mAP"), ("regression", "MAE")):
        (found,) = SplitData(few.clips, None, few.classes, [splits(40, 10, 10)], task=task).warnings()
        assert f"the test split has 10 clips: the {score} of so few clips is uncertain." in found
