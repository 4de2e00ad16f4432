"""Import of existing embeddings, from many kinds of files, to a cache."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amr import data_manifests
from amr.common.registry import unknown
from amr.data_manifests.schema import SPLITS
from amr.extract.arrays import ArraySpec, parse_array_spec, read_array
from amr.extract.cache.reader import EmbeddingInfo
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.verify import value_counts
from amr.extract.cache.writer import Embedded, save
from amr.extract.config import ImportConfig

# Columns about media files: an import has none, so they would only mislead.
_ABOUT_MEDIA = ("path", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class ImportResult:
    """The cache that an import made.

    Attributes:
        cache: Cache file.
        table: Table with one row per clip, as in the cache.
        embedded: Embedding name to the number of clips that have it.
        dims: Embedding name to the shape of one clip's row.
        columns: Names of the further columns.
        notes: Messages for the user about what did not match or was left out.
    """

    cache: Path
    table: pd.DataFrame
    embedded: dict[str, int]
    dims: dict[str, tuple[int, ...]]
    columns: list[str]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON document of `amr import`."""
        return {
            "cache": str(self.cache),
            "clips": len(self.table),
            "embedded": self.embedded,
            "dims": {name: list(shape) for name, shape in self.dims.items()},
            "classes": value_counts(self.table["label"]),
            "splits": value_counts(self.table["split"]),
            "groups": len({group for group in self.table["group"] if group}),
            "columns": self.columns,
            "notes": self.notes,
        }


def import_embeddings(config: ImportConfig) -> ImportResult:
    """Write a cache from files of embeddings, labels, ids, groups, splits and further columns.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Lengths differ, values are not numbers, or a file lacks what it should hold.
    """
    out = Path(str(config.out))
    if out.exists() and not config.overwrite:
        raise ValueError(f"--out must be a new file, got {str(out)!r}. Pass --overwrite to replace it.")
    files = {name: parse_array_spec(text, f"--embeddings {name}") for name, text in config.files.items()}
    embedded = {name: _embedding(name, spec, config.dtype) for name, spec in files.items()}
    num_clips = _same_length({f"--embeddings {name}": len(rows.present) for name, rows in embedded.items()})
    table, notes = _clip_table(config, num_clips)
    digest = hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogateescape"))
    infos = {name: _info(name, spec, embedded[name], config.dtype) for name, spec in files.items()}
    clips = ClipTable(out.stem, "", digest.hexdigest(), table)
    save(out, clips, [(infos[name], embedded[name]) for name in infos])
    return ImportResult(
        cache=out,
        table=clips.table,
        embedded={name: int(rows.present.sum()) for name, rows in embedded.items()},
        dims={name: infos[name].row_shape for name in infos},
        columns=[name for name in map(str, table) if name not in ("id", "label", "split", "group")],
        notes=notes + [_absent_note(name, rows) for name, rows in embedded.items() if not rows.present.all()],
    )


def _embedding(name: str, spec: ArraySpec, dtype: str) -> Embedded:
    """Read rows as numbers; a row of only NaN is an absent clip."""
    raw = read_array(spec)
    if raw.ndim == 1:
        raw = raw[:, None]
    try:
        values = raw.astype(np.float64) if raw.dtype.kind in "biufOUS" else None
    except (ValueError, TypeError):
        values = None
    if values is None or values.ndim > 3 or values.size == 0:
        raise ValueError(
            f"--embeddings {name} must be numbers, (clips, dim) or (clips, steps, dim), "
            f"got {raw.dtype} {raw.shape} in {spec.path.name}. Name a KEY or column of numbers."
        )
    inner = tuple(range(1, values.ndim))
    present = np.logical_not(np.isnan(values).all(axis=inner))
    values[~present] = 0
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    wrong = np.flatnonzero(~np.isfinite(stored).all(axis=inner))
    if len(wrong):
        overflow = np.isfinite(values[wrong[0]]).all()
        instead = "Pass --dtype float32." if overflow and dtype == "float16" else "Fill absent rows with NaN."
        raise ValueError(
            f"--embeddings {name} must be finite in {dtype}, got {len(wrong)} rows that are not, "
            f"first row {wrong[0]} of {spec.path.name}. {instead}"
        )
    steps = np.where(present, stored.shape[1], 0) if stored.ndim == 3 else None
    return Embedded(stored, present, steps)


def _info(name: str, spec: ArraySpec, rows: Embedded, dtype: str) -> EmbeddingInfo:
    with spec.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = f":{'+'.join(spec.keys)}" if spec.keys else ""
    first = f":{spec.num_rows}" if spec.num_rows is not None else ""
    return EmbeddingInfo(
        name=name,
        modality=name,
        encoder=f"import:{spec.path.name}{key}{first}",
        weights_sha256="",
        preprocessing={"file_sha256": sha256},
        dtype=dtype,
        embed_dim=rows.values.shape[-1],
        max_steps=rows.values.shape[1] if rows.values.ndim == 3 else None,
    )


def _absent_note(name: str, rows: Embedded) -> str:
    return f"{name}: {int((~rows.present).sum())} rows hold only NaN and count as absent"


def _same_length(lengths: dict[str, int]) -> int:
    (first, num_clips), *others = lengths.items()
    for other, length in others:
        if length != num_clips:
            shorter, rows = (first, num_clips) if num_clips < length else (other, length)
            longer = other if shorter == first else first
            raise ValueError(
                f"{other} must have as many rows as {first} ({num_clips}), got {length}. "
                f"If the first {rows} rows of {longer} are those of {shorter}, pass FILE:{rows} there."
            )
    return num_clips


def _clip_table(config: ImportConfig, num_clips: int) -> tuple[pd.DataFrame, list[str]]:
    """Table of the clips, every column text, and notes on what did not match in --columns."""
    ids = (
        [str(i) for i in range(num_clips)]
        if config.ids is None
        else _texts("--ids", config.ids, num_clips, verbatim=True)
    )
    _check_ids(ids, config.ids)
    columns = {"id": ids}
    if config.labels is not None:
        columns["label"] = _texts("--labels", config.labels, num_clips)
    if config.groups is not None:
        columns["group"] = _groups(config.groups, ids)
    if config.splits is not None:
        columns["split"] = _splits(config.splits, num_clips)
    table = pd.DataFrame(columns, dtype=str)
    notes: list[str] = []
    if config.columns is not None:
        table, notes = _join(table, config.columns)
    for name in ("label", "split", "group"):
        if name not in table:
            table[name] = ""
    _check_splits(list(table["split"]), config)
    if not (table["label"] != "").any():
        raise ValueError("label must be given for at least one clip, got none. Pass --labels FILE.")
    first = ["id", "label", "split", "group"]
    return table[[*first, *(name for name in table if name not in first)]], notes


def _check_ids(ids: list[str], file: str | None) -> None:
    seen: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if not id_ or id_ in seen:
            place = f"{id_!r} in row {row}" + (f" and in row {seen[id_]}" if id_ else "")
            raise ValueError(f"--ids must be unique and not empty, got {place} of {file}. Correct the file.")
        seen[id_] = row


def _texts(option: str, text: str, num_clips: int, *, verbatim: bool = False) -> list[str]:
    """Read one text per clip. Whole numbers become 3, not 3.0; `verbatim` leaves values stored as text unchanged."""
    array = read_array(parse_array_spec(text, option))
    if array.ndim > 2 or array.size != max(array.shape):  # MATLAB stores a list as one row
        raise ValueError(
            f"{option} must be one value per clip, got {array.shape} in {text}. Name a column or key, FILE:KEY."
        )
    values = [_text(value) for value in array.ravel().tolist()]
    _same_length({"the embeddings": num_clips, f"{option} {text}": len(values)})
    if verbatim and array.dtype.kind in "OUS":
        return values
    if any("." in value or "e" in value.lower() for value in values) and all(map(_is_number_or_empty, values)):
        values = [value and _text(float(value)) for value in values]
    return values


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value)


def _is_number_or_empty(text: str) -> bool:
    try:
        return not text or np.isfinite(float(text))
    except ValueError:
        return False


def _groups(text: str, ids: list[str]) -> list[str]:
    if not text.startswith("ids:"):
        return _texts("--groups", text, len(ids), verbatim=True)
    try:
        pattern = re.compile(text.removeprefix("ids:"))
    except re.error as error:
        raise ValueError(
            f"--groups ids:REGEX must be a regular expression, got {text!r} ({error}). Pass for example 'ids:^[0-9]+'."
        ) from error
    found = [pattern.search(id_) for id_ in ids]
    for id_, match in zip(ids, found, strict=True):
        if match is None:
            raise ValueError(f"--groups {text} must match every id, got {id_!r}. Widen the expression.")
    return [(match[1] if pattern.groups else match[0]) or "" for match in found if match is not None]


def _splits(text: str, num_clips: int) -> list[str]:
    if "=" not in text or Path(text).is_file():
        return _texts("--splits", text, num_clips)
    values: list[str] = []
    for item in text.split(","):
        name, _, count = item.strip().partition("=")
        if name not in SPLITS:
            raise unknown("--splits name", name, SPLITS)
        if not re.fullmatch(r"[0-9]+", count):
            raise ValueError(
                f"--splits {name} must be a number of rows, got {count!r}. Pass --splits train=1600,test=400."
            )
        values += [name] * int(count)
    if len(values) != num_clips:
        raise ValueError(
            f"--splits must add up to the {num_clips} rows of the embeddings, got {len(values)} ({text}). "
            "Correct the counts."
        )
    return values


def _check_splits(values: list[str], config: ImportConfig) -> None:
    for row, value in enumerate(values):
        if value not in ("", *SPLITS):
            where = "--splits" if config.splits is not None else "split of --columns"
            raise unknown(f"{where} in row {row}", value, SPLITS)


def _join(table: pd.DataFrame, text: str) -> tuple[pd.DataFrame, list[str]]:
    """Join the columns of a CSV on the id; "" if the CSV lacks the clip."""
    name, rows = _read_columns(text)
    index = {row["id"]: row for row in reversed(rows)}
    if len(index) != len(rows):
        repeated = next(id_ for id_, count in Counter(row["id"] for row in rows).items() if count > 1)
        raise ValueError(f"--columns must have each id once, got {repeated!r} more than once in {name}. Correct it.")
    header = [column for column in rows[0] if column != "id"]
    duplicate = [column for column in header if column in table]
    skipped = [column for column in header if column in _ABOUT_MEDIA or column.endswith("_path")]
    matched = [index.get(id_, {}) for id_ in table["id"]]
    joined = table.copy()
    for column in header:
        if column not in duplicate and column not in skipped:
            joined[column] = [row.get(column, "") for row in matched]
    num_matched = sum(bool(row) for row in matched)
    if num_matched == 0:
        raise ValueError(
            f"--columns must share ids with the clips, got {rows[0]['id']!r}, ... in {name} and "
            f"{table['id'].iloc[0]!r}, ... here. Pass --ids FILE."
        )
    notes = [
        f"--columns {name}: {num_matched} of {len(table)} clips have a row; "
        f"{len(rows) - num_matched} of its ids match no clip and are left out"
    ]
    if duplicate:
        hint = "; leave out --labels to use its label" if "label" in duplicate else ""
        notes.append(f"--columns {name}: {', '.join(duplicate)} left out, since options give them{hint}")
    return joined, notes


def _read_columns(text: str) -> tuple[str, list[dict[str, str]]]:
    """Read the name and rows of a CSV, or of the list of a dataset."""
    path = Path(text) if Path(text).is_file() else _shipped_list(text)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="")
        rows = [{key: value for key, value in row.items() if key is not None} for row in reader]
    if "id" not in (reader.fieldnames or []) or not rows:
        raise ValueError(
            f"--columns must have a column id and a row, got {', '.join(reader.fieldnames or ['nothing'])} in {text}. "
            "Rename the column of ids to id."
        )
    return text, rows


def _shipped_list(dataset: str) -> Path:
    """List of clips that ships with a dataset."""
    folder = Path(data_manifests.__path__[0])
    lists = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("*.csv"))}
    if dataset not in lists:
        known = ", ".join(lists) or "none"
        raise FileNotFoundError(
            f"--columns must be a CSV file or a dataset with a list ({known}), got {dataset!r}. Check the path."
        )
    return lists[dataset]
