"""The clips with the most one-sided decisions, with frames and a spectrogram where their media are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image
from scipy import signal

from amr.extract.cache.reader import Cache
from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media, cached_media, decode_media
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, best_run
from amr.fusion.runs.read import Run

NUM_FRAMES = 3
FRAME_HEIGHT = 96
SPECTROGRAM_SIZE = (320, 96)
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


def one_sided(results: ResultFolder, settings: Sequence[Setting], most: int, *, media: bool) -> OneSided | None:
    """For the run that is best on val, the clips with the largest share of each modality, as many of each.

    Args:
        results: where the decisions are.
        settings: of the results.
        most: clips in all.
        media: show frames and sound.
    """
    run = best_run(settings)
    modalities = run.modalities
    mine = results.decisions.of([run.name]) if results.decisions is not None else None
    if most == 0 or mine is None or not mine.runs or mine.shares.shape[-1] != len(modalities) or len(modalities) < 2:
        return None
    chosen = most_one_sided(mine.shares[0], most)
    media_of = _media(results, [str(mine.ids[i]) for i in chosen]) if media else {}
    views = []
    for i in chosen:
        frames, spectrogram = _pictures(media_of.get(str(mine.ids[i])))
        shares = dict(zip(modalities, map(float, mine.shares[0, i]), strict=True))
        target, pred = results.classes[mine.target[i]], results.classes[mine.preds[0, i]]
        views.append(ClipView(str(mine.ids[i]), target, pred, shares, frames, spectrogram))
    label = next(setting.label for setting in settings if any(member is run for member in setting.runs))
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


def _media(results: ResultFolder, ids: Sequence[str]) -> dict[str, Media]:
    """Id to what could be decoded of the clip; only clips whose media are at hand."""
    if not results.cache.is_file():
        return {}
    with Cache.open(results.cache) as cache:
        rows = {id_: row for row, id_ in enumerate(cache.table()["id"])}
        files = {id_: cached_media(cache, rows[id_]) for id_ in ids if id_ in rows}
    return {id_: decode_media(clip, NUM_FRAMES) for id_, clip in files.items()}


def _pictures(media: Media | None) -> tuple[tuple[str, ...], str | None]:
    """Frames and spectrogram as data URIs; nothing for what is not at hand."""
    if media is None:
        return (), None
    frames = tuple(_jpeg(_thumbnail(frame)) for frame in media.frames)
    return frames, None if len(media.sound) < SAMPLE_RATE_HZ // 50 else _jpeg(spectrogram(media.sound))


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
