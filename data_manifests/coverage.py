"""Counts of the clips of a manifest whose media were found, per modality, split and class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.data_manifests.manifest import Manifest
from amr.data_manifests.schema import TEXT, divided_groups, split_columns

# Most names of clips or files in a note; the rest are counted.
MAX_NAMED = 20


@dataclass(frozen=True)
class Counts:
    """Numbers of clips of a split or a class.

    Args:
        clips: Clips in the list.
        unflagged: Clips without an entry in the column `flag`.
        found: Clips with a file of at least one modality.
        usable: Clips that are found and not flagged.
    """

    clips: int
    unflagged: int
    found: int
    usable: int


@dataclass(frozen=True)
class ManifestReport:
    """The clips of a dataset and which of their media were found.

    Args:
        dataset: Name of the dataset.
        root: Folder in which the media were searched.
        clips: Number of clips in the list.
        found: Modality -> number of clips with a file for it. A file that both modalities use counts for both;
            whether it holds both streams shows when it is decoded.
        missing: Modality -> ids of the clips without a file, in the manifest's order.
        flagged: Id -> flag, for the clips left out of training by default.
        splits: Column (`split`, `split_<policy>`) -> split ("" for none) -> counts.
        classes: Label -> counts, sorted by label; classes of the dataset without clips have zeros.
        notes: Messages for the user.
    """

    dataset: str
    root: Path
    clips: int
    found: dict[str, int]
    missing: dict[str, list[str]]
    flagged: dict[str, str]
    splits: dict[str, dict[str, Counts]]
    classes: dict[str, Counts]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Report as JSON types, with the field names as keys."""
        return {**asdict(self), "root": str(self.root), "notes": list(self.notes)}

    def to_text(self) -> str:
        """Report as text: a few lines and two small tables."""
        lines = [f"{self.dataset}: {self.clips} clips listed, media in {self.root}"]
        nowhere = set.intersection(*(set(ids) for ids in self.missing.values()))
        for modality, num_found in self.found.items():
            lacking = [clip for clip in self.missing[modality] if clip not in nowhere]
            lines.append(
                f"  {modality}: {num_found} found, {len(self.missing[modality])} missing"
                + (f"; found without it: {named(lacking)}" if lacking else "")
            )
        lines += [f"  flagged {clip}: {flag}" for clip, flag in self.flagged.items()]
        rows = [
            (f"{column}={split or '(none)'}", counts)
            for column, splits in self.splits.items()
            for split, counts in splits.items()
        ]
        lines += _table("split", rows)
        shown = {c: counts for c, counts in self.classes.items() if counts.found or len(self.classes) <= MAX_NAMED}
        lines += _table("class", [(label or "(none)", counts) for label, counts in shown.items()])
        if len(shown) < len(self.classes):
            lines.append(f"  {len(self.classes) - len(shown)} more classes have no clip here (all with --json)")
        return "\n".join([*lines, *self.notes])


def report_on(
    manifest: Manifest,
    *,
    modalities: Sequence[str] = (),
    classes: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ManifestReport:
    """Look for the files of a manifest and count them.

    Args:
        manifest: Manifest; flags are read from its column `flag`, if any.
        modalities: Modalities to look for; by default those with their own column, else audio and video; and text, if
            the manifest has any.
        classes: Classes to count even if they have no clip.
        notes: Messages for the user, copied to the report.
    """
    table = manifest.table
    modalities = list(modalities) or _modalities(manifest)
    present = manifest.existing(modalities)
    flags = table["flag"].to_numpy(str) if "flag" in table.columns else np.full(len(table), "")
    found = np.logical_or.reduce(list(present.values()))
    ids = np.array(manifest.ids)

    def counts(mask: np.ndarray) -> Counts:
        unflagged = mask & (flags == "")
        return Counts(*(int(rows.sum()) for rows in (mask, unflagged, mask & found, unflagged & found)))

    def counts_by(column: str, names: Sequence[str]) -> dict[str, Counts]:
        values = table[column].to_numpy(str)
        return {name: counts(values == name) for name in names}

    splits = {
        column: counts_by(column, [name for name in ("train", "val", "test", "") if (table[column] == name).any()])
        for column in split_columns(list(table.columns))
    }
    return ManifestReport(
        dataset=manifest.dataset,
        root=manifest.root,
        clips=len(manifest),
        found={name: int(mask.sum()) for name, mask in present.items()},
        missing={name: [str(clip) for clip in ids[~mask]] for name, mask in present.items()},
        flagged={str(ids[row]): str(flags[row]) for row in np.flatnonzero(flags != "")},
        splits=splits,
        classes=counts_by("label", sorted({*classes, *table["label"]})),
        notes=(*notes, *manifest.notes, *(note for note in divided_groups(table) if note not in manifest.notes)),
    )


def with_coverage(report: ManifestReport, sentence: str) -> ManifestReport:
    """Report with a note on how much of each split was found, and a sentence that explains it."""
    coverage = [
        f"{split}: {counts.found} of {counts.clips} clips found ({counts.found / counts.clips:.1%})"
        for split, counts in report.splits["split"].items()
        if split
    ]
    return replace(report, notes=(*report.notes, f"{'; '.join(coverage)}. {sentence}"))


def _modalities(manifest: Manifest) -> list[str]:
    """Modalities that a manifest names."""
    without_path = "path" not in manifest.table.columns
    found = manifest.modalities or ([] if without_path else ["audio", "video"])
    return found if TEXT in found or not manifest.lists(TEXT) else [*found, TEXT]


def named(names: Sequence[str]) -> str:
    """First names of a list and the number of the others: "a, b and 3 more"."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _table(head: str, rows: Sequence[tuple[str, Counts]]) -> list[str]:
    """Lines of a table, one row per name."""
    width = max([len(head), *(len(name) for name, _ in rows)])
    lines = [f"  {head:<{width}}  {'clips':>7} {'unflagged':>9} {'found':>7} {'usable':>7}"]
    for name, counts in rows:
        lines.append(f"  {name:<{width}}  {counts.clips:>7} {counts.unflagged:>9} {counts.found:>7} {counts.usable:>7}")
    return lines
