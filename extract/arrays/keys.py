"""Choice among the named arrays of a file: some by their keys, the only one, or one per clip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from amr.common.registry import closest, unknown
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import ClipArrays, stack_clips

Read = Callable[[Any], "np.ndarray | ClipArrays"]

# Without known ids, at least that many arrays of one shape are taken for one array per clip.
MANY_ARRAYS = 20


def select(spec: ArraySpec, arrays: Mapping[str, Any], read: Read, expected: Expected) -> Rows:
    """Concatenate the rows of the keys' arrays; without keys, read the only array, or the one of every clip.

    Args:
        spec: File and keys.
        arrays: Arrays by key, possibly not read yet.
        read: Function that reads one of them.
        expected: The caller's knowledge of the rows.
    """
    keys = (joined,) if (joined := "+".join(spec.keys)) in arrays else spec.keys
    if not keys and spec.num_rows is not None and str(spec.num_rows) in arrays:
        raise ValueError(
            f"{spec.path.name}:{spec.num_rows} must be unambiguous, got a key and a number of rows. "
            f"Pass {spec.path.name}:{spec.num_rows}:N with N rows of that key."
        )
    if not keys and len(arrays) == 1:
        keys = tuple(arrays)
    if len(keys) == 1 and keys[0] not in arrays and is_pattern(keys[0]):
        matched = matching(keys[0], arrays)
        if not matched:
            raise unknown_key(spec, keys[0], arrays)
        return _per_clip(spec, matched, arrays, read)
    if not keys:
        return _every_clip(spec, arrays, read, expected)
    for key in keys:
        if key not in arrays:
            raise unknown_key(spec, key, arrays)
    if len(keys) == 1:
        return Rows(read(arrays[keys[0]]))
    selected = [np.asarray(read(arrays[key])) for key in keys]
    if len({each.shape[1:] for each in selected}) > 1:
        shapes = " and ".join(str(each.shape) for each in selected)
        raise ValueError(
            f"{'+'.join(keys)} of {spec.path.name} must have rows of one shape, got {shapes}. Name keys of one view."
        )
    return Rows(_concatenated(selected))


def _concatenated(arrays: list[np.ndarray]) -> np.ndarray:
    """Rows of all arrays; each array is freed once its rows are taken."""
    dtype = np.result_type(*arrays)
    if not np.issubdtype(dtype, np.number):
        return np.concatenate(arrays)
    joined = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), dtype)
    end = len(joined)
    while arrays:
        start = end - len(arrays[-1])
        joined[start:end] = arrays.pop()
        end = start
    return joined


def is_pattern(key: str) -> bool:
    """Whether a key has a wildcard."""
    return any(mark in key for mark in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that match a pattern, in their order."""
    return [name for name in names if fnmatchcase(name, pattern)]


def unknown_key(spec: ArraySpec, key: str, names: Collection[str]) -> ValueError:
    """Error for a key that a file lacks, with the closest one; of many names, only some."""
    what = f"key of {spec.path.name}"
    if len(names) <= MANY_ARRAYS:
        return unknown(what, key, names)
    close = closest(key, names)
    hint = "" if close is None else f" Did you mean {close}?"
    return ValueError(f"{what} must be one of its {some(names)}, got {key!r}.{hint}")


def some(names: Collection[str]) -> str:
    """Number of names and the first of them.

    >>> some([f"clip_{i}" for i in range(7442)])
    '7442: clip_0, clip_1, clip_2, ...'
    """
    return f"{len(names)}: {', '.join(list(names)[:3])}, ..."


def _every_clip(spec: ArraySpec, arrays: Mapping[str, Any], read: Read, expected: Expected) -> Rows:
    """Arrays of every clip if their keys are ids of clips, else an error that names keys."""
    num_known = sum(key in expected.ids for key in arrays)
    if arrays and (2 * num_known >= len(arrays) or (not expected.ids and len(arrays) >= MANY_ARRAYS)):
        try:
            return _per_clip(spec, list(arrays), arrays, read)
        except ValueError:
            if num_known:
                raise
    file, holds = spec.path.name, some(arrays) if len(arrays) > MANY_ARRAYS else ", ".join(arrays) or "nothing"
    raise ValueError(
        f"{file} must be given with a key, got none; it holds {holds}. "
        f"Pass {file}:{next(iter(arrays), 'KEY')}, or '{file}:*' if each is the array of one clip."
    )


def _per_clip(spec: ArraySpec, keys: list[str], arrays: Mapping[str, Any], read: Read) -> Rows:
    clips = [np.asarray(read(arrays[key])) for key in keys]
    return Rows(stack_clips(clips, keys, spec.path.name), ids=tuple(keys))
