"""Results of a run group for each test clip, and the measures made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from amr.fusion.data.folds import Fold
from amr.fusion.data.normalization import train_statistics
from amr.fusion.data.targets import readable
from amr.fusion.evaluate.bootstrap import fold_means
from amr.fusion.evaluate.groups import RunGroup, map_folds
from amr.fusion.evaluate.measures import measures_for
from amr.fusion.evaluate.measures.base import Reliability
from amr.fusion.evaluate.measures.calibration import calibration_error
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.references.scaling import unit_of
from amr.fusion.evaluate.references.unimodal import ComparedSubject, Reference
from amr.fusion.tasks import tasks


@dataclass(frozen=True)
class PerClip:
    """Results of a run group for each clip: clips of all folds concatenated, each measured on its own fold's models.

    Args:
        modalities: Modalities of the runs, in order.
        folds: Fold of each clip, `(clips,)`, ascending.
        rows: Row of each clip in the cache, `(clips,)`.
        values: Name to `(run, clips)`, whose mean is a measure; NaN if a clip has no value.
        reliability: Name of a calibration error to confidence and correctness, both `(run, clips, draws)`.
        probability: Probabilities of classes or labels, or numbers, `(run, clips, outputs)`.
        share: Shares, `(run, clips, modalities)`; NaN if a clip has none.
        task: What was predicted.
    """

    modalities: tuple[str, ...]
    folds: np.ndarray
    rows: np.ndarray
    values: dict[Name, np.ndarray]
    reliability: dict[Name, tuple[np.ndarray, np.ndarray]]
    probability: np.ndarray
    share: np.ndarray
    task: str = "multiclass"

    def measures(self, weights: np.ndarray) -> dict[Name, np.ndarray]:
        """Measures that are means over clips, or derived from such means, under weights `(rows, clips)`."""
        means = fold_means(self.values, self.folds, weights)
        for measure in measures_for(len(self.modalities), self.task):
            means |= measure.derived(means, self.modalities)
        return means

    def calibration_errors(self, weights: np.ndarray) -> dict[Name, np.ndarray]:
        """Calibration errors under the same weights, over the clips of all folds together."""
        result = {}
        for name, (confidence, correct) in self.reliability.items():
            num_runs, _, draws = confidence.shape
            flat = confidence.reshape(num_runs, -1), correct.reshape(num_runs, -1)
            result[name] = np.stack([calibration_error(*flat, np.repeat(row, draws)) for row in weights])
        return result


def measure_group(
    group: RunGroup, reference_of: Callable[[int], Reference] | None = None, *, seed: int, noise_draws: int
) -> PerClip:
    """Measure a run group.

    Args:
        group: Runs to measure.
        reference_of: Function of a fold's number that returns the uni-modal heads of the runs; None for no comparison.
        seed: Seed of all random draws.
        noise_draws: Number of noise draws per level.
    """

    def of_fold(k: int) -> PerClip:
        fold = group.folds[k]
        subject = ComparedSubject(
            group.model(k),
            fold.test,
            *train_statistics(fold.train),
            seed,
            noise_draws,
            tasks[group.runs[0].config.task],
            unit_of(fold),
            reference=None if reference_of is None else reference_of(k),
        )
        return _measure_fold(subject, k, fold)

    return _concatenated(map_folds(group, of_fold))


def _measure_fold(subject: Subject, number: int, fold: Fold) -> PerClip:
    values: dict[Name, np.ndarray] = {}
    reliability: dict[Name, Reliability] = {}
    for measure in measures_for(len(subject.modalities), subject.task.name):
        values |= {name: value.numpy() for name, value in measure.per_clip(subject).items()}
        reliability |= measure.reliability(subject)
    return PerClip(
        subject.modalities,
        np.full(len(fold.rows.test), number),
        fold.rows.test,
        values,
        reliability,
        readable(subject.logits, subject.task, fold.target_scale).cpu().numpy(),
        subject.share.numpy(),
        subject.task.name,
    )


def _concatenated(folds: Sequence[PerClip]) -> PerClip:
    first = folds[0]
    return PerClip(
        first.modalities,
        np.concatenate([fold.folds for fold in folds]),
        np.concatenate([fold.rows for fold in folds]),
        {name: np.concatenate([fold.values[name] for fold in folds], axis=1) for name in first.values},
        {name: _concatenated_pairs([fold.reliability[name] for fold in folds]) for name in first.reliability},
        np.concatenate([fold.probability for fold in folds], axis=1),
        np.concatenate([fold.share for fold in folds], axis=1),
        first.task,
    )


def _concatenated_pairs(folds: Sequence[Reliability]) -> Reliability:
    confidence, correct = zip(*folds, strict=True)
    return np.concatenate(confidence, axis=1), np.concatenate(correct, axis=1)
