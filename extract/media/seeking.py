"""What is known of formats and codecs: where seeking is exact, whose timestamps are true, which frames may be skipped.

Each list holds what tests/extract/media/test_seeking.py shows to be equal to decoding everything from the start.
Everything else is decoded from the start, which is slower and right.
"""

from __future__ import annotations

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
