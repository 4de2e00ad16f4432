"""Warnings about data that make a result doubtful: one sentence per kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from amr.data_manifests.schema import undivided_policy
from amr.fusion.choices import SCORES
from amr.fusion.data.splits import SplitRows, group_codes

FEWEST_TEST_CLIPS = 30  # below, one clip is more than 3 points of accuracy
FEWEST_VAL_CLIPS = 10
FOLDS = 5  # of the cross-validation that is advised
MAX_NAMES = 3


@dataclass(frozen=True)
class SplitData:
    """Clips with their classes and splits.

    Args:
        clips: Table of the clips, with columns id and group.
        target: Class indices, `(clips,)`, -1 without a label; None for tasks without one class per clip.
        classes: Names of the classes.
        all_splits: Splits of each fold, or a single entry.
        has_folds: Whether the command has --folds.
        task: Task of the clips.
    """

    clips: pd.DataFrame
    target: np.ndarray | None
    classes: Sequence[str]
    all_splits: Sequence[SplitRows]
    has_folds: bool = True
    task: str = "multiclass"

    def warnings(self) -> list[str]:
        """Sentences about splits that are too small, divided groups, and classes that cannot be learned or tested."""
        of_classes = [] if self.target is None else self._of_classes(self.target)
        found = [
            self._divided_groups(),
            *of_classes,
            self._small_split("test", FEWEST_TEST_CLIPS),
            self._small_split("val", FEWEST_VAL_CLIPS),
        ]
        return [text for text in found if text is not None]

    def _of_classes(self, target: np.ndarray) -> list[str | None]:
        return [
            self._single_class(target),
            self._classes_without_train_clips(target),
            self._classes_of_one_clip(target),
            self._numbers_as_classes(),
            self._lists_as_classes(),
        ]

    @cached_property
    def _groups(self) -> np.ndarray:
        return group_codes(self.clips)

    def _divided_groups(self) -> str | None:
        divided = max((self._train_clips_of_divided_groups(splits) for splits in self.all_splits), key=len)
        if len(divided) == 0:
            return None
        names = _names(self.clips["group"].iloc[divided].astype(str).tolist())
        policy = undivided_policy(self.clips)
        ways = [f"--split-policy {policy}"] * (policy is not None) + ["--folds 5"] * self._can_fold
        keep = "keep" if len(ways) > 1 else "keeps"
        advice = f"{' or '.join(ways)} {keep} groups together; or correct" if ways else "Correct"
        return (
            f"{_count(len(divided), 'group')} ({names}) in train and in val or test: results are too good. "
            f"{advice} the column split"
        )

    def _train_clips_of_divided_groups(self, splits: SplitRows) -> np.ndarray:
        """Row of one train clip of each group that val or test has, too, in the order of the groups."""
        of_train, of_others = self._groups[splits.train], self._groups[_held_out(splits)]
        _, first, _ = np.intersect1d(of_train, of_others, return_indices=True)
        return splits.train[first]

    def _single_class(self, target: np.ndarray) -> str | None:
        codes = min((np.unique(target[splits.train]) for splits in self.all_splits), key=len).tolist()
        if len(codes) > 1:
            return None
        return f"all train clips have the class {self.classes[codes[0]]}: every prediction is that. Add clips"

    def _classes_without_train_clips(self, target: np.ndarray) -> str | None:
        worst: list[str] = []
        num_clips = 0
        for splits in self.all_splits:
            held_out = target[_held_out(splits)]
            missing = np.setdiff1d(held_out, target[splits.train]).tolist()
            if len(missing) > len(worst):
                worst, num_clips = [self.classes[code] for code in missing], int(np.isin(held_out, missing).sum())
        if not worst:
            return None
        fold = " in a fold" if len(self.all_splits) > 1 else ""
        return (
            f"{_count(len(worst), 'class', 'classes')} ({_names(worst)}) without a train clip{fold}: "
            f"{_count(num_clips, 'val or test clip')} can only be wrong. Add clips, or remove the class"
        )

    def _classes_of_one_clip(self, target: np.ndarray) -> str | None:
        first = self.all_splits[0]
        rows = np.concatenate([first.train, _held_out(first)])
        single = np.flatnonzero(np.bincount(target[rows], minlength=len(self.classes)) == 1).tolist()
        if not single:
            return None
        names = _names([self.classes[code] for code in single])
        return (
            f"{len(single)} of {len(self.classes)} classes ({names}) have a single clip, which cannot be in train and "
            "in test"
        )

    def _numbers_as_classes(self) -> str | None:
        try:
            fractions = [name for name in self.classes if not float(name).is_integer()]
        except (ValueError, OverflowError):  # a word, or inf and nan
            return None
        if not fractions:
            return None
        return (
            f"{len(self.classes)} numbers such as {fractions[0]} are taken as classes. Pass --task regression to "
            "predict the number"
        )

    def _lists_as_classes(self) -> str | None:
        for separator in (";", "|"):
            lists = [name for name in self.classes if separator in name]
            if 2 * len(lists) > len(self.classes):
                return (
                    f"{len(lists)} of {len(self.classes)} classes look like lists of labels, such as {lists[0]!r}. "
                    f"Pass --label-separator {separator!r} to predict each label"
                )
        return None

    def _small_split(self, name: str, fewest: int) -> str | None:
        smallest = min(len(getattr(splits, name)) for splits in self.all_splits)
        if name == "val" and smallest == 0:
            return "there is no val clip: the last epoch is kept. Add clips"
        if not 0 < smallest < fewest:
            return None
        is_test = name == "test"
        consequence = self._of_test_clips(smallest) if is_test else "it hardly tells epochs apart"
        if len(self.all_splits) > 1:
            advice = "Pass fewer --folds, or add clips"
        else:
            advice = f"Pass --folds {FOLDS} to test on every clip" if self._can_fold else "Add clips"
        return f"the {name} split has {_count(smallest, 'clip')}: {consequence}. {advice}"

    def _of_test_clips(self, number: int) -> str:
        """What so few test clips mean for the score of the task."""
        if self.task == "multiclass":
            return f"one clip changes accuracy by {1 / number:.2f}"
        return f"the {SCORES[self.task].words} of so few clips is uncertain"

    @property
    def _can_fold(self) -> bool:
        """Whether the clips are enough for `FOLDS` folds."""
        rows = np.concatenate([self.all_splits[0].train, _held_out(self.all_splits[0])])
        return self.has_folds and len(np.unique(self._groups[rows])) >= FOLDS


def _held_out(splits: SplitRows) -> np.ndarray:
    return np.concatenate([splits.val, splits.test])


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown}, ..." if len(names) > MAX_NAMES else shown
