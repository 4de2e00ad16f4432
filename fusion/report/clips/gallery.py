"""Clips of the best run: its most one-sided decisions, and its most costly errors, to see and to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.data_manifests.schema import TEXT
from amr.fusion.explain.explanation import Steps
from amr.fusion.report.clips.media import Shown, shown_media
from amr.fusion.report.decisions import Decisions
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, best_run, of_best_run
from amr.fusion.report.tables import TERMS, fraction
from amr.fusion.runs.read import Run


@dataclass(frozen=True)
class ClipView:
    """One clip on the page.

    Args:
        id: Id of the clip.
        target, pred: Names of the true and the predicted class, labels joined by commas, or numbers.
        is_right: Whether the decision is right; None of a number.
        shares: Modality to its share of the decision; empty if it has none.
        confidence: Probability of the predicted class; None if it is not known.
        true_probability: Probability of the true class; None if it is not known.
        media: Frames and sound.
        steps: Modality to the weights of its time steps; empty if embeddings have no steps.
    """

    id: str
    target: str
    pred: str
    is_right: bool | None
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
        galleries: Clips of each kind.
    """

    run: Run
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
    of_run = of_best_run(settings)
    texts = {
        "clips": (
            "Clips with the most one-sided decisions",
            f"Test clips{of_run} with the largest share (part of the decision) of each modality."
            + _one_sided_note(run),
        ),
        "errors": (
            f"Clips with the {'largest' if mine.task == 'regression' else 'most costly'} errors",
            _order(mine, of_run),
        ),
    }
    found = [Gallery(name, *texts[name], tuple(views[i] for i in each)) for name, each in selected.items() if each]
    return Galleries(run, tuple(found)) if found else None


def _order(mine: Decisions, of_run: str) -> str:
    """Words for the order of errors."""
    if mine.task == "regression":
        return f"Test clips{of_run} whose prediction is the furthest from the true number."
    if mine.task == "multilabel":
        return f"Test clips{of_run} with a wrong label, those first whose labels are given the least probability."
    if mine.probability is None:
        return f"Wrong predictions on test clips{of_run}, the surest first."
    return f"Wrong predictions on test clips{of_run}, those first that give the true class the least probability."


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
        is_class = mine.task == "multiclass"
        views[i] = ClipView(
            id_,
            _text(mine.target[i], results.classes, mine.task),
            _text(mine.preds[0, i], results.classes, mine.task),
            None if mine.task == "regression" else bool(mine.right[0, i]),
            dict(zip(run.modalities, map(float, shares), strict=True)) if known else {},
            None if mine.confidence is None else float(mine.confidence[0, i]),
            float(mine.probability[0, i, mine.target[i]]) if is_class and mine.probability is not None else None,
            shown.get(id_, Shown()),
            steps.get(id_, {}),
        )
    return views


def _text(decided: Any, classes: Sequence[str], task: str) -> str:
    """Name of a class, labels, or a number."""
    if task == "multilabel":
        return ", ".join(classes[int(i)] for i in np.flatnonzero(decided)) or "no label"
    return classes[int(decided)] if task == "multiclass" else f"{decided:.3f}"


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
    """Indices of the wrong predictions of one run with the largest loss, or the largest errors of numbers.

    Args:
        mine: Decisions of one run.
        most: Number of clips, at most.
    """
    if mine.task == "multiclass" and mine.confidence is None:
        return []
    wrong = np.flatnonzero(mine.tested[0] & ~mine.right[0])
    return [int(i) for i in wrong[np.argsort(-mine.errors[0, wrong], kind="stable")[:most]]]
