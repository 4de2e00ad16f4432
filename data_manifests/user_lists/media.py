"""Files of listed clips: by the clip's name, or by the video and its start, as downloads of YouTube's are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from amr.data_manifests.coverage import named
from amr.data_manifests.media_index import AUDIO_ORDER, VIDEO, MediaIndex, choose
from amr.data_manifests.schema import counted

# A video id is 11 characters, possibly _ and -, so names must not be split at underscores.
VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_STEM = re.compile(rf"(?P<video>{VIDEO_ID.pattern})(?:_(?P<start>\d+(?:\.\d+)?)(?:_(?P<end>\d+(?:\.\d+)?))?)?")

Paths = tuple[list[str], list[str], list[str]]


def match_names(index: MediaIndex, names: Sequence[str], fold: Callable[[str], str] = str) -> Paths:
    """Find the files that are named like their clip.

    Args:
        index: Files below the root.
        names: Name of each clip's file, without its extension.
        fold: Function that removes differences between names that mean the same file, such as `str.casefold`.

    Returns:
        Audio path and video path of each clip ("" for none), and notes on files that match no clip.
    """
    files: dict[str, list[str]] = {}
    for stem, paths in index.files.items():
        files.setdefault(fold(stem), []).extend(paths)
    of_clips = [files.get(fold(name), []) for name in names]
    known = set(map(fold, names))
    unlisted = [path for stem, paths in files.items() if stem not in known for path in paths]
    audio, video = ([choose(paths, order) for paths in of_clips] for order in (AUDIO_ORDER, VIDEO))
    return audio, video, _notes_on_unlisted(unlisted)


def match_intervals(index: MediaIndex, ids: Sequence[str]) -> Paths:
    """Find the files that are named by a video and the start of the clip in it.

    A file is named like the clip's id, or `<video>_<start>`, `<video>_<start>_<end>` (seconds or milliseconds), or
    `<video>` if only one clip of that video is listed.

    Args:
        index: Files below the root.
        ids: Id of each clip: `<video>_<start>` or `<video>_<start>_<end>`, whole seconds with six digits.

    Returns:
        Audio path and video path of each clip ("" for none), and notes on files that match no clip.
    """
    starts: dict[str, dict[int, str]] = {}
    for clip in ids:
        starts.setdefault(clip[:11], {})[int(clip[12:18])] = clip
    # clip -> its files, from the surest kind of name: the clip's id, one with a start, only the video id.
    files: dict[str, tuple[list[str], list[str], list[str]]] = {clip: ([], [], []) for clip in ids}
    unlisted: list[str] = []
    ambiguous: list[str] = []
    for stem, paths in index.files.items():
        match = _STEM.fullmatch(stem)
        siblings = starts.get(match["video"], {}) if match else {}
        if match is None or (owner := _clip_of(match, siblings)) is None:
            (ambiguous if match and siblings and not match["start"] else unlisted).extend(paths)
        else:
            files[owner][0 if stem == owner else 1 if match["start"] else 2].extend(paths)
    audio, video = (
        [next(filter(None, (choose(paths, order) for paths in files[clip])), "") for clip in ids]
        for order in (AUDIO_ORDER, VIDEO)
    )
    notes = _notes_on_unlisted(unlisted)
    if ambiguous:
        notes.append(
            f"{counted(len(ambiguous), 'file', 'files')} of videos with several clips, left out: {named(ambiguous)}. "
            "Name them <video>_<start>."
        )
    num_bare = sum(path != "" and len(Path(path).stem) == 11 for path in video)
    if num_bare:
        files_named = counted(num_bare, "file named", "files named")
        notes.append(f"{files_named} by video id only, read as the clip, not the whole video.")
    return audio, video, notes


def _notes_on_unlisted(paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    return [f"{counted(len(paths), 'file', 'files')} of clips in no list, left out: {named(paths)}."]


def _clip_of(match: re.Match[str], listed: dict[int, str]) -> str | None:
    """Clip that a file's name stands for, among the listed clips of its video (start in seconds -> clip)."""
    if match["start"] is None:
        return next(iter(listed.values())) if len(listed) == 1 else None
    start = float(match["start"])
    # Ten seconds apart, or ten thousand milliseconds.
    is_milliseconds = match["end"] is not None and float(match["end"]) - start >= 1000
    candidates = [start / 1000] if is_milliseconds else [start, start / 1000]
    return next((listed[int(value)] for value in candidates if value == int(value) and int(value) in listed), None)
