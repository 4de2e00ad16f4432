"""Clips of the best run: its most one-sided decisions, and its most costly errors, to see and to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from amr.data_manifests.schema import TEXT
from amr.fusion.explain.explanation import Steps
from amr.fusion.report.clips.media import Shown, shown_media
from amr.fusion.report.read import Decisions, ResultFolder
from amr.fusion.report.settings import Setting, best_run
from amr.fusion.report.tables import TERMS, fraction
from amr.fusion.runs.read import Run


@dataclass(frozen=True)
class ClipView:
    """One clip on the page.

    Args:
        id: Id of the clip.
        target, pred: Names of the true and the predicted class.
        shares: Modality to its share of the decision; empty if it has none.
        confidence: Probability of the predicted class; None if it is not known.
        true_probability: Probability of the true class; None if it is not known.
        media: Frames and sound.
        steps: Modality to the weights of its time steps; empty if embeddings have no steps.
    """

    id: str
    target: str
    pred: str
    shares: Mapping[str, float]
    confidence: float | None = None
    true_probability: float | None = None
    media: Shown = field(default_factory=Shown)
    steps: Mapping[str, Steps] = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """Clips of one kind.

    Args:
        name: Name, unique within its section of the page.
        title: Heading.
        text: Explanation of how they were chosen.
        clips: Clips to show.
    """

    name: str
    title: str
    text: str
    clips: tuple[ClipView, ...]


@dataclass(frozen=True)
class Galleries:
    """Clips of a section, and the run that made the decisions.

    Args:
        run: Run that made the decisions.
        label: Name of the run.
        galleries: Clips of each kind.
    """

    run: Run
    label: str
    galleries: tuple[Gallery, ...]

    @property
    def has_steps(self) -> bool:
        """Whether a clip shows when a modality mattered."""
        return any(clip.steps for gallery in self.galleries for clip in gallery.clips)


def galleries(results: ResultFolder, settings: Sequence[Setting], most: int, *, media: bool) -> Galleries | None:
    """Clips of the run that is best on val; None if its decisions are not known, or no clips are wanted.

    Args:
        results: Results with the decisions.
        settings: Settings of the results.
        most: Number of clips of each kind, at most.
        media: Whether to show frames and sound.
    """
    run = best_run(settings)
    mine = results.decisions.of([run.name]) if results.decisions is not None else None
    if most == 0 or mine is None or not mine.runs:
        return None
    has_shares = mine.shares.shape[-1] == len(run.modalities) > 1
    selected = {
        "clips": most_one_sided(mine.shares[0], most) if has_shares else [],
        "errors": most_costly(mine, most),
    }
    indices = list(dict.fromkeys(i for each in selected.values() for i in each))
    views = _views(results, run, mine, indices, has_shares=has_shares, media=media)
    texts = {
        "clips": (
            "Clips with the most one-sided decisions",
            "Test clips with the largest share (part of the decision) of each modality." + _one_sided_note(run),
        ),
        "errors": (
            "Clips with the most costly errors",
            "Wrong predictions on test clips, those first that give the true class the least probability."
            if mine.probability is not None
            else "Wrong predictions on test clips, the surest first.",
        ),
    }
    found = [Gallery(name, *texts[name], tuple(views[i] for i in each)) for name, each in selected.items() if each]
    label = next(setting.label for setting in settings if any(member is run for member in setting.runs))
    return Galleries(run, f"{label}, seed {run.seed}", tuple(found)) if found else None


def _one_sided_note(run: Run) -> str:
    part = run.measures.get("one_sided")
    return "" if part is None else f" One-sided are {fraction(part)} of its decisions: the {TERMS['one-sided clips']}."


def _views(
    results: ResultFolder, run: Run, mine: Decisions, indices: Sequence[int], *, has_shares: bool, media: bool
) -> dict[int, ClipView]:
    """Index of each clip to its view."""
    ids = {i: str(mine.ids[i]) for i in indices}
    shown = shown_media(Path(run.record.cache), [*ids.values()]) if media else {}
    if TEXT not in {info["modality"] for info in run.record.modalities.values()}:
        shown = {id_: replace(each, text="") for id_, each in shown.items()}
    folds = {ids[i]: 0 if mine.fold is None else int(mine.fold[i]) for i in indices}
    steps = _steps(run, folds, {id_: each.durations for id_, each in shown.items()})
    views = {}
    for i, id_ in ids.items():
        shares = mine.shares[0, i]
        known = has_shares and bool(np.isfinite(shares).all())
        views[i] = ClipView(
            id_,
            results.classes[mine.target[i]],
            results.classes[mine.preds[0, i]],
            dict(zip(run.modalities, map(float, shares), strict=True)) if known else {},
            None if mine.confidence is None else float(mine.confidence[0, i]),
            None if mine.probability is None else float(mine.probability[0, i, mine.target[i]]),
            shown.get(id_, Shown()),
            steps.get(id_, {}),
        )
    return views


def _steps(
    run: Run, folds: Mapping[str, int], durations: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Steps]]:
    """Weights of the time steps; empty if the run's cache or weights are gone or others."""
    if not Path(run.record.cache).is_file() or (run.config.folds == 0 and not (run.folder / WEIGHTS).is_file()):
        return {}
    from amr.fusion.explain.when import when_it_mattered

    try:
        return when_it_mattered(run.folder, folds, durations)
    except (ValueError, OSError, RuntimeError):  # pages are made of what is left of results
        return {}


WEIGHTS = "weights.safetensors"


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


def most_costly(mine: Decisions, most: int) -> list[int]:
    """Indices of the wrong predictions of one run with the largest loss; the surest, if only their own is known.

    Args:
        mine: Decisions of one run.
        most: Number of clips, at most.
    """
    wrong = np.flatnonzero((mine.preds[0] != mine.target) & (mine.preds[0] >= 0) & (mine.target >= 0))
    if mine.confidence is None:
        return []
    # of equal probabilities of the true class, as two that are rounded to 0, the surer error costs more
    cost = -mine.confidence[0, wrong].astype(float)
    if mine.probability is not None:
        cost = mine.probability[0, wrong, mine.target[wrong]].astype(float) + 1e-6 * cost
    return [int(i) for i in wrong[np.argsort(cost, kind="stable")[:most]]]
