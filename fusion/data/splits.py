"""Which clips train, which choose the epoch, which are tested once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from amr.common.registry import unknown

MANY_CLIPS = 20_000  # StratifiedGroupKFold places group after group: minutes where each clip is one
CARVE_FOLDS = 7  # a carved part is a seventh, the share of CREMA-D's own validation part within two points


@dataclass(frozen=True)
class SplitRows:
    """Row numbers of the clips of each part, ascending, and what had to be decided, in words."""

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
) -> list[SplitRows]:
    """The parts by a split policy, or the parts of each fold.

    Args:
        clips: the cache's clips: split or split_<policy>, group, flag where they have one.
        target: `(clips,)` class of each clip; below 0 where it has no label.
        usable: bool `(clips,)`: has a label and at least one of the modalities.
        policy: `default` is the column `split`; NAME is the column `split_NAME`.
        folds: 0, or K for cross-validation: fold k is test, k + 1 mod K val, the rest train.
        seed: of carved parts and folds.
        keep_flagged: train on flagged clips, too. They are never taken out of val and test.

    Raises:
        ValueError: no such policy, too few clips or groups, or nothing to train on.
    """
    groups = group_codes(clips)
    flagged = clips["flag"].ne("").to_numpy() if "flag" in clips else np.zeros(len(clips), bool)
    rows = np.flatnonzero(usable)
    column = _policy_column(clips, policy)
    if folds > 0:
        parts = _fold_rows(rows, target, groups, folds, seed)
        if policy != "default":
            note = f"--folds divides all clips: --split-policy {policy} has no say"
            parts = [replace(part, notes=(note,)) for part in parts]
    else:
        parts = [_policy_parts(clips, rows, target, groups, column, seed)]
    return [_checked(part, flagged, keep_flagged) for part in parts]


def _policy_column(clips: pd.DataFrame, policy: str) -> str:
    policies = {"default": "split"} | {c.removeprefix("split_"): c for c in map(str, clips) if c.startswith("split_")}
    if policy not in policies:
        raise unknown("--split-policy", policy, policies)
    return policies[policy]


def group_codes(clips: pd.DataFrame) -> np.ndarray:
    """One code a clip; a clip without a group is a group of its own."""
    names = clips["group"].where(clips["group"].ne(""), "\0" + clips["id"])
    return pd.factorize(names)[0]


def _fold_rows(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[SplitRows]:
    num_groups = len(np.unique(groups[rows]))
    if folds > num_groups:
        raise ValueError(f"--folds must be no more than the {num_groups} groups of clips, got {folds}.")
    test = [rows[held] for held in _held_out(rows, target, groups, folds, seed)]
    parts = []
    for k in range(folds):
        val = test[(k + 1) % folds]
        train = np.setdiff1d(rows, np.concatenate([test[k], val]))
        parts.append(SplitRows(train, val, test[k]))
    return parts


def _policy_parts(
    clips: pd.DataFrame, rows: np.ndarray, target: np.ndarray, groups: np.ndarray, column: str, seed: int
) -> SplitRows:
    split = clips[column].to_numpy()[rows]
    train, val, test = (rows[split == part] for part in ("train", "val", "test"))
    notes = []
    if len(train) + len(val) + len(test) == 0:
        train = rows
        train, test = _carve(train, target, groups, seed)
        notes.append(f"the clips have no split: {len(test)} of {len(rows)} carved out as test")
    if len(val) == 0:
        whole = len(train)
        train, val = _carve(train, target, groups, seed + 1)
        by = "by group " if len(np.unique(groups[rows])) < len(rows) else ""
        notes.append(f"no val part: {len(val)} of the {whole} train clips carved out {by}to choose the epoch")
    return SplitRows(train, val, test, tuple(notes))


def _carve(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows without and rows of one stratified part of whole groups; the part is empty where it cannot be had."""
    folds = min(CARVE_FOLDS, len(np.unique(groups[rows])))
    if folds < 2:
        return rows, rows[:0]
    held = _held_out(rows, target, groups, folds, seed)[0]
    return np.delete(rows, held), rows[held]


def _held_out(rows: np.ndarray, target: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    # StratifiedGroupKFold refuses more folds than the largest class has clips; one class stratifies nothing
    largest = np.bincount(target[rows]).max()
    strata = target[rows] if folds <= largest else np.zeros(len(rows), int)
    each_its_own = len(rows) > MANY_CLIPS and len(np.unique(groups[rows])) == len(rows)
    kind = StratifiedKFold if each_its_own else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # rare classes are expected here
        return [held for _, held in splitter.split(rows, strata, groups[rows])]


def _checked(parts: SplitRows, flagged: np.ndarray, keep_flagged: bool) -> SplitRows:
    train, notes = parts.train, list(parts.notes)
    num_flagged = int(flagged[train].sum())
    if num_flagged and not keep_flagged:
        train = train[~flagged[train]]
        notes.append(
            f"flagged clips left out of train: {num_flagged} ({len(train)} stay, {len(train) + num_flagged} with "
            "--keep-flagged)"
        )
    if len(train) == 0:
        elsewhere = f"{len(parts.val)} in val, {len(parts.test)} in test"
        raise ValueError(
            f"the train part must have a clip with a label and media, got none ({elsewhere}). "
            "Pass --folds 5, or another --split-policy."
        )
    return SplitRows(train, parts.val, parts.test, tuple(notes))
