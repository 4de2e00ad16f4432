"""Divide clips into splits: train, val to choose the epoch, and test."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from amr.common.registry import unknown

MIN_FOLDS = 3  # one each for train, val and test
MANY_CLIPS = 20_000  # StratifiedGroupKFold assigns one group at a time: minutes if each clip is a group
SPLIT_OFF_FOLDS = 7  # a seventh of the clips, within two points of the val split of CREMA-D


@dataclass(frozen=True)
class SplitRows:
    """Row numbers of the clips of each split, ascending, and notes on what was decided, as sentences."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...] = field(default=())


def split_rows(
    clips: pd.DataFrame,
    target: np.ndarray,
    usable: np.ndarray,
    *,
    policy: str = "default",
    folds: int = 0,
    seed: int = 0,
    keep_flagged: bool = False,
    has_folds: bool = True,
) -> list[SplitRows]:
    """Divide clips by a split policy, or into folds; one entry per fold.

    Args:
        clips: Clip table of the cache, with columns id, group, split or split_<policy>, and optionally flag.
        target: Class of each clip, `(clips,)`; below 0 without a label.
        usable: Mask of the clips with a label and at least one of the modalities, bool `(clips,)`.
        policy: Split policy: `default` is the column `split`, NAME the column `split_NAME`.
        folds: Number K of folds: fold k is test, fold k + 1 mod K val, the rest train; 0 for no cross-validation.
        seed: Seed of split-off clips and of folds.
        keep_flagged: Whether to train on flagged clips. Val and test always keep them.
        has_folds: Whether the command has --folds, for the advice of errors.

    Raises:
        ValueError: The policy is unknown, clips or groups are too few, or no clip is left for training.
    """
    groups = group_codes(clips)
    flagged = clips["flag"].ne("").to_numpy() if "flag" in clips else np.zeros(len(clips), bool)
    rows = np.flatnonzero(usable)
    column = _policy_column(clips, policy)
    if folds > 0:
        all_splits = _fold_rows(rows, target, groups, folds, seed)
        if policy != "default":
            note = f"--folds divides all clips: --split-policy {policy} has no effect"
            all_splits = [replace(splits, notes=(note,)) for splits in all_splits]
    else:
        all_splits = [_policy_rows(clips, rows, target, groups, column, seed)]
    return [_checked(splits, flagged, keep_flagged, has_folds) for splits in all_splits]


def _policy_column(clips: pd.DataFrame, policy: str) -> str:
    policies = {"default": "split"} | {c.removeprefix("split_"): c for c in map(str, clips) if c.startswith("split_")}
    if policy not in policies:
        raise unknown("--split-policy", policy, policies)
    return policies[policy]


def group_codes(clips: pd.DataFrame) -> np.ndarray:
    """Group code of each clip, `(clips,)`; a clip without a group gets a code of its own."""
    names = clips["group"].where(clips["group"].ne(""), "\0" + clips["id"])
    return pd.factorize(names)[0]


def _fold_rows(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[SplitRows]:
    num_groups = len(np.unique(groups[rows]))
    if folds > num_groups:
        advice = f"Pass --folds {num_groups}" if num_groups >= MIN_FOLDS else "Add clips"
        raise ValueError(
            f"--folds must be no more than the number of groups (clips without a group count as one each), "
            f"{num_groups}, got {folds}. {advice}."
        )
    test = [rows[held] for held in _held_out(rows, target, groups, folds, seed)]
    all_splits = []
    for k in range(folds):
        val = test[(k + 1) % folds]
        train = np.setdiff1d(rows, np.concatenate([test[k], val]))
        all_splits.append(SplitRows(train, val, test[k]))
    return all_splits


def _policy_rows(
    clips: pd.DataFrame, rows: np.ndarray, target: np.ndarray, groups: np.ndarray, column: str, seed: int
) -> SplitRows:
    split = clips[column].to_numpy()[rows]
    train, val, test = (rows[split == name] for name in ("train", "val", "test"))
    notes = []
    if len(train) + len(val) + len(test) == 0:
        train = rows
        train, test = _split_off(train, target, groups, seed)
        notes.append(f"the clips have no split: {len(test)} of {len(rows)} split off as test")
    if len(val) == 0:
        num_train = len(train)
        train, val = _split_off(train, target, groups, seed + 1)
        by = "by group " if len(np.unique(groups[rows])) < len(rows) else ""
        notes.append(f"no val split: {len(val)} of the {num_train} train clips split off {by}to choose the epoch")
    return SplitRows(train, val, test, tuple(notes))


def _split_off(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off whole groups, stratified: the remaining rows, and those split off (none if only one group)."""
    folds = min(SPLIT_OFF_FOLDS, len(np.unique(groups[rows])))
    if folds < 2:
        return rows, rows[:0]
    held = _held_out(rows, target, groups, folds, seed)[0]
    return np.delete(rows, held), rows[held]


def _held_out(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow, and most caches have splits

    # StratifiedGroupKFold refuses more folds than the largest class has clips: do not stratify then
    largest = np.bincount(target[rows]).max()
    strata = target[rows] if folds <= largest else np.zeros(len(rows), int)
    one_clip_each = len(rows) > MANY_CLIPS and len(np.unique(groups[rows])) == len(rows)
    kind = StratifiedKFold if one_clip_each else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # rare classes are expected here
        return [held for _, held in splitter.split(rows, strata, groups[rows])]


def _checked(splits: SplitRows, flagged: np.ndarray, keep_flagged: bool, has_folds: bool) -> SplitRows:
    train, notes = splits.train, list(splits.notes)
    num_flagged = int(flagged[train].sum())
    if num_flagged and not keep_flagged:
        train = train[~flagged[train]]
        notes.append(
            f"flagged clips left out of train: {num_flagged} ({len(train)} remain, {len(train) + num_flagged} with "
            "--keep-flagged)"
        )
    if len(train) == 0:
        elsewhere = f"{len(splits.val)} in val, {len(splits.test)} in test"
        raise ValueError(
            f"the train split must have a clip with a label and media, got none ({elsewhere}). "
            f"Pass {'--folds 5, or ' * has_folds}another --split-policy."
        )
    return SplitRows(train, splits.val, splits.test, tuple(notes))
