"""The clips with the most one-sided decisions, with frames and a spectrogram where their media are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from scipy import signal

from amr.extract.cache.reader import Cache
from amr.extract.media.decode import FrameSampling, decode
from amr.fusion.report.read import Run, Source
from amr.fusion.report.settings import Group, best_run

FRAMES = FrameSampling(num_frames=3)
FRAME_HEIGHT = 96
SPECTROGRAM_SIZE = (320, 96)
SAMPLE_RATE_HZ = 16000
FLOOR_DB = -80.0
JPEG_QUALITY = 72


@dataclass(frozen=True)
class ClipView:
    """One clip.

    Args:
        id: of the clip.
        target, pred: names of classes.
        shares: modality to its share of the decision.
        frames: data URIs of JPEGs, in the order of time.
        spectrogram: data URI; None where there is no sound.
    """

    id: str
    target: str
    pred: str
    shares: Mapping[str, float]
    frames: tuple[str, ...] = ()
    spectrogram: str | None = None

    @property
    def dominant(self) -> str:
        """The modality with the largest share."""
        return max(self.shares, key=lambda m: self.shares[m])


@dataclass(frozen=True)
class OneSided:
    """The clips of a section and the run that decided on them."""

    run: Run
    label: str
    clips: tuple[ClipView, ...]


def one_sided(source: Source, groups: Sequence[Group], most: int, *, media: bool) -> OneSided | None:
    """For the run that is best on val, the clips with the largest share of each modality, as many of each.

    Args:
        source: where the decisions are.
        groups: of the source.
        most: clips in all.
        media: show frames and sound.
    """
    run = best_run(groups)
    modalities = run.settings["modalities"].split(",")
    mine = source.decisions.of([run.name]) if source.decisions is not None else None
    if most == 0 or mine is None or not mine.runs or mine.shares.shape[-1] != len(modalities) or len(modalities) < 2:
        return None
    chosen = most_one_sided(mine.shares[0], most)
    files = _media(source, [str(mine.ids[i]) for i in chosen]) if media else {}
    views = []
    for i in chosen:
        frames, spectrogram = _pictures(*files[mine.ids[i]]) if mine.ids[i] in files else ((), None)
        shares = dict(zip(modalities, map(float, mine.shares[0, i]), strict=True))
        target, pred = source.classes[mine.target[i]], source.classes[mine.preds[0, i]]
        views.append(ClipView(str(mine.ids[i]), target, pred, shares, frames, spectrogram))
    label = next(group.label for group in groups if any(member is run for member in group.runs))
    return OneSided(run, f"{label}, seed {run.seed}", tuple(views)) if views else None


def most_one_sided(shares: np.ndarray, most: int) -> list[int]:
    """Which clips have the largest shares, taking turns over the modalities.

    Args:
        shares: `(clips, modalities)`, NaN where a clip has none.
        most: clips in all.

    >>> most_one_sided(np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55]]), 2)
    [0, 2]
    """
    kept: list[int] = []
    ranked = [list(np.argsort(-np.nan_to_num(column, nan=-1.0), kind="stable")) for column in shares.T]
    whole = set(np.flatnonzero(np.isfinite(shares).all(-1)).tolist())
    while len(kept) < min(most, len(whole)):
        for column in ranked:
            free = [int(i) for i in column if int(i) in whole and int(i) not in kept]
            if free and len(kept) < most:
                kept.append(free[0])
    return kept


_File = tuple[Path | None, Path | None, float | None, float | None]


def _media(source: Source, ids: Sequence[str]) -> dict[str, _File]:
    """Picture file, sound file, start and end of the clips whose media are there."""
    if not source.cache.is_file():
        return {}
    with Cache.open(source.cache) as cache:
        table, root = cache.clips.set_index("id"), Path(cache.root)
    found: dict[str, _File] = {}
    for id_ in ids:
        if id_ not in table.index:
            continue
        row = table.loc[id_]
        names = [str(row.get(f"{m}_path", "") or row.get("path", "")) for m in ("video", "audio")]
        video, audio = (path if name and (path := root / name).is_file() else None for name in names)
        start, end = (float(text) if (text := row.get(f"{k}_seconds", "")) else None for k in ("start", "end"))
        if video is not None or audio is not None:
            found[id_] = video, audio, start, end
    return found


def _pictures(
    video: Path | None, audio: Path | None, start: float | None, end: float | None
) -> tuple[tuple[str, ...], str | None]:
    """Frames and spectrogram as data URIs; nothing for what cannot be decoded."""
    frames: tuple[str, ...] = ()
    if video is not None:
        pictures = decode(video, samplings=[FRAMES], start_seconds=start, end_seconds=end).frames.get(FRAMES)
        frames = () if pictures is None else tuple(_jpeg(_thumbnail(picture)) for picture in pictures)
    if audio is None:
        return frames, None
    sound = decode(audio, sample_rates_hz=[SAMPLE_RATE_HZ], start_seconds=start, end_seconds=end).sound.get(
        SAMPLE_RATE_HZ
    )
    return frames, None if sound is None or len(sound) < SAMPLE_RATE_HZ // 50 else _jpeg(spectrogram(sound))


def _thumbnail(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((max(1, round(image.width * FRAME_HEIGHT / image.height)), FRAME_HEIGHT))


def spectrogram(sound: np.ndarray) -> Image.Image:
    """Sound, `(samples,)` at 16 kHz, as a picture: time to the right, 0 to 8 kHz upwards, 80 dB from dark to light."""
    _, _, power = signal.spectrogram(
        sound, SAMPLE_RATE_HZ, nperseg=min(400, len(sound)), noverlap=min(240, len(sound) // 2)
    )
    loud = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    scaled = np.clip(1 - loud / FLOOR_DB, 0, 1)[::-1]
    colours = matplotlib.colormaps["magma"](scaled)[..., :3]
    return Image.fromarray((255 * colours).astype(np.uint8)).resize(SPECTROGRAM_SIZE)


def _jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
