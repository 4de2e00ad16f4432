"""Runs of a folder, read back into groups that are measured together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from amr.common.devices import thread_pool
from amr.common.files import whole_file
from amr.common.workspace import TRAININGS
from amr.extract.cache.reader import Cache
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.corpus import read_corpus
from amr.fusion.data.folds import Fold, TrainingData, read_training_data
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.resolve import takes_steps
from amr.fusion.runs.measure import Measures, mean_measures, measure
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
    """Number of runs, or trainings, of a sweep that have no results: unfinished ones, and ones that diverged."""
    planned = [file.parent for part in ("runs", TRAININGS) for file in folder.glob(f"{part}/*/config.json")]
    return sum(not (run / "metrics.json").is_file() for run in planned)


def check_caches(runs: Sequence[Run]) -> None:
    """Raise FileNotFoundError if the cache of a run is gone, and ValueError for an audit, which has none."""
    for run in runs:
        run.record.check_fitted()
    for cache in dict.fromkeys(Path(run.record.cache) for run in runs):
        if not cache.is_file():
            raise FileNotFoundError(f"RUN must have its cache at {cache}, got no file there. Move the cache back.")


class OpenedCaches:
    """Caches of runs. The last one stays open: runs of a sweep have one in common, unless each trained its encoders.

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
        key = _key(run, keep_steps)
        if key not in self._opened:
            check_caches([run])
            self._opened = {other: data for other, data in self._opened.items() if other[0] == cache}
            config = replace(c, cache=str(cache), modalities=",".join(run.modalities), device=self._device)
            self._opened[key] = read_training_data(config, keep_steps=keep_steps)
        return self._opened[key]


class OtherCache:
    """Clips of another cache than those of the fits, the same for all runs; each run has its own normalization.

    Args:
        path: Cache file.
        device: Device of the clips.
        on_note: Function that is called with each remark on the clips, once.
    """

    def __init__(self, path: Path, device: str, on_note: Callable[[str], None]) -> None:
        self.path, self._device, self._on_note = path, device, on_note
        self._opened: dict[Any, TrainingData] = {}
        self._notes: set[str] = set()

    def data(self, run: Run) -> TrainingData:
        """Clips of the cache as a run sees them.

        Raises:
            ValueError: It is the run's own cache, or the clips do not fit.
        """
        if Path(run.record.cache).resolve() == self.path.resolve():
            raise ValueError(
                f"--cache must be another cache than that of the fit, got {str(self.path)!r}. "
                "Leave it out to measure on its test clips."
            )
        keep_steps = takes_steps(run.config)
        key = _key(run, keep_steps)
        if key not in self._opened:
            weights = [folder / "weights.safetensors" for folder in fold_folders(run)]
            self._opened[key] = read_corpus(
                self.path,
                run.record.modalities,
                run.record.classes,
                [read_weights(file, run.record)[1] for file in weights],
                label=run.config.label,
                standardized=run.config.normalize == "standard",
                keep_steps=keep_steps,
                device=self._device,
            )
            for note in (*self._opened[key].notes, *self._shared_ids(run)):
                if note not in self._notes:
                    self._on_note(note)
                self._notes.add(note)
        return self._opened[key]

    def _shared_ids(self, run: Run) -> list[str]:
        """A note if clips have the ids of the fit's own: heads may have been trained on them."""
        own = Path(run.record.cache)
        if not own.is_file():
            return []
        ids = []
        for path in (own, self.path):
            with Cache.open(path) as cache:
                ids.append({*cache.table()["id"]})
        shared = len(ids[0] & ids[1])
        return [f"{shared} of {len(ids[1])} clips have ids of the fit's cache: are they other clips?"] if shared else []


def _key(run: Run, keep_steps: bool) -> tuple[Any, ...]:
    """Everything that the clips of a run and their normalization depend on."""
    c = run.config
    splits = c.label, c.split_policy, c.folds, c.split_seed, c.keep_flagged, c.normalize
    return Path(run.record.cache), run.modalities, keep_steps, *splits


def fold_folders(run: Run) -> list[Path]:
    """Folder of each fold of a run; its own without folds."""
    return [run.folder / f"fold-{k}" for k in range(run.config.folds)] or [run.folder]


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
        f"{data.cache} must hold the embeddings, labels and splits that {run.name} was fitted on, got others. "
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
            file = fold_folders(run)[fold] / "weights.safetensors"
            state, normalization = read_weights(file, run.record)
            for m, mean in normalization.mean.items():
                if not torch.allclose(mean, self.data.folds[fold].normalization.mean[m], rtol=1e-4, atol=1e-5):
                    raise ValueError(other_cache(run, self.data))
            states.append(state)
        model = FusionModel(self.shape, [run.seed for run in self.runs])
        with whole_file(self.runs[0].folder, "RUN"):
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


def measured_anew(group: RunGroup) -> RunGroup:
    """The group with its runs' test measures on the group's own test clips, as a fit would measure them."""
    even = 1 / len(group.runs[0].modalities)
    targets = [run.record.target_share or dict.fromkeys(run.modalities, even) for run in group.runs]

    def of_fold(k: int) -> list[Measures]:
        clips = group.folds[k].test
        target = torch.tensor([[*target.values()] for target in targets], device=clips.target.device)
        return measure(group.model(k), clips, Attributor(), target) or []

    by_fold = map_folds(group, of_fold)
    runs = [
        replace(run, test=mean_measures(list(tests)), val=None, folds=tuple({"val": None, "test": t} for t in tests))
        for run, tests in zip(group.runs, zip(*by_fold, strict=True), strict=True)
    ]
    return RunGroup(tuple(runs), group.data)


def map_folds(group: RunGroup, function: Callable[[int], T]) -> list[T]:
    """Results of a function of each fold's number; on a CPU with one thread per fold, as a sweep trains."""

    on_cpu = group.folds[0].test.target.device.type == "cpu"
    num_workers = min(torch.get_num_threads(), len(group.folds)) if on_cpu else 1
    with thread_pool(num_workers) as pool:
        return list(pool.map(function, range(len(group.folds))))


def run_groups(runs: Sequence[Run], data_of: Callable[[Run], TrainingData]) -> Iterator[RunGroup]:
    """Group runs of one shape and cache, so that each group fits into memory; their clips are read one by one."""
    same_shape: list[tuple[Any, list[Run]]] = []
    for run in runs:
        kind = _key(run, takes_steps(run.config)), model_shape(run.record)
        for other, members in same_shape:
            if other == kind:
                members.append(run)
                break
        else:
            same_shape.append((kind, [run]))
    for (_, shape), members in same_shape:
        data, *_ = [data_of(run) for run in members]  # each is checked
        num_clips = sum(len(fold.test) for fold in data.folds)
        per_clip = 8 * 2 ** len(shape.embed_dims) + 4 * shape.head_shape.num_classes  # results of each run
        for run in members:  # models are built, and others trained, by the sizes in config.json only if they are right
            read_weights(fold_folders(run)[0] / "weights.safetensors", run.record)
        parameters = FusionModel(shape, [0]).num_parameters()
        size = max(1, GROUP_NUMBERS // max(num_clips * per_clip, parameters))
        for i in range(0, len(members), size):
            yield RunGroup(tuple(members[i : i + size]), data)
