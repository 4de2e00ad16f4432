"""Folders with one file per clip, named by its id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from fnmatch import translate
from pathlib import Path

import numpy as np

from amr.extract.arrays.keys import matching
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import ClipArrays, stack_clips

Reader = Callable[[ArraySpec, Expected], Rows]


def read_folder(spec: ArraySpec, readers: Mapping[str, Reader]) -> Rows:
    """Read the file of every clip. A pattern such as `*_rgb.npy` selects files; its star is the id, else the stem is.

    Args:
        spec: Folder, and the pattern of its files as key.
        readers: Suffix of a file -> its reader.
    """
    pattern = "+".join(spec.keys) or "*"
    files = [path for path in sorted(spec.path.iterdir()) if path.is_file() and not path.name.startswith(".")]
    names = matching(pattern, [path.name for path in files if path.suffix.lower() in readers])
    suffixes = Counter(Path(name).suffix.lower() for name in names)
    if len(suffixes) != 1:
        counts = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.items()) or f"none of {len(files)}"
        raise ValueError(
            f"{spec.path.name} must hold files of one kind, one per clip, got {counts}. "
            f"Pass a pattern, such as '{spec.path}:*{next(iter(suffixes), '.npy')}'."
        )
    names = names[: spec.num_rows]
    read = readers[next(iter(suffixes))]
    clips = [_one_clip(read(ArraySpec(spec.path / name), Expected()).values) for name in names]
    return Rows(stack_clips(clips, names, spec.path.name), ids=tuple(_ids(pattern, names)))


def _one_clip(values: np.ndarray | ClipArrays) -> np.ndarray:
    """Array of one clip; text that is numbers, as in a CSV, becomes numbers."""
    values = np.asarray(values)
    if values.dtype != object:
        return values
    try:
        return values.astype(np.float32)
    except (ValueError, TypeError):
        return values.astype(str)


def _ids(pattern: str, names: list[str]) -> list[str]:
    if pattern.count("*") != 1 or pattern == "*":
        return [Path(name).stem for name in names]
    between = re.compile(translate(pattern).replace(".*", "(.*)", 1))
    ids = [match[1] for match in map(between.match, names) if match is not None]
    return [Path(id_).stem if pattern.endswith("*") else id_ for id_ in ids]
