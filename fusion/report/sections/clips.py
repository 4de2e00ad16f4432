"""Clips with the most one-sided decisions, with frames and a spectrogram if their media are available."""

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
from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media, cached_media, decode_media
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, best_run
from amr.fusion.report.tables import TERMS, fraction
from amr.fusion.runs.read import Run

NUM_FRAMES = 3
FRAME_HEIGHT = 96
SPECTROGRAM_SIZE = (320, 96)
FLOOR_DB = -80.0
JPEG_QUALITY = 72


@dataclass(frozen=True)
class ClipView:
    """One clip on the page.

    Args:
        id: Id of the clip.
        target, pred: Names of the true and the predicted class.
        shares: Modality to its share of the decision.
        frames: Data URIs of JPEGs, in temporal order.
        spectrogram: Data URI of a JPEG; None without sound.
    """

    id: str
    target: str
    pred: str
    shares: Mapping[str, float]
    frames: tuple[str, ...] = ()
    spectrogram: str | None = None


@dataclass(frozen=True)
class OneSided:
    """Clips of a section, and the run that made the decisions.

    Args:
        run: Run that made the decisions.
        label: Name of the run.
        clips: Clips to show.
        note: How many of its decisions are one-sided; empty if that was not measured.
    """

    run: Run
    label: str
    clips: tuple[ClipView, ...]
    note: str = ""


def one_sided(results: ResultFolder, settings: Sequence[Setting], most: int, *, media: bool) -> OneSided | None:
    """Clips with the largest share of each modality, equally many of each, for the run that is best on val.

    Args:
        results: Results with the decisions.
        settings: Settings of the results.
        most: Number of clips, at most.
        media: Whether to show frames and sound.
    """
    run = best_run(settings)
    modalities = run.modalities
    mine = results.decisions.of([run.name]) if results.decisions is not None else None
    if most == 0 or mine is None or not mine.runs or mine.shares.shape[-1] != len(modalities) or len(modalities) < 2:
        return None
    selected = most_one_sided(mine.shares[0], most)
    media_by_id = _media(Path(run.record.cache), [str(mine.ids[i]) for i in selected]) if media else {}
    views = []
    for i in selected:
        frames, spectrogram = _pictures(media_by_id.get(str(mine.ids[i])))
        shares = dict(zip(modalities, map(float, mine.shares[0, i]), strict=True))
        target, pred = results.classes[mine.target[i]], results.classes[mine.preds[0, i]]
        views.append(ClipView(str(mine.ids[i]), target, pred, shares, frames, spectrogram))
    label = next(setting.label for setting in settings if any(member is run for member in setting.runs))
    part = run.measures.get("one_sided")
    note = "" if part is None else f"One-sided are {fraction(part)} of its decisions: the {TERMS['one-sided clips']}."
    return OneSided(run, f"{label}, seed {run.seed}", tuple(views), note) if views else None


def most_one_sided(shares: np.ndarray, most: int) -> list[int]:
    """Indices of the clips with the largest shares, alternating between the modalities.

    Args:
        shares: Shares, `(clips, modalities)`; NaN if a clip has none.
        most: Number of clips, at most.

    >>> most_one_sided(np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55]]), 2)
    [0, 2]
    """
    selected: list[int] = []
    ranked = [list(np.argsort(-np.nan_to_num(column, nan=-1.0), kind="stable")) for column in shares.T]
    valid = set(np.flatnonzero(np.isfinite(shares).all(-1)).tolist())
    while len(selected) < min(most, len(valid)):
        for column in ranked:
            free = [int(i) for i in column if int(i) in valid and int(i) not in selected]
            if free and len(selected) < most:
                selected.append(free[0])
    return selected


def _media(path: Path, ids: Sequence[str]) -> dict[str, Media]:
    """Decode the media of clips of a cache, which may be gone: id to media."""
    if not path.is_file():
        return {}
    with Cache.open(path) as cache:
        rows = {id_: row for row, id_ in enumerate(cache.table()["id"])}
        files = {id_: cached_media(cache, rows[id_]) for id_ in ids if id_ in rows}
    return {id_: decode_media(clip, NUM_FRAMES) for id_, clip in files.items()}


def _pictures(media: Media | None) -> tuple[tuple[str, ...], str | None]:
    """Frames and spectrogram as data URIs; empty and None if not available."""
    if media is None:
        return (), None
    frames = tuple(_jpeg(_thumbnail(frame)) for frame in media.frames)
    return frames, None if len(media.sound) < SAMPLE_RATE_HZ // 50 else _jpeg(spectrogram(media.sound))


def _thumbnail(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((max(1, round(image.width * FRAME_HEIGHT / image.height)), FRAME_HEIGHT))


def spectrogram(sound: np.ndarray) -> Image.Image:
    """Spectrogram of sound, `(samples,)` at 16 kHz: time to the right, 0 to 8 kHz upwards, 80 dB from dark to light."""
    _, _, power = signal.spectrogram(
        sound, SAMPLE_RATE_HZ, nperseg=min(400, len(sound)), noverlap=min(240, len(sound) // 2)
    )
    loud = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    scaled = np.clip(1 - loud / FLOOR_DB, 0, 1)[::-1]
    colors = matplotlib.colormaps["magma"](scaled)[..., :3]
    return Image.fromarray((255 * colors).astype(np.uint8)).resize(SPECTROGRAM_SIZE)


def _jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
