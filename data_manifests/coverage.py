"""What was found of a manifest's clips: counts a modality, a split and a class, and what people should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amr.data_manifests.manifest import Manifest
from amr.data_manifests.schema import split_columns

# Names of clips and files in a note; the rest are counted.
MAX_NAMED = 20


@dataclass(frozen=True)
class Counts:
    """How many clips a split or a class has.

    Args:
        clips: in the list.
        unflagged: of these, not marked in the column `flag`.
        found: in the list, with a file of at least one modality.
        usable: found and not flagged.
    """

    clips: int
    unflagged: int
    found: int
    usable: int


@dataclass(frozen=True)
class ManifestReport:
    """What there is of a dataset.

    Args:
        dataset: its name.
        root: where the media were looked for.
        clips: clips in the list.
        found: modality -> clips with a file for it. A file that both modalities share counts for both; whether it
            holds both streams shows when it is decoded.
        missing: modality -> ids of the clips without one, in the manifest's order.
        flagged: id -> flag, of the clips left out of training by default.
        splits: column (`split`, `split_<policy>`) -> split ("" = in none) -> counts.
        classes: label -> counts, classes by name; a class that the dataset has but no clip shows is there with zeros.
        notes: sentences for people.
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
        """The report as JSON types, the field names as keys."""
        return {**asdict(self), "root": str(self.root), "notes": list(self.notes)}

    def to_text(self) -> str:
        """The report for people: a few lines and two small tables."""
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
        manifest: any; flags are taken from its column `flag` where it has one.
        modalities: what to look for; by default those with a column of their own, else audio and video.
        classes: classes to count even where no clip shows them.
        notes: sentences to hand on.
    """
    table = manifest.table
    modalities = list(modalities) or manifest.modalities or ["audio", "video"]
    exists: dict[Path | None, bool] = {None: False}
    present: dict[str, np.ndarray] = {}
    for modality in modalities:
        paths = manifest.paths(modality)
        for path in paths:
            if path is not None and path not in exists:
                exists[path] = path.is_file()
        present[modality] = np.array([exists[path] for path in paths])
    flags = table["flag"].to_numpy(str) if "flag" in table.columns else np.full(len(table), "")
    found = np.logical_or.reduce(list(present.values()))
    ids = np.array(manifest.ids)

    def counts(mask: np.ndarray) -> Counts:
        kept = mask & (flags == "")
        return Counts(*(int(rows.sum()) for rows in (mask, kept, mask & found, kept & found)))

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
        notes=tuple(notes),
    )


def named(names: Sequence[str]) -> str:
    """The first names of a list and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _table(head: str, rows: Sequence[tuple[str, Counts]]) -> list[str]:
    """Lines of a table, a row a name."""
    width = max([len(head), *(len(name) for name, _ in rows)])
    lines = [f"  {head:<{width}}  {'clips':>7} {'unflagged':>9} {'found':>7} {'usable':>7}"]
    for name, counts in rows:
        lines.append(f"  {name:<{width}}  {counts.clips:>7} {counts.unflagged:>9} {counts.found:>7} {counts.usable:>7}")
    return lines
