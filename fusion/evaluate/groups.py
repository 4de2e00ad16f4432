"""The runs of a folder, read back into groups that are questioned together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from amr.fusion.config import FitConfig
from amr.fusion.data.folds import Fold, Source, open_source
from amr.fusion.fit import takes_steps
from amr.fusion.model import FusionModel
from amr.fusion.runs.measure import Measures
from amr.fusion.runs.record import RunRecord, read_weights

GROUP_NUMBERS = 2**25  # of weights, or of per-clip results, that a group may hold at once


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what it says of itself, and what it measured on test when it was fitted.

    Args:
        folder: of the run.
        record: its config.json.
        test: measures of the test part, the mean over folds.
        folds: the same for each fold; one where there are no folds.
    """

    folder: Path
    record: RunRecord
    test: Measures
    folds: tuple[Measures, ...]

    @property
    def config(self) -> FitConfig:
        """The fit's settings."""
        return self.record.config

    @property
    def modalities(self) -> tuple[str, ...]:
        """The run's, in order."""
        return tuple(self.record.modalities)

    @property
    def setting(self) -> dict[str, Any]:
        """What tells runs apart but for the seed, with the columns of results.csv."""
        c = self.config
        return {
            "head": "-" if c.method in ("ume", "unimodal") else c.head,
            "method": c.method,
            "modalities": list(self.modalities),
            "amr_ratio": c.amr_ratio or "none",
            "amr_weight": c.amr_weight if c.amr_ratio else None,
            "lr": c.lr,
        }


def read_runs(folder: Path) -> list[Run]:
    """The run of a folder of `amr fit`, or the finished runs of one of `amr sweep` or `amr table`.

    Raises:
        FileNotFoundError: the folder is neither.
        ValueError: a run has no test clips, or a sweep no finished run.
    """
    if (folder / "config.json").is_file():
        return [_read(folder)]
    if not (folder / "sweep.json").is_file():
        raise FileNotFoundError(
            f"RUN must be the folder of a run or of a sweep, got {str(folder)!r}. Make one with amr fit or amr sweep."
        )
    finished = sorted(file.parent for file in folder.glob("runs/*/metrics.json"))
    results = folder / "results.csv"
    if results.is_file():  # in the order asked for
        order = {name: i for i, name in enumerate(pd.read_csv(results, dtype=str)["run"].unique())}
        finished.sort(key=lambda run: order.get(run.name, len(order)))
    if not finished:
        raise ValueError(f"RUN must be a sweep with finished runs, got {str(folder)!r}. Run the same amr sweep again.")
    return [_read(run) for run in finished]


def _read(folder: Path) -> Run:
    record = RunRecord.load(folder)
    file = folder / "metrics.json"
    if not file.is_file():
        raise FileNotFoundError(f"RUN must be a finished run, got {str(folder)!r}. Fit it again with amr fit.")
    metrics = json.loads(file.read_text())
    if metrics["test"] is None:
        raise ValueError(
            f"RUN must have test clips, got {str(folder)!r}, whose split has none. Fit again with --split-policy or "
            "--folds 5."
        )
    folds = [fold["test"] for fold in metrics.get("folds", [metrics])]
    return Run(folder, record, metrics["test"], tuple(folds))


class Sources:
    """The caches of runs, each opened once.

    Args:
        device: where the clips go.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._opened: dict[Any, Source] = {}

    def of(self, run: Run) -> Source:
        """The run's clips, divided as it was fitted, steps kept where its head takes them.

        Raises:
            FileNotFoundError: the cache is gone.
            ValueError: the cache holds other embeddings, classes or parts than the run was fitted on.
        """
        source = self._open(run, takes_steps(run.config))
        _check(run, source)
        return source

    def averaged(self, run: Run) -> Source:
        """The same clips with their steps averaged."""
        return self._open(run, False)

    def _open(self, run: Run, keep_steps: bool) -> Source:
        cache, c = Path(run.record.cache), run.config
        key = (cache, run.modalities, keep_steps, c.label, c.split_policy, c.folds, c.split_seed, c.normalize)
        if key not in self._opened:
            if not cache.is_file():
                raise FileNotFoundError(f"RUN must have its cache where it was, at {cache}, got none. Bring it back.")
            config = replace(c, cache=str(cache), modalities=",".join(run.modalities), device=self._device)
            self._opened[key] = open_source(config, keep_steps=keep_steps)
        return self._opened[key]


def _check(run: Run, source: Source) -> None:
    infos = source.dataset.infos
    same = all(infos[m].fingerprint == info["fingerprint"] for m, info in run.record.modalities.items())
    sizes = [len(fold.test) for fold in source.folds]
    same = same and source.dataset.classes == run.record.classes and sizes == [m["num_clips"] for m in run.folds]
    if not same:
        raise ValueError(other_cache(run, source))


def other_cache(run: Run, source: Source) -> str:
    """Why a run is refused whose cache has changed since it was fitted."""
    return (
        f"{source.cache} must hold the embeddings, labels and parts that {run.folder.name} was fitted on, got others. "
        "Fit again, or bring the cache back."
    )


@dataclass(frozen=True)
class Group:
    """Runs of one shape, of one source.

    Args:
        runs: in the order of the models.
        source: their clips.
    """

    runs: tuple[Run, ...]
    source: Source

    def model(self, fold: int) -> FusionModel:
        """The fold's models of all runs, one beside the other.

        Raises:
            ValueError: the cache's parts are not those of the fit.
        """
        states = []
        for run in self.runs:
            folder = run.folder / f"fold-{fold}" if run.config.folds else run.folder
            state, normalization = read_weights(folder / "weights.safetensors", run.modalities)
            for m, mean in normalization.mean.items():
                if not torch.allclose(mean, self.source.folds[fold].normalization.mean[m], rtol=1e-4, atol=1e-5):
                    raise ValueError(other_cache(run, self.source))
            states.append(state)
        model = FusionModel(self.runs[0].record.shape, [run.config.seed for run in self.runs])
        model.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
        return model.to(self.folds[fold].test.target.device).eval()

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The source's."""
        return self.source.folds


def groups(runs: Sequence[Run], source_of: Callable[[Run], Source]) -> list[Group]:
    """Runs of one shape and source together, no more than memory has room for."""
    alike: list[tuple[Any, Source, list[Run]]] = []
    for run in runs:
        shape, source = run.record.shape, source_of(run)
        for other, other_source, members in alike:
            if other == shape and other_source is source:
                members.append(run)
                break
        else:
            alike.append((shape, source, [run]))
    result = []
    for shape, source, members in alike:
        num_clips = sum(len(fold.test) for fold in source.folds)
        per_clip = 8 * 2 ** len(shape.embed_dims) + 4 * shape.head_shape.num_classes  # results of each run
        parameters = FusionModel(shape, [0]).num_parameters()
        size = max(1, GROUP_NUMBERS // max(num_clips * per_clip, parameters))
        result += [Group(tuple(members[i : i + size]), source) for i in range(0, len(members), size)]
    return result
