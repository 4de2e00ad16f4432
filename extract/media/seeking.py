"""What is known of formats and codecs: where seeking is exact, whose timestamps are true, which frames may be skipped.

Each list holds what tests/extract/media/test_seeking.py shows to be equal to decoding everything from the start.
Everything else is decoded from the start, which is slower and right.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

# Formats that store the time of each packet. In most others FFmpeg counts packets or bytes, and may count wrongly; in
# ASF, stored times do not count the delay of the codec.
STORE_TIMES = frozenset({"mov", "matroska", "flv", "live_flv", "mpegts", "mpeg", "ogg"})
# Formats whose files can be joined by appending one to another.
MAY_BEGIN_AGAIN = frozenset({"matroska", "flv", "live_flv", "mpegts", "mpeg", "ogg"})

# Formats with an index, or whose packets FFmpeg counts from the start when it seeks. Not those without an index, in
# which equal timestamps may occur twice, or in which a seek lands anywhere between two key frames.
SEEK_EXACTLY = frozenset({"mov", "matroska", "mp3", "aac", "flac"})
# Formats of sound in which FFmpeg computes the position from the rate that the header claims, which may be wrong: see
# `is_at_constant_rate`. Only for PCM, which can be decoded from any position.
SEEK_BY_POSITION = frozenset({"wav", "w64", "aiff", "au", "caf"})
# Codecs of sound, besides PCM, whose time in an AVI file is known.
TIMED_IN_AVI = frozenset({"mp3", "mp3float", "mp2", "mp2float", "ac3", "aac"})

# Codecs with frames that no other frame needs, which may be left out where they are coded. Not AV1: a frame may be
# coded in an earlier packet than the one that shows it.
SKIPPABLE_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"})
# Formats that store when each packet is shown. Others, such as AVI, only have an order of decoding.
STORE_SHOWN_TIMES = frozenset({"mov", "matroska", "flv", "live_flv", "mpegts", "mpeg"})


def seeks_exactly(format_name: str, audio: AudioStream | None) -> bool:
    """Whether timestamps can be trusted after seeking.

    Args:
        format_name: Format of the file.
        audio: Sound that will be decoded, if any.
    """
    if audio is None:
        return format_name in SEEK_EXACTLY or format_name == "avi"
    codec = "" if audio.codec_context is None else audio.codec_context.name
    if format_name == "avi":
        return codec in TIMED_IN_AVI or codec.startswith("pcm_")
    return format_name in SEEK_EXACTLY or (format_name in SEEK_BY_POSITION and codec.startswith("pcm_"))


def can_skip_frames(format_name: str, video: VideoStream) -> bool:
    """Whether frames that no other frame needs can be left out without changing the others."""
    return format_name in STORE_SHOWN_TIMES and video.codec_context.name in SKIPPABLE_CODECS


class Step(IntEnum):
    """What to do with a packet: decode it, leave it out, or empty the decoder and begin anew with it."""

    DECODE = 0
    LEAVE_OUT = 1
    BEGIN = 2


def steps_to(stamps: np.ndarray, keys: np.ndarray, needed: np.ndarray) -> bytes:
    """What to do with each packet of a stream up to the last that is needed: a `Step` in each byte.

    After a needed packet, all are left out up to the last key packet from which whatever is still needed can be
    decoded. One packet after it is decoded: it may be the second half of a picture.

    Args:
        stamps: Timestamps in the order of the file, `(packets,)`, none twice.
        keys: Whether decoding can begin at each packet, `(packets,)`.
        needed: Whether each packet is needed, `(packets,)`; at least one is.

    >>> list(steps_to(np.arange(8), np.arange(8) % 4 == 0, np.array([0, 1, 0, 0, 0, 1, 0, 0], bool)))
    [0, 0, 0, 1, 2, 0, 0]
    """
    places = np.flatnonzero(needed)
    still_needed = np.where(needed, stamps, np.iinfo(np.int64).max)
    earliest = np.minimum.accumulate(still_needed[::-1])[::-1]  # timestamp of those from here on
    begins = np.where(keys & (stamps <= earliest), np.arange(len(stamps)), -1)
    begin_of = np.maximum.accumulate(begins)[places]  # the last key packet before each needed one
    steps = np.full(len(stamps), Step.DECODE, np.uint8)
    for first, begin in zip([0, *(places[:-1] + 2)], begin_of, strict=True):
        if first < begin:
            steps[first:begin] = Step.LEAVE_OUT
            steps[begin] = Step.BEGIN
    return steps[: places[-1] + 2].tobytes()


def stores_decoding_order(format_name: str, video: VideoStream) -> bool:
    """Whether timestamps are in the order of decoding, with which the decoder marks frames in the order of showing."""
    return format_name not in STORE_SHOWN_TIMES and video.codec_context.name == "h264"


def is_at_constant_rate(first: Packet, landed: Packet) -> bool:
    """Whether a packet lies as far behind the first one as its timestamp says, given the rate of the first."""
    if first.pts is None or landed.pts is None or first.pos is None or landed.pos is None:
        return False
    if not first.size or not first.duration:
        return False
    expected = first.pts + (landed.pos - first.pos) * first.duration / first.size
    return abs(expected - landed.pts) < 1
