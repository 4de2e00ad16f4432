"""What a group answers to everything it is asked about its test clips, clip by clip; and the measures made of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from amr.common.devices import one_thread
from amr.fusion.evaluate.bootstrap import fold_means
from amr.fusion.evaluate.groups import RunGroup
from amr.fusion.evaluate.measures import measures_for
from amr.fusion.evaluate.measures.base import Reliability
from amr.fusion.evaluate.measures.calibration import calibration_error
from amr.fusion.evaluate.measures.perturb import Name, Subject, train_statistics


@dataclass(frozen=True)
class PerClip:
    """A group's answers; the clips of all folds, one behind the other, each by its own fold's models.

    Args:
        modalities: of the runs, in order.
        folds: `(clips,)`: each clip's fold, ascending.
        rows: `(clips,)`: each clip's row in the cache.
        per_clip: name to `(run, clips)`: what a measure is the mean of; NaN where a clip has none.
        reliability: name to confidence and right, both `(run, clips, draws)`: what calibration errors are made of.
        probability: `(run, clips, classes)`.
        share: `(run, clips, modalities)`; NaN where a clip has none.
    """

    modalities: tuple[str, ...]
    folds: np.ndarray
    rows: np.ndarray
    per_clip: dict[Name, np.ndarray]
    reliability: dict[Name, tuple[np.ndarray, np.ndarray]]
    probability: np.ndarray
    share: np.ndarray

    def measures(self, weights: np.ndarray) -> dict[Name, np.ndarray]:
        """Every measure that is a mean over clips, or follows from such means, under weights `(rows, clips)`."""
        means = fold_means(self.per_clip, self.folds, weights)
        for measure in measures_for(len(self.modalities)):
            means |= measure.derived(means, self.modalities)
        return means

    def calibration_errors(self, weights: np.ndarray) -> dict[Name, np.ndarray]:
        """The calibration errors under the same weights; over the clips of all folds together."""
        result = {}
        for name, (confidence, right) in self.reliability.items():
            num_runs, _, draws = confidence.shape
            flat = confidence.reshape(num_runs, -1), right.reshape(num_runs, -1)
            result[name] = np.stack([calibration_error(*flat, np.repeat(row, draws)) for row in weights])
        return result


def measure_group(group: RunGroup, *, seed: int, noise_draws: int) -> PerClip:
    """Ask a group everything; on a CPU a thread a fold, as a sweep trains.

    Args:
        group: the runs.
        seed: of all that is drawn.
        noise_draws: draws of noise at each level.
    """

    def of_fold(k: int) -> PerClip:
        if num_workers > 1:
            torch.set_num_threads(1)  # a setting of each thread
        fold = group.folds[k]
        subject = Subject(group.model(k), fold.test, *train_statistics(fold.train), seed, noise_draws)
        return _of_fold(subject, k, fold.rows.test)

    on_cpu = group.folds[0].test.target.device.type == "cpu"
    num_workers = min(torch.get_num_threads(), len(group.folds)) if on_cpu else 1
    with one_thread() if num_workers > 1 else nullcontext(), ThreadPoolExecutor(num_workers) as pool:
        return _joined(list(pool.map(of_fold, range(len(group.folds)))))


def _of_fold(subject: Subject, fold: int, rows: np.ndarray) -> PerClip:
    per_clip: dict[Name, np.ndarray] = {}
    reliability: dict[Name, Reliability] = {}
    for measure in measures_for(len(subject.modalities)):
        per_clip |= {name: value.numpy() for name, value in measure.per_clip(subject).items()}
        reliability |= measure.reliability(subject)
    return PerClip(
        subject.modalities,
        np.full(len(rows), fold),
        rows,
        per_clip,
        reliability,
        subject.logits.softmax(-1).cpu().numpy(),
        subject.share.numpy(),
    )


def _side_by_side(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = zip(*parts, strict=True)
    return np.concatenate(confidence, axis=1), np.concatenate(right, axis=1)


def _joined(parts: Sequence[PerClip]) -> PerClip:
    first = parts[0]
    return PerClip(
        first.modalities,
        np.concatenate([part.folds for part in parts]),
        np.concatenate([part.rows for part in parts]),
        {name: np.concatenate([part.per_clip[name] for part in parts], axis=1) for name in first.per_clip},
        {name: _side_by_side([part.reliability[name] for part in parts]) for name in first.reliability},
        np.concatenate([part.probability for part in parts], axis=1),
        np.concatenate([part.share for part in parts], axis=1),
    )
