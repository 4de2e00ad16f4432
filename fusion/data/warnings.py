"""What a user should know about the data before believing a result: one sentence per kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amr.fusion.data.dataset import Dataset
from amr.fusion.data.splits import SplitRows, group_codes

FEWEST_TEST_CLIPS = 30  # below, one clip is more than 3 points of accuracy
FEWEST_VAL_CLIPS = 10
MAX_NAMES = 3


def data_warnings(dataset: Dataset, all_splits: Sequence[SplitRows]) -> list[str]:
    """Sentences about splits that are too small, divided groups, and classes that cannot be learned or tested.

    Args:
        dataset: Clips, labels and classes.
        all_splits: Splits of each fold, or a single entry.
    """
    found = [
        _divided_groups(dataset, all_splits),
        _classes_without_train_clips(dataset, all_splits),
        _classes_of_one_clip(dataset),
        _small_split("test", all_splits),
        _small_split("val", all_splits),
    ]
    return [text for text in found if text is not None]


def _divided_groups(dataset: Dataset, all_splits: Sequence[SplitRows]) -> str | None:
    groups = group_codes(dataset.clips)
    held_out = [np.concatenate([splits.val, splits.test]) for splits in all_splits]
    divided = max(
        (np.intersect1d(groups[s.train], groups[rows]) for s, rows in zip(all_splits, held_out, strict=True)), key=len
    )
    if len(divided) == 0:
        return None
    names = _names([str(dataset.clips["group"].iloc[int(np.argmax(groups == group))]) for group in divided])
    return (
        f"{_count(len(divided), 'group')} ({names}) in train and in val or test: results are too good. "
        "--folds 5 keeps groups together; or correct the column split"
    )


def _classes_without_train_clips(dataset: Dataset, all_splits: Sequence[SplitRows]) -> str | None:
    target = dataset.target.numpy()
    worst: list[str] = []
    num_clips = 0
    for splits in all_splits:
        held_out = target[np.concatenate([splits.val, splits.test])]
        missing = np.setdiff1d(held_out, target[splits.train])
        if len(missing) > len(worst):
            worst, num_clips = [dataset.classes[code] for code in missing], int(np.isin(held_out, missing).sum())
    if not worst:
        return None
    fold = " in a fold" if len(all_splits) > 1 else ""
    return (
        f"{_count(len(worst), 'class', 'classes')} ({_names(worst)}) without a train clip{fold}: "
        f"{_count(num_clips, 'val or test clip')} can only be wrong. Add clips, or remove the class"
    )


def _classes_of_one_clip(dataset: Dataset) -> str | None:
    counts = np.bincount(dataset.target.numpy()[dataset.usable], minlength=len(dataset.classes))
    single = np.flatnonzero(counts == 1)
    if len(single) == 0:
        return None
    names = _names([dataset.classes[code] for code in single])
    return f"{len(single)} of {len(counts)} classes ({names}) have a single clip, which cannot be in train and in test"


def _small_split(name: str, all_splits: Sequence[SplitRows]) -> str | None:
    smallest = min(len(getattr(splits, name)) for splits in all_splits)
    fewest = FEWEST_TEST_CLIPS if name == "test" else FEWEST_VAL_CLIPS
    if not 0 < smallest < fewest:
        return None
    is_test = name == "test"
    consequence = f"one clip changes accuracy by {1 / smallest:.2f}" if is_test else "it hardly tells epochs apart"
    advice = "Pass --folds 5 to test on every clip" if len(all_splits) == 1 else "Pass fewer --folds, or more clips"
    return f"the {name} split has {_count(smallest, 'clip')}: {consequence}. {advice}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown}, ..." if len(names) > MAX_NAMES else shown
