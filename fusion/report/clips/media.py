"""Media of clips: frames, sound that plays and a spectrogram as data URIs, and text."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

import av
import matplotlib
import numpy as np
import scipy
from PIL import Image

from amr.extract.cache.reader import Cache
from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media, cached_media, decode_media

NUM_FRAMES = 4
FRAME_HEIGHT = 96
SPECTROGRAM_SIZE = (320, 72)
FLOOR_DB = -80.0
JPEG_QUALITY = 72
BIT_RATE = 32_000
SOUND_SECONDS = 15.0  # of sound that the page holds of a clip
MAX_TEXT = 280  # characters
SHORTEST_SOUND = SAMPLE_RATE_HZ // 50


@dataclass(frozen=True)
class Shown:
    """Media of a clip, as far as they are available.

    Args:
        frames: Data URIs of JPEGs, in temporal order.
        spectrogram: Data URI of a JPEG; None without sound.
        sound: Data URI of an MP3 or a WAV; None without sound.
        durations: Kind of media to the duration in seconds.
        is_cut: Whether the sound is longer than what the page holds.
        text: Beginning of the text.
    """

    frames: tuple[str, ...] = ()
    spectrogram: str | None = None
    sound: str | None = None
    durations: Mapping[str, float] = field(default_factory=dict)
    is_cut: bool = False
    text: str = ""


def shown_media(cache: Path, ids: Sequence[str]) -> dict[str, Shown]:
    """Decode the media of clips of a cache, which may be gone: id to media."""
    if not cache.is_file():
        return {}
    with Cache.open(cache) as opened:
        rows = {id_: row for row, id_ in enumerate(opened.table()["id"])}
        files = {id_: cached_media(opened, rows[id_]) for id_ in ids if id_ in rows}
    return {id_: show(decode_media(clip, NUM_FRAMES)) for id_, clip in files.items()}


def show(media: Media) -> Shown:
    """Media as a page shows them."""
    text = shorten(media.text, MAX_TEXT, placeholder=" ...")
    frames = tuple(_jpeg(_thumbnail(frame)) for frame in media.frames)
    if len(media.sound) < SHORTEST_SOUND:
        return Shown(frames, durations=media.duration_seconds, text=text)
    most = round(SOUND_SECONDS * SAMPLE_RATE_HZ)
    return Shown(
        frames,
        _jpeg(spectrogram(media.sound)),
        playable(media.sound[:most]),
        media.duration_seconds,
        len(media.sound) > most,
        text,
    )


def playable(sound: np.ndarray) -> str:
    """Sound, `(samples,)` at 16 kHz between -1 and 1, as a data URI: an MP3, or a WAV if there is no encoder."""
    samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
    try:
        return _uri("audio/mpeg", _mp3(samples))
    except (av.FFmpegError, ValueError):  # an FFmpeg of the system's own may lack the encoder
        file = io.BytesIO()
        with wave.open(file, "wb") as opened:
            opened.setnchannels(1)
            opened.setsampwidth(2)
            opened.setframerate(SAMPLE_RATE_HZ)
            opened.writeframes(samples.tobytes())
        return _uri("audio/wav", file.getvalue())


def _mp3(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE_HZ, layout="mono", format="s16p")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16p", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def _thumbnail(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((max(1, round(image.width * FRAME_HEIGHT / image.height)), FRAME_HEIGHT))


def spectrogram(sound: np.ndarray) -> Image.Image:
    """Spectrogram of sound, `(samples,)` at 16 kHz: time to the right, 0 to 8 kHz upwards, 80 dB from dark to light."""
    _, _, power = scipy.signal.spectrogram(
        sound, SAMPLE_RATE_HZ, nperseg=min(400, len(sound)), noverlap=min(240, len(sound) // 2)
    )
    loud = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    scaled = np.clip(1 - loud / FLOOR_DB, 0, 1)[::-1]
    colors = matplotlib.colormaps["magma"](scaled)[..., :3]
    return Image.fromarray((255 * colors).astype(np.uint8)).resize(SPECTROGRAM_SIZE)


def _jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return _uri("image/jpeg", file.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
