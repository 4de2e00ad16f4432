"""A folder of images as the pictures of a clip."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from amr.extract.media.clip import Decoded
from amr.extract.media.container import open_media, reason_of
from amr.extract.media.sampling import MAX_FRAMES, Request, Timeline
from amr.extract.media.spool import TooLarge
from amr.extract.media.streams import Pictures

TICK = Fraction(1, 1_000_000)  # seconds per unit of timestamps
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".gif"})


def decode_folder(
    folder: Path, requests: tuple[Request, ...], start: float, end: float, frame_rate_hz: float
) -> Decoded:
    """Decode the selected images of a folder; frame n is shown at `n / frame_rate_hz` seconds.

    Files of other kinds and hidden files are left out. In place of a damaged image, the one before is shown.

    Args:
        folder: Folder of images, in the natural order of their names: 2.jpg before 10.jpg.
        requests: Samplings that select the frames, or reductions of these frames.
        start: Start of the clip in seconds.
        end: End of the clip in seconds.
        frame_rate_hz: Frame rate.

    Raises:
        ValueError: The folder has no images.
        TooLarge: The folder has too many images.
    """
    paths = _images(folder)
    if not paths:
        raise ValueError(f"it has no images ({', '.join(sorted(SUFFIXES))})")
    stamps = np.round(np.arange(len(paths)) / frame_rate_hz / float(TICK)).astype(np.int64)
    timeline = Timeline(start, min(end, len(paths) / frame_rate_hz), stamps, stamps * float(TICK))
    failure = "there are no pictures in the clip's interval"
    if not requests or timeline.begin > timeline.end:
        return Decoded(has_video=True, failures={"video": failure} if requests else {})
    pictures = Pictures(requests, timeline)
    for stamp, path in zip(stamps.tolist(), paths, strict=True):
        if pictures.needs(stamp):
            try:
                frame = _read(path)
            except (av.FFmpegError, OSError, ValueError, RuntimeError, TooLarge) as error:
                failure = f"no image of the folder could be decoded: {path.name}: {reason_of(error)}"
                continue
            frame.pts, frame.time_base = stamp, TICK
            pictures.add(frame, 0.0)
    found = pictures.finish()
    return Decoded(
        frames=pictures.frames,
        frame_seconds=pictures.frame_seconds,
        frame_errors=pictures.errors,
        failures={} if found else {"video": failure},
        has_video=True,
        duration_seconds=timeline.end - timeline.begin,
    )


def _images(folder: Path) -> list[Path]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                names.append(entry.name)
            if len(names) > MAX_FRAMES:
                raise TooLarge(f"a folder must have at most {MAX_FRAMES:,} images, got more. Split it into clips.")
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which numbers inside a name count as numbers; text sorts after them."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if at % 2 else (-1, part) for at, part in enumerate(parts)]


def _read(path: Path) -> VideoFrame:
    with open_media(path) as container:
        for frame in container.decode(video=0):
            return frame
    raise ValueError("it has no picture")
