"""Fit the settings of a frontier, measure them, and choose a head: `amr frontier`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.cluster.options import ClusterOptions
from amr.common.options import in_shell, quoted
from amr.common.progress import Progress
from amr.common.workspace import find_run
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.choices import SCORES, Score
from amr.fusion.data.folds import TrainingData, modalities_of, read_training_data
from amr.fusion.evaluate.groups import OpenedCaches
from amr.fusion.evaluate.write import rounded
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.finished import measure_finished
from amr.fusion.frontier.front import Target, best_of, front_of, price_of, reported
from amr.fusion.frontier.measure import Measured, measure
from amr.fusion.frontier.settings import settings_of
from amr.fusion.frontier.write import write
from amr.fusion.methods import methods
from amr.fusion.recipes.given import recipe_settings
from amr.fusion.resolve import takes_steps
from amr.fusion.runs.read import read_runs
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

FORMAT = "amr-frontier"
VERSION = 1


@dataclass(frozen=True)
class Frontier:
    """Result of a frontier.

    Args:
        folder: Folder of the runs, with frontier.json, frontier.csv and frontier.png.
        document: Content of frontier.json.
        notes, warnings, diverged: As of a sweep.
    """

    folder: Path
    document: dict[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Document of `amr frontier --json`."""
        return self.document


def frontier(
    config: FrontierConfig,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    cluster: ClusterOptions | None = None,
) -> Frontier:
    """Fit heads with and without the regularizer and with controls, and compare accuracy and use.

    Args:
        config: Settings of the frontier. With `runs`, nothing is fitted: the finished runs there are compared.
        progress: Listener.
        overwrite: Whether to replace another sweep in the folder.
        cluster: Cluster whose workers fit the heads; by default this process does.

    Raises:
        ValueError: The config does not fit the cache, or the folder holds something else.
        FileNotFoundError: The cache does not exist.
        RuntimeError: Another process works in the folder, or the plain heads diverged.
    """
    progress = progress or Progress()
    if config.runs is not None:
        return _of_finished(config, find_run(config.runs, "--runs"), progress)
    modalities = modalities_of(config)
    _check(config, modalities)
    settings = settings_of(config, modalities)
    fits = [setting.config for setting in settings if setting.config is not None]
    seeds = tuple(range(config.seeds))
    request = SweepConfig(fits[0], seed=seeds, also=tuple(fits[1:]))
    swept = sweep(request, progress, overwrite=overwrite, cluster=cluster)
    runs = read_runs(swept.folder)
    caches = OpenedCaches(config.device)
    measured = measure(settings, runs, caches)
    if measured[0].setting.config != fits[0]:
        raise RuntimeError("the plain heads must stay finite, got none that did. Pass a smaller --lr.")
    document = rounded(_document(config, swept.folder, measured, caches.data(runs[0])))
    write(swept.folder, document)
    return Frontier(swept.folder, document, swept.notes, swept.warnings, swept.diverged)


def _of_finished(config: FrontierConfig, folder: Path, progress: Progress) -> Frontier:
    """Compare the finished runs of a folder."""
    runs, caches = read_runs(folder, "--runs"), OpenedCaches(config.device)
    measured = measure_finished(runs, caches, progress)
    plain = measured[0].runs[0]
    if config.use is not None:
        parse_ratio(config.use, plain.modalities, name="--use")
    of_runs = {
        "label": plain.config.label,
        "folds": plain.config.folds,
        "config": _changed(replace(config, runs=str(folder))),
    }
    document = rounded(_document(config, folder, measured, caches.data(plain)) | of_runs)
    write(folder, document)
    return Frontier(folder, document)


def _check(config: FrontierConfig, modalities: Sequence[str]) -> None:
    if len(modalities) < 2:
        raise ValueError(
            f"--modalities must be two or more, got {', '.join(modalities)}. A single one is all that a head can use."
        )
    if not methods[config.method].fuses:
        if config.recipe is not None:
            raise ValueError(
                f"--recipe must be of a method that fuses modalities, got {config.recipe}, of {config.method}. "
                "Leave it out."
            )
        raise ValueError(f"--method must fuse modalities, got {config.method}, which does not. Leave it out.")
    if config.use is not None:
        parse_ratio(config.use, modalities, name="--use")
    if config.folds == 0:  # folds always have both
        (fold,) = read_training_data(replace(config.fit, device="cpu"), keep_steps=takes_steps(config.fit)).folds
        if len(fold.val) == 0 or len(fold.test) == 0:
            raise ValueError(
                f"--folds must be 3 or more if the split has no val and test clips, got {config.folds}. Pass --folds 5."
            )


def _document(config: FrontierConfig, folder: Path, measured: Sequence[Measured], data: TrainingData) -> dict[str, Any]:
    modalities = measured[0].modalities
    even = ":".join("1" * len(modalities))
    shares = parse_ratio(config.use or even, modalities, name="--use")
    target = Target(np.array(shares), data.overlap, config.max_cost, SCORES[data.dataset.task])
    front = front_of(measured, target)
    on_front = {m.setting.label for m in front}
    priced = {m.setting.label: price_of(m, measured[0], target) for m in measured[1:]}
    entries = {
        m.setting.label: reported(m, target)
        | {"on_front": m.setting.label in on_front, "price": priced.get(m.setting.label)}
        for m in measured
    }
    nearest = front[-1].setting.label if front else ""
    return {
        "format": FORMAT,
        "version": VERSION,
        "folder": str(folder),
        "cache": str(data.cache),
        "label": config.label,
        "task": data.dataset.task,
        "modalities": [*modalities],
        "num_clips": sum(len(fold.test) for fold in data.folds),
        "folds": config.folds,
        "target": dict(zip(modalities, shares, strict=True)),
        "max_cost": config.max_cost,
        "config": _changed(config),
        "settings": [*entries.values()],
        "front": [entries[m.setting.label] for m in front],
        "price": {m: {"setting": nearest, **price} for m, price in (priced.get(nearest) or {}).items()},
        "best": _best(best_of(measured, target), folder, data, target.score),
    }


def _changed(config: FrontierConfig) -> dict[str, Any]:
    """Options other than the defaults, and those that its recipe has, which a default does not undo."""
    left_out = ("out", "device", "logger")
    values = {each.name: (getattr(config, each.name), each.default) for each in fields(FrontierConfig)}
    of_recipe = {} if config.recipe is None else recipe_settings(config.recipe, values)
    changed = {name: value for name, (value, default) in values.items() if value != default or name in of_recipe}
    return {name: value for name, value in changed.items() if value is not None and name not in left_out}


def _best(setting: Measured | None, folder: Path, data: TrainingData, score: Score) -> dict[str, Any] | None:
    """The chosen setting's run with the best score on val."""
    if setting is None:
        return None
    i = int(np.argmax(setting.val.gain.mean(1)))
    run = folder / "runs" / setting.runs[i].name
    clip = str(data.dataset.clips["id"].iloc[int(data.folds[0].rows.test[0])])
    use_share = setting.test.use_share[i].mean(0)
    return {
        "run": str(run),
        "setting": setting.setting.label,
        score.name: float(score.gain(setting.test.gain[i].mean())),
        "use_share": dict(zip(setting.modalities, use_share.tolist(), strict=True)),
        "predict": f"amr predict {quoted(run)} {in_shell(f'--clip={clip}' if clip[:1] == '-' else clip)}",
    }
