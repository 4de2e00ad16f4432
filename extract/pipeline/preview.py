"""The sound and the frames of one clip, to be looked at beside what a head made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amr.data_manifests.manifest import Manifest
from amr.extract.cache.reader import Cache
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling
from amr.extract.pipeline.workers import ClipFiles, ManifestFiles

SAMPLE_RATE_HZ = 16000
MODALITIES = ("audio", "video")


@dataclass(frozen=True)
class Media:
    """What could be decoded of a clip. Times count from the clip's own beginning.

    Args:
        sound: (samples,) float32 at `SAMPLE_RATE_HZ`; empty where there is none.
        frames: (frames, height, width, 3) uint8, each from the middle of an equal part of the clip.
        duration_seconds: modality to how long it lasts.
        notes: what is not at hand, in words.
    """

    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    frames: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    duration_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cached_media(cache: Cache, row: int) -> ClipFiles:
    """Where the media of a cached clip are; nowhere for imported embeddings."""
    root = Path(cache.root)
    if not root.is_absolute():
        return ClipFiles(dict.fromkeys(MODALITIES))
    manifest = Manifest(cache.dataset, root, cache.table().iloc[[row]].reset_index(drop=True))
    return ManifestFiles(manifest, MODALITIES)[0]


def decode_media(clip: ClipFiles, num_frames: int) -> Media:
    """Decode a clip's sound and some of its frames; each file once.

    Args:
        clip: where its media are.
        num_frames: how many frames, from the middles of equal parts of the clip.
    """
    paths = {m: path for m, path in clip.paths.items() if m in MODALITIES and path is not None}
    notes = [f"{m} is not at hand: {path}" for m, path in paths.items() if not path.is_file()]
    sampling = FrameSampling(num_frames=num_frames)
    media: dict[str, np.ndarray] = {}
    durations: dict[str, float] = {}
    for path in dict.fromkeys(path for path in paths.values() if path.is_file()):
        asked = [m for m in MODALITIES if paths.get(m) == path]
        decoded = decode(
            path,
            samplings=[sampling] if "video" in asked else [],
            sample_rates_hz=[SAMPLE_RATE_HZ] if "audio" in asked else [],
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
        )
        found = {"audio": decoded.sound.get(SAMPLE_RATE_HZ), "video": decoded.frames.get(sampling)}
        for m in asked:
            values = found[m]
            if values is not None and len(values):
                media[m], durations[m] = values, decoded.duration_seconds
        notes += [f"{m}: {reason}" for m, reason in decoded.failures.items()]
    nothing = Media()
    return Media(media.get("audio", nothing.sound), media.get("video", nothing.frames), durations, tuple(notes))
