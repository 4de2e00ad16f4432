"""Fit heads on a cache: `amr fit`, and the groups of `amr sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.workspace import runs_dir
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.config import FitConfig
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.folds import Source, open_source
from amr.fusion.heads import heads
from amr.fusion.methods import methods, parse_options
from amr.fusion.runs.measure import Measures, mean_measures
from amr.fusion.runs.record import RunRecord, new_folder, write_json
from amr.fusion.runs.write import FoldMeasures, write_group
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import DIVERGED, train_group

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FitResult:
    """What a fit comes to.

    Args:
        run: its folder.
        record: what its config.json says.
        val, test: measures of the parts; None where there is no such clip.
        folds: the same for each fold, where there are folds.
    """

    run: Path
    record: RunRecord
    val: Measures | None
    test: Measures | None
    folds: tuple[dict[str, Measures | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `amr fit --json`."""
        result: dict[str, Any] = {
            "run": str(self.run),
            "config": asdict(self.record.config),
            "val": self.val,
            "test": self.test,
            "notes": list(self.record.notes),
        }
        if self.folds:
            result["folds"] = list(self.folds)
        return result


def fit(config: FitConfig, progress: Progress | None = None) -> FitResult:
    """Fit a head on a cache's train clips, choose the epoch on val, test once, and write the run folder.

    Args:
        config: what to do.
        progress: called with epochs done and epochs in all.

    Raises:
        ValueError: the request does not fit the cache.
        FileNotFoundError: there is no such cache.
        RuntimeError: training diverged.
    """
    source = open_source(config, keep_steps=takes_steps(config))
    config = resolve(config, source.dataset)
    config, folder = new_folder(config, source.cache, runs_dir())
    result = fit_group([record_of(config, source)], [folder], source, progress)[0]
    if result is None:
        raise RuntimeError(f"training must stay finite, got a loss or weights that did not. {DIVERGED}")
    return result


def fit_group(
    records: Sequence[RunRecord],
    folders: Sequence[Path],
    source: Source,
    progress: Progress | None = None,
    *,
    with_predictions: bool = True,
) -> list[FitResult | None]:
    """Fit runs of one recipe together and write each one's folder; None for a run that diverged.

    Args:
        records: of one recipe (`recipe_of`).
        folders: where each goes.
        source: the cache they are of.
        progress: called with epochs done and epochs in all, over all folds.
        with_predictions: write predictions.csv, too.
    """
    cross_validated = records[0].config.folds > 0
    for record, folder in zip(records, folders, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        record.save(folder)
    by_fold: list[list[FoldMeasures]] = []
    diverged = np.zeros(len(records), bool)
    for k, fold in enumerate(source.folds):
        whole = None if progress is None else _scaled(progress, k, len(source.folds))
        members = [member_of(record) for record in records]
        fitted = train_group(recipe_of(records[0]), members, fold.train, fold.val, whole)
        diverged |= fitted.diverged.numpy()
        places = [folder / f"fold-{k}" if cross_validated else folder for folder in folders]
        by_fold.append(write_group(records, places, source.dataset, fold, fitted, with_predictions=with_predictions))
    return [
        None if diverged[run] else _result(record, folder, [results[run] for results in by_fold], cross_validated)
        for run, (record, folder) in enumerate(zip(records, folders, strict=True))
    ]


def _result(record: RunRecord, folder: Path, folds: list[FoldMeasures], cross_validated: bool) -> FitResult:
    if not cross_validated:
        return FitResult(folder, record, folds[0]["val"], folds[0]["test"])
    val, test = (mean_measures([m for fold in folds if (m := fold[part]) is not None]) for part in ("val", "test"))
    write_json(folder / "metrics.json", {"val": val, "test": test, "folds": folds})
    return FitResult(folder, record, val, test, tuple(folds))


def takes_steps(config: FitConfig) -> bool:
    """Whether the config's head takes embeddings with their steps.

    Raises:
        ValueError: there is no such method or head.
    """
    return heads[methods[config.method].head or config.head].takes_steps


def record_of(config: FitConfig, source: Source) -> RunRecord:
    """What a run of a resolved config says of itself."""
    notes = (*source.notes, *methods[config.method].notes(str(config.optimizer)))
    return RunRecord(config, source.dataset.classes, source.describe(), str(source.cache.resolve()), notes)


def resolve(config: FitConfig, dataset: Dataset) -> FitConfig:
    """The config with the method's own settings filled in, checked against the cache.

    Raises:
        ValueError: a name or a combination that cannot be.
    """
    method = methods[config.method]
    if method.head is None:
        heads[config.head].check(config.hidden, dataset.modalities, config.condition)
    method.check(dataset.modalities)
    if method.needs_adapter and config.adapter == "none":
        raise ValueError(
            f"--adapter must be linear or mlp for --method {config.method}, which acts on what stands in for the "
            "encoders, got none. Pass --adapter linear."
        )
    if config.amr_ratio is not None:
        if not method.takes_ratio:
            raise ValueError(
                f"--amr-ratio must be left out for --method {config.method}, got {config.amr_ratio!r}: "
                "there is no fusion to balance."
            )
        parse_ratio(config.amr_ratio, dataset.modalities)
    parse_options(method, config.method_option)
    return replace(
        config,
        head=method.head or config.head,
        hidden=config.hidden if method.head is None else 0,
        condition=config.condition if method.head is None else None,
        modalities=",".join(dataset.modalities),
        optimizer=config.optimizer or method.optimizer,
        lr=method.lr if config.lr is None else config.lr,
        weight_decay=method.weight_decay if config.weight_decay is None else config.weight_decay,
    )


def recipe_of(record: RunRecord) -> Recipe:
    """How the trainer is to train the run."""
    config = record.config
    method = methods[config.method]
    return Recipe(
        shape=record.shape,
        method=method,
        options=parse_options(method, config.method_option),
        attributor=record.attributor,
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=str(config.optimizer),
        lr=float(config.lr or 0),
        weight_decay=float(config.weight_decay or 0),
        amr_optimizer=config.amr_optimizer,
        select=config.select,
        lr_step=method.lr_step,
    )


def member_of(record: RunRecord) -> Member:
    """What the run has of its own in a group."""
    config = record.config
    ratio = None if config.amr_ratio is None else parse_ratio(config.amr_ratio, list(record.modalities))
    return Member(config.seed, ratio, config.amr_weight)


def _scaled(progress: Progress, fold: int, folds: int) -> Progress:
    return lambda done, total: progress(fold * total + done, folds * total)
