"""Import of existing embeddings, from many kinds of files, to a cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from amr.common.files.lock import is_left
from amr.extract.arrays import ArraySpec, parse_array_spec
from amr.extract.cache.reader import IMPORTED, EmbeddingInfo
from amr.extract.cache.structure import ClipTable, cache_path, check_out, notes_on_name
from amr.extract.cache.verify import label_counts, value_counts
from amr.extract.cache.writer import is_saved, save
from amr.extract.config import ImportConfig
from amr.extract.imports.clip_table import make_clip_table, read_lengths
from amr.extract.imports.sources import ClipIds, Source, choose_ids, match, read_embedding_sources
from amr.extract.imports.values import Conversion


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
            **label_counts(self.table["label"]),
            "splits": value_counts(self.table["split"]),
            "groups": len(set(self.table["group"].tolist()) - {""}),
            "columns": self.columns,
            "notes": self.notes,
        }

    def summary(self) -> dict[str, Any]:
        """Summary as a dict: shapes as text, and only what says something."""
        document = self.to_json()
        document["dims"] = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in self.dims.items())
        said_if_any = {"groups", "columns", "notes"} | ({"classes"} if "numbers" in document else set())
        return {name: item for name, item in document.items() if name not in said_if_any or item not in (0, [], {})}


def import_embeddings(config: ImportConfig) -> ImportResult:
    """Write a cache from files of embeddings, labels, ids, groups, splits and further columns.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Lengths differ, values are not numbers, or a file lacks what it should hold.
    """
    out = cache_path(str(config.out))
    check_out(out)
    must_be_new = out.exists() and not config.overwrite
    if must_be_new and not is_left(out):
        raise ValueError(_not_new(out))
    sources = read_embedding_sources(config.files, config.ids, config.labels, config.dtype)
    clip_ids = choose_ids(list(sources.values()), config.ids)
    table, notes = make_clip_table(config, clip_ids)
    notes += notes_on_name(out)
    if "" in config.lengths_files and all(source.rows.values.ndim != 3 for source in sources.values()):
        raise ValueError("--lengths must be for an embedding with steps, got none with steps. Leave it out.")
    conversions: dict[str, Conversion] = {}
    infos: dict[str, EmbeddingInfo] = {}
    for name in sources:
        has_steps = sources[name].rows.values.ndim == 3
        lengths = config.lengths_files.get(name, config.lengths_files.get("") if has_steps else None)
        conversions[name] = _conversion(sources[name], clip_ids, config.dtype, lengths)
        infos[name] = _info(name, sources[name].spec, conversions[name], config.dtype, lengths)
    digest = hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogateescape"))
    clips = ClipTable(out.stem, "", digest.hexdigest(), table)
    if must_be_new and not is_saved(out, clips, list(infos.values())):
        raise ValueError(_not_new(out))
    save(out, clips, [(infos[name], conversion.blocks()) for name, conversion in conversions.items()])
    return ImportResult(
        cache=out,
        table=clips.table,
        embedded={name: conversion.num_present for name, conversion in conversions.items()},
        dims={name: infos[name].row_shape for name in infos},
        columns=[name for name in map(str, table) if name not in ("id", "label", "split", "group")],
        notes=notes + [note for conversion in conversions.values() for note in conversion.notes()],
    )


def _not_new(out: Path) -> str:
    return f"--out must be a new file, got {str(out)!r}. Pass --overwrite to replace it."


def _conversion(source: Source, clips: ClipIds, dtype: str, lengths: str | None) -> Conversion:
    """Conversion of the rows of an embedding, in the order of the clips."""
    notes = []
    if source.rows.left_out:
        columns = ", ".join(source.rows.left_out)
        notes.append(
            f"{source.name}: the columns {columns} of {source.spec.path.name} are no features and are left out"
        )
    order, more = match(source, clips)
    notes += more
    num_steps = None
    if lengths is not None:
        num_steps, more = read_lengths(lengths, clips)
        notes += more
    return Conversion(source, order, dtype, num_steps, notes)


def _info(name: str, spec: ArraySpec, rows: Conversion, dtype: str, lengths: str | None) -> EmbeddingInfo:
    preprocessing = {"file_sha256": _sha256(spec.path)}
    if lengths is not None:
        preprocessing["lengths_sha256"] = _sha256(parse_array_spec(lengths, "--lengths").path)
    return EmbeddingInfo(
        name=name,
        modality=name,
        encoder=f"{IMPORTED}{spec}",
        weights_sha256="",
        preprocessing=preprocessing,
        dtype=dtype,
        embed_dim=rows.row_shape[-1],
        max_steps=rows.row_shape[0] if len(rows.row_shape) == 2 else None,
    )


def _sha256(path: Path) -> str:
    """Checksum of a file, or of the names and contents of the files of a folder."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.iterdir() if file.is_file()):
            digest.update(f"{file.name}\0{_sha256(file)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
