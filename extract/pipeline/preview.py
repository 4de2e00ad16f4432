"""Sound, frames and text of one clip, for pictures next to a head's predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.processes import Call, Unfinished, call_apart, first_line
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.schema import TEXT
from amr.extract.cache.reader import Cache
from amr.extract.encoders.media_options import MODALITY
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FRAME_RATE_HZ, FrameSampling
from amr.extract.pipeline.load import ClipFiles, ManifestFiles

SAMPLE_RATE_HZ = 16000
MODALITIES = ("audio", "video")
SECONDS = 30.0  # that a clip may take as a whole, and then each modality of it


@dataclass(frozen=True)
class Media:
    """Decoded media of a clip. Times count from the start of the clip.

    Args:
        sound: Waveform `(samples,)`, float32 at `SAMPLE_RATE_HZ`; empty if there is none.
        frames: Frames `(frames, height, width, 3)`, uint8, each from the middle of an equal section of the clip.
        duration_seconds: Modality to duration.
        notes: Messages about media that could not be read.
        text: Text; "" if there is none.
    """

    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    frames: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    duration_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    text: str = ""


def cached_media(cache: Cache, row: int) -> ClipFiles:
    """Media files and text of a cached clip; for imported embeddings, the text alone."""
    table = cache.table()
    root = Path(cache.root)
    if not root.is_absolute():
        text = str(table[TEXT].iat[row]) if TEXT in table else ""
        return ClipFiles(dict.fromkeys((*MODALITIES, TEXT)), text=text)
    manifest = Manifest(cache.dataset, root, table.iloc[[row]].reset_index(drop=True))
    clip = ManifestFiles(manifest, (*MODALITIES, TEXT))[0]
    return read_as(clip, [cache.info(name).preprocessing for name in cache.names])


def read_as(clip: ClipFiles, preprocessings: Iterable[Mapping[str, Any]]) -> ClipFiles:
    """A clip whose media are read as for embeddings: the audio track and the rate of folders of the first that says.

    Args:
        clip: Media files of the clip.
        preprocessings: Preprocessing of each embedding, as a cache and the record of a run have it.
    """
    chosen = {name: each[name] for each in reversed(list(preprocessings)) for name in MODALITY if name in each}
    return replace(clip, **chosen)


def decode_media(clip: ClipFiles, num_frames: int) -> Media:
    """Read a clip's text, and decode its sound and some of its frames in a separate process; each file once.

    If that ends the process or takes too long, sound and frames are decoded apart, and a note says what is missing.

    Args:
        clip: Media files of the clip.
        num_frames: Number of frames, from the middles of equal sections of the clip.
    """
    media = _decoded_apart(clip, num_frames)
    try:
        return replace(media, text=clip.read_text())
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else first_line(error)
        return replace(media, notes=(*media.notes, f"{TEXT}: {reason}"))


def _decoded_apart(clip: ClipFiles, num_frames: int) -> Media:
    wanted = [m for m in MODALITIES if clip.paths.get(m) is not None]
    if not wanted:
        return Media()
    if len(wanted) > 1:
        with suppress(Unfinished, RuntimeError):
            return call_apart(_decode, clip, wanted, num_frames, limit_seconds=SECONDS)
    with ExitStack() as stack:
        calls = {m: stack.enter_context(Call(_decode, clip, [m], num_frames)) for m in wanted}
        return _joined({m: _result(m, call) for m, call in calls.items()})


def _result(modality: str, call: Call[Media]) -> Media:
    try:
        return call.result(SECONDS)
    except Unfinished as error:
        return Media(notes=(f"{modality}: decoding it {error}",))
    except RuntimeError as error:
        return Media(notes=(f"{modality}: the file cannot be read: {error}",))


def _joined(media: Mapping[str, Media]) -> Media:
    """Media of each modality as those of one clip."""
    return Media(
        media.get("audio", Media()).sound,
        media.get("video", Media()).frames,
        {m: seconds for each in media.values() for m, seconds in each.duration_seconds.items()},
        tuple(note for each in media.values() for note in each.notes),
    )


def _decode(clip: ClipFiles, modalities: Sequence[str], num_frames: int) -> Media:
    paths = {m: path for m in modalities if (path := clip.paths[m]) is not None}
    notes = [f"{m} file not found: {path}" for m, path in paths.items() if not path.exists()]
    sampling = FrameSampling(num_frames=num_frames)
    media: dict[str, np.ndarray] = {}
    durations: dict[str, float] = {}
    for path in dict.fromkeys(path for path in paths.values() if path.exists()):
        requested = [m for m in modalities if paths.get(m) == path]
        decoded = decode(
            path,
            samplings=[sampling] if "video" in requested else [],
            sample_rates_hz=[SAMPLE_RATE_HZ] if "audio" in requested else [],
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            audio_track=clip.audio_track,
            frame_rate_hz=clip.folder_fps or FRAME_RATE_HZ,
        )
        found = {"audio": decoded.sound.get(SAMPLE_RATE_HZ), "video": decoded.frames.get(sampling)}
        for m in requested:
            values = found[m]
            if values is not None and len(values):
                media[m], durations[m] = values, decoded.duration_seconds
        notes += [f"{m}: {reason}" for m, reason in decoded.failures.items()]
    empty = Media()
    return Media(media.get("audio", empty.sound), media.get("video", empty.frames), durations, tuple(notes))
