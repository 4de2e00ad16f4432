"""Pictures and sound of a clip, in one decoding pass through PyAV.

Bad media never raise an exception. The result says what can be known about the clip:

- a stream that does not exist: `has_audio` or `has_video` is false, and there is no failure;
- a stream that exists and gives nothing: a failure for that modality;
- a file that cannot be opened (empty, not media, an mp4 cut off before its index): its streams cannot be
  known, so it is a failure of each requested modality;
- a stream that breaks off or is damaged half-way: whatever could be decoded is returned;
- a stream beyond the limits (`MAX_*` in this package): a failure for that modality.

Memory is bounded whatever the file: sound and frames beyond 64 MiB come as arrays in temporary files (`spool.py`).

Cover art in a sound file is not a picture of the clip. An image file is a clip of one frame. A folder of images is a
clip without sound, whose frames are the images.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path

from amr.extract.media.clip import Clip, Decoded
from amr.extract.media.container import reason_of
from amr.extract.media.frames_folder import decode_folder
from amr.extract.media.sampling import FRAME_RATE_HZ, FrameSampling, Request
from amr.extract.media.spool import TooLarge

__all__ = ["Decoded", "FrameSampling", "decode"]

MAX_SECONDS = 1e9  # of a file: no media are 30 years long, and FFmpeg counts in 64 bits


def decode(
    path: str | os.PathLike[str],
    *,
    samplings: Collection[Request] = (),
    sample_rates_hz: Collection[int] = (),
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    audio_track: int | None = None,
    frame_rate_hz: float = FRAME_RATE_HZ,
) -> Decoded:
    """Decode a clip once, for every requested sampling of its frames and sample rate of its sound.

    Decoding stops after the last frame needed. Frames on which no needed frame depends are skipped, and only
    selected frames are converted to RGB. If `start_seconds` and `end_seconds` cut out an interval, frames are
    spread over the part of it in which the file has pictures.

    Sound keeps its time: where the timestamps of the file say that there is none for a while, there is silence.
    Parts of a file whose timestamps begin again follow each other. Pictures are turned and mirrored as the file says.

    Args:
        path: Media file of any kind that FFmpeg knows, under any name, or a folder of images: frames in the natural
            order of their names.
        samplings: Samplings that select the frames; or reductions, for frames that are made smaller as they come.
        sample_rates_hz: Sample rates of the sound.
        start_seconds: Start of the clip in the file; the file's start by default.
        end_seconds: End of the clip in the file; the file's end by default.
        audio_track: Index of the sound stream among those of the file; by default the one that the file marks as
            default, or the first.
        frame_rate_hz: Frame rate of a folder of images.

    Raises:
        ValueError: The interval ends before it begins, or a number is out of range. Never raised for bad media.
    """
    path = Path(path)
    start = 0.0 if start_seconds is None else start_seconds
    end = math.inf if end_seconds is None else end_seconds
    if not 0 <= start < end:
        raise ValueError(
            f"start_seconds must be at least 0 and below end_seconds, got {start_seconds} and {end_seconds}. "
            "Correct the interval of this clip."
        )
    start, end = min(start, MAX_SECONDS), math.inf if end > MAX_SECONDS else end
    if any(rate < 1 for rate in sample_rates_hz):
        raise ValueError(f"sample_rates_hz must be at least 1, got {list(sample_rates_hz)}. Pass [16000].")
    if audio_track is not None and audio_track < 0:
        raise ValueError(f"audio_track must be at least 0, got {audio_track}. Pass 0 for the first.")
    if not 0 < frame_rate_hz < math.inf:
        raise ValueError(f"frame_rate_hz must be above 0 and finite, got {frame_rate_hz}. Pass {FRAME_RATE_HZ:g}.")
    try:
        if path.is_dir():
            return decode_folder(path, tuple(dict.fromkeys(samplings)), start, end, frame_rate_hz)
        if not path.is_file():  # a pipe would block
            exists = os.path.lexists(path)
            raise FileNotFoundError("it is no regular file" if exists else "the file does not exist")
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        request = (path, tuple(dict.fromkeys(samplings)), tuple(dict.fromkeys(sample_rates_hz)), start, end)
        clip = Clip(*request, audio_track, thorough=False)
        clip.read()
        if clip.missed_start:
            clip = Clip(*request, audio_track, thorough=True)
            clip.read()
        return clip.result()
    except Exception as error:  # nothing that a file holds may end an extraction
        kind = "folder" if os.path.isdir(path) else "file"
        reason = str(error) if isinstance(error, TooLarge) else f"the {kind} cannot be opened: {reason_of(error)}"
        requested = {"video": samplings, "audio": sample_rates_hz}
        return Decoded(failures={modality: reason for modality, outputs in requested.items() if outputs})
