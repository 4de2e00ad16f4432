"""Clips that a user names: media files, folders, tables of clips, ids in a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from amr.common.csv_rows import read_csv_rows
from amr.data_manifests.manifest import read_manifest
from amr.data_manifests.media_index import AUDIO_ORDER, VIDEO, choose, index_media
from amr.data_manifests.schema import TEXT, TEXT_SUFFIXES, path_columns
from amr.extract.media.frames_folder import SUFFIXES
from amr.extract.pipeline.load import ClipFiles, ManifestFiles, not_found

ID_COLUMNS = ("id", "clip")


@dataclass(frozen=True)
class NamedClip:
    """A clip that a user named.

    Args:
        name: Path or id as given, path in a folder, or id of a row.
        files: Media files that exist; None if there are none, so that `name` may be an id in a cache.
        problem: Reason that there are no files.
    """

    name: str
    files: ClipFiles | None
    problem: str = ""


def named_clips(texts: Sequence[str], modalities: Sequence[str] = ("audio", "video")) -> list[NamedClip]:
    """List the clips that texts name, in their order.

    A text is one of:

    - a CSV: one clip per row. With a column `path` or `<modality>_path`, or `text` if text is wanted, it is read as a
      manifest, whose labels may be missing; else its column `id` or `clip` holds the clips, each a path or an id.
    - a folder: its media files and those of its subfolders, and files of text if text is wanted. Files of one name in
      one folder are one clip. Without any such file, each folder of images is a clip.
    - any other file: the clip's media, or its text.
    - anything else: an id.

    Args:
        texts: Paths and ids.
        modalities: Modalities that are wanted.

    Raises:
        ValueError: A CSV breaks the schema; the message names the line.
    """
    clips: list[NamedClip] = []
    for text in texts:
        if os.path.isdir(text):
            clips += _in_folder(Path(text), modalities)
        elif text.lower().endswith(".csv") and os.path.isfile(text):
            clips += _in_csv(Path(text), modalities)
        else:
            clips.append(_named(text, modalities))
    return clips


def _named(text: str, modalities: Sequence[str]) -> NamedClip:
    """A single clip: a media file, a folder of images, or an id."""
    if os.path.exists(text):
        return NamedClip(text, ClipFiles.of_file(Path(text), modalities))
    return NamedClip(text, None, "no such file")


def _in_folder(folder: Path, modalities: Sequence[str]) -> list[NamedClip]:
    orders = {"audio": AUDIO_ORDER, "video": VIDEO, TEXT: TEXT_SUFFIXES}
    index = index_media(folder, homepage="", suffixes=AUDIO_ORDER + (TEXT_SUFFIXES if TEXT in modalities else ()))
    found = sorted((os.path.splitext(path)[0], path) for paths in index.files.values() for path in paths)
    clips = []
    for _, group in groupby(found, itemgetter(0)):
        paths = [path for _, path in group]
        chosen = {m: choose(paths, orders.get(m, AUDIO_ORDER)) for m in modalities}
        name = choose(paths, VIDEO) or paths[0]
        files = ClipFiles({m: folder / path if path else None for m, path in chosen.items()})
        clips.append(NamedClip(str(folder / name), files))
    clips += [
        NamedClip(str(folder / path), None, "a git-lfs pointer; git lfs pull fetches it") for path in index.pointers
    ]
    clips += [NamedClip(str(folder / path), None, "a pipe or a broken link") for path in index.no_files]
    clips = clips or [_named(str(images), modalities) for images in _folders_of_images(folder)]
    return clips or [NamedClip(str(folder), None, "the folder has no media files and no images")]


def _folders_of_images(folder: Path) -> Iterator[Path]:
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if any(Path(name).suffix.lower() in SUFFIXES and not name.startswith(".") for name in names):
            yield Path(parent)


def _in_csv(csv: Path, modalities: Sequence[str]) -> list[NamedClip]:
    rows = [(row, line) for row, line in zip(*read_csv_rows(csv), strict=True) if row]
    header = rows[0][0] if rows else []
    if not rows or path_columns(header) or (TEXT in header and TEXT in modalities):
        return _in_manifest(csv, modalities)
    column = next((header.index(name) for name in ID_COLUMNS if name in header), None)
    if column is None:
        raise ValueError(
            f"{csv.name} must have a column path, <modality>_path, id or clip, got {', '.join(header)}. "
            "Name the column of the clips id on the first line."
        )
    for row, line in rows:
        if len(row) != len(header):
            raise ValueError(
                f"line {line} of {csv.name} must have {len(header)} values like the header, got {len(row)}. "
                "Put values with a comma in quotes."
            )
    return [_named(row[column], modalities) for row, _ in rows[1:]]


def _in_manifest(csv: Path, modalities: Sequence[str]) -> list[NamedClip]:
    manifest = read_manifest(csv, allow_unlabelled=True)
    files = ManifestFiles(manifest, tuple(modalities))
    clips = []
    for row, (name, exists) in enumerate(zip(manifest.ids, files.exist.tolist(), strict=True)):
        clip = files[row]
        first = next((path for path in clip.paths.values() if path is not None), None)
        what = "no path and no text" if TEXT in modalities else "no path"
        problem = f"the row has {what}" if first is None else not_found(first)
        clips.append(NamedClip(name, clip if exists else None, "" if exists else problem))
    return clips
