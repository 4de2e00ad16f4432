"""Runs of a folder, read back into groups that are measured together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from amr.common.devices import one_thread
from amr.fusion.data.folds import Fold, TrainingData, read_training_data
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.resolve import takes_steps
from amr.fusion.runs.read import Run, read_runs
from amr.fusion.runs.weights import model_shape, read_weights

T = TypeVar("T")
GROUP_NUMBERS = 2**25  # weights, or per-clip results, that a group may hold at once


def read_tested_runs(folder: Path) -> list[Run]:
    """Read the runs of a folder; each must have test clips.

    Raises:
        FileNotFoundError: The folder is neither a run nor a sweep.
        ValueError: A run has no test clips, or the sweep has no finished run.
    """
    runs = read_runs(folder)
    for run in runs:
        if run.test is None:
            raise ValueError(
                f"RUN must have test clips, got {str(run.folder)!r}, whose split has none. Fit again with "
                "--split-policy or --folds 5."
            )
    return runs


def count_unfinished(folder: Path) -> int:
    """Number of runs of a sweep that have no results: unfinished ones, and ones that diverged."""
    planned = [file.parent for file in folder.glob("runs/*/config.json")]
    return sum(not (run / "metrics.json").is_file() for run in planned)


class OpenedCaches:
    """Caches of runs, each opened once.

    Args:
        device: Device of the clips.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._opened: dict[Any, TrainingData] = {}

    def data(self, run: Run) -> TrainingData:
        """Clips of a run, split as in its fit; with steps if its head takes them.

        Raises:
            FileNotFoundError: The cache is gone.
            ValueError: The cache has other embeddings, classes or splits than in the fit.
        """
        data = self._open(run, takes_steps(run.config))
        _check(run, data)
        return data

    def pooled(self, run: Run) -> TrainingData:
        """Clips of a run, averaged over steps."""
        return self._open(run, False)

    def _open(self, run: Run, keep_steps: bool) -> TrainingData:
        cache, c = Path(run.record.cache), run.config
        key = (cache, run.modalities, keep_steps, c.label, c.split_policy, c.folds, c.split_seed, c.normalize)
        if key not in self._opened:
            if not cache.is_file():
                raise FileNotFoundError(f"RUN must have its cache at {cache}, got no file there. Move the cache back.")
            config = replace(c, cache=str(cache), modalities=",".join(run.modalities), device=self._device)
            self._opened[key] = read_training_data(config, keep_steps=keep_steps)
        return self._opened[key]


def _check(run: Run, data: TrainingData) -> None:
    infos = data.dataset.infos
    same = all(infos[m].fingerprint == info["fingerprint"] for m, info in run.record.modalities.items())
    sizes = [len(fold.test) for fold in data.folds]
    same = (
        same
        and data.dataset.classes == run.record.classes
        and sizes == [fold["test"]["num_clips"] for fold in run.folds]
    )
    if not same:
        raise ValueError(other_cache(run, data))


def other_cache(run: Run, data: TrainingData) -> str:
    """Message for a run whose cache has changed since it was fitted."""
    return (
        f"{data.cache} must hold the embeddings, labels and splits that {run.folder.name} was fitted on, got others. "
        "Fit again, or move the old cache back."
    )


@dataclass(frozen=True)
class RunGroup:
    """Runs of one shape and one cache.

    Args:
        runs: Runs, in the order of the run axis.
        data: Their clips.
    """

    runs: tuple[Run, ...]
    data: TrainingData

    def model(self, fold: int) -> FusionModel:
        """Models of all runs for one fold, stacked along the run axis.

        Raises:
            ValueError: The cache's splits are not those of the fit.
        """
        states = []
        for run in self.runs:
            folder = run.folder / f"fold-{fold}" if run.config.folds else run.folder
            state, normalization = read_weights(folder / "weights.safetensors", run.modalities)
            for m, mean in normalization.mean.items():
                if not torch.allclose(mean, self.data.folds[fold].normalization.mean[m], rtol=1e-4, atol=1e-5):
                    raise ValueError(other_cache(run, self.data))
            states.append(state)
        model = FusionModel(self.shape, [run.seed for run in self.runs])
        model.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
        return model.to(self.folds[fold].test.target.device).eval()

    @property
    def shape(self) -> ModelShape:
        """Shape of the models."""
        return model_shape(self.runs[0].record)

    @property
    def folds(self) -> tuple[Fold, ...]:
        """Folds of the clips."""
        return self.data.folds


def map_folds(group: RunGroup, function: Callable[[int], T]) -> list[T]:
    """Results of a function of each fold's number; on a CPU with one thread per fold, as a sweep trains."""

    def of_fold(k: int) -> T:
        if num_workers > 1:
            torch.set_num_threads(1)  # holds for the calling thread only
        return function(k)

    on_cpu = group.folds[0].test.target.device.type == "cpu"
    num_workers = min(torch.get_num_threads(), len(group.folds)) if on_cpu else 1
    with one_thread() if num_workers > 1 else nullcontext(), ThreadPoolExecutor(num_workers) as pool:
        return list(pool.map(of_fold, range(len(group.folds))))


def run_groups(runs: Sequence[Run], data_of: Callable[[Run], TrainingData]) -> list[RunGroup]:
    """Group runs of one shape and cache, so that each group fits into memory."""
    same_shape: list[tuple[Any, TrainingData, list[Run]]] = []
    for run in runs:
        shape, data = model_shape(run.record), data_of(run)
        for other_shape, other_data, members in same_shape:
            if other_shape == shape and other_data is data:
                members.append(run)
                break
        else:
            same_shape.append((shape, data, [run]))
    result = []
    for shape, data, members in same_shape:
        num_clips = sum(len(fold.test) for fold in data.folds)
        per_clip = 8 * 2 ** len(shape.embed_dims) + 4 * shape.head_shape.num_classes  # results of each run
        parameters = FusionModel(shape, [0]).num_parameters()
        size = max(1, GROUP_NUMBERS // max(num_clips * per_clip, parameters))
        result += [RunGroup(tuple(members[i : i + size]), data) for i in range(0, len(members), size)]
    return result
