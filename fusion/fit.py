"""Fit one head on a cache: `amr fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.data_manifests.workspace import find_cache, runs_dir
from amr.extract.cache import Cache
from amr.extract.device import choose_device
from amr.fusion.clips import Clips, predict_shares
from amr.fusion.config import FitConfig
from amr.fusion.data import Dataset, Normalization, read_dataset
from amr.fusion.heads import heads
from amr.fusion.measure import Measures, mean_measures, measure
from amr.fusion.methods import methods, parse_options
from amr.fusion.ratio import parse_ratio
from amr.fusion.run import RunRecord, new_folder, save_weights, write_csv, write_json
from amr.fusion.splits import Parts, split_parts
from amr.fusion.trainer import Fitted, Member, Recipe, train_group

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
    cache_path = find_cache(config.cache)
    with Cache.open(cache_path) as cache:
        head = heads[methods[config.method].head or config.head]
        dataset = read_dataset(cache, modalities=config.modalities, label=config.label, keep_steps=head.takes_steps)
    config = resolve(config, dataset)
    device = choose_device(config.device)
    all_parts = split_parts(
        dataset.clips,
        dataset.target.numpy(),
        dataset.usable,
        policy=config.split_policy,
        folds=config.folds,
        seed=config.split_seed,
        keep_flagged=config.keep_flagged,
    )
    notes = tuple(dict.fromkeys([*dataset.notes(), *(note for parts in all_parts for note in parts.notes)]))
    config, folder = new_folder(config, cache_path, runs_dir())
    record = RunRecord(config, dataset.classes, _describe(dataset), str(cache_path), notes)
    record.save(folder)
    results = []
    for k, parts in enumerate(all_parts):
        place = folder / f"fold-{k}" if config.folds > 0 else folder
        place.mkdir(exist_ok=True)
        whole = None if progress is None else _scaled(progress, k, len(all_parts))
        results.append(_fit_parts(record, dataset, parts, place, device, whole))
    if config.folds == 0:
        return FitResult(folder, record, results[0]["val"], results[0]["test"])
    val, test = (mean_measures([m for r in results if (m := r[part]) is not None]) for part in ("val", "test"))
    write_json(folder / "metrics.json", {"val": val, "test": test, "folds": results})
    return FitResult(folder, record, val, test, tuple(results))


def resolve(config: FitConfig, dataset: Dataset) -> FitConfig:
    """The config with the method's own settings filled in, checked against the cache.

    Raises:
        ValueError: a name or a combination that cannot be.
    """
    method = methods[config.method]
    if method.head is None:
        heads[config.head].check(config.hidden, dataset.modalities)
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
    )


def member_of(record: RunRecord) -> Member:
    """What the run has of its own in a group."""
    config = record.config
    ratio = None if config.amr_ratio is None else parse_ratio(config.amr_ratio, list(record.modalities))
    return Member(config.seed, ratio, config.amr_weight)


def part_clips(dataset: Dataset, normalization: Normalization, rows: np.ndarray, device: torch.device) -> Clips:
    """The clips of a part, normalised, on the device."""
    index = torch.from_numpy(rows)
    present = dataset.present[index]
    embeddings = normalization.apply({m: e[index] for m, e in dataset.embeddings.items()}, present)
    return Clips({m: e.to(device) for m, e in embeddings.items()}, present.to(device), dataset.target[index].to(device))


def _fit_parts(
    record: RunRecord,
    dataset: Dataset,
    parts: Parts,
    place: Path,
    device: torch.device,
    progress: Progress | None,
) -> dict[str, Measures | None]:
    normalization = dataset.normalization(record.config.normalize, parts.train)
    train, val, test = (
        part_clips(dataset, normalization, rows, device) for rows in (parts.train, parts.val, parts.test)
    )
    fitted = train_group(recipe_of(record), [member_of(record)], train, val, progress)
    measured = {name: measure(fitted.model, clips, record.attributor) for name, clips in (("val", val), ("test", test))}
    result = {name: None if m is None else m[0] for name, m in measured.items()}
    save_weights(place, fitted.model.run_state(0), normalization)
    write_csv(place / "history.csv", history_table(fitted, 0))
    tables = [
        predictions_table(record, dataset, fitted, name, rows, clips)
        for name, rows, clips in (("val", parts.val, val), ("test", parts.test, test))
        if len(clips) > 0
    ]
    if tables:
        write_csv(place / "predictions.csv", pd.concat(tables))
    write_json(place / "metrics.json", result)
    return result


def history_table(fitted: Fitted, run: int) -> pd.DataFrame:
    """One row an epoch of one run."""
    columns: dict[str, Any] = {}
    for name, values in fitted.history.items():
        of_run = values[:, run]
        if of_run.ndim == 1:
            columns[name] = of_run.numpy()
        else:
            columns |= {f"{name}_{m}": of_run[:, i].numpy() for i, m in enumerate(fitted.model.modalities)}
    table = pd.DataFrame(columns)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    table["chosen"] = (table["epoch"] == int(fitted.best_epoch[run])).astype(int)
    return table


def predictions_table(
    record: RunRecord,
    dataset: Dataset,
    fitted: Fitted,
    part: str,
    rows: np.ndarray,
    clips: Clips,
    run: int = 0,
) -> pd.DataFrame:
    """One row a clip: id, part, target, pred, its probability, and the shares of the decision."""
    logits, share, counted = (values[run].cpu() for values in predict_shares(fitted.model, clips, record.attributor))
    probability, pred = logits.softmax(-1).max(-1)
    names = np.array(record.classes)
    shares: Tensor = torch.where(counted[:, None], share, torch.nan)
    return pd.DataFrame(
        {
            "id": dataset.clips["id"].to_numpy()[rows],
            "part": part,
            "target": names[clips.target.cpu().numpy()],
            "pred": names[pred.numpy()],
            "probability": probability.numpy(),
            **{f"share_{m}": shares[:, i].numpy() for i, m in enumerate(record.modalities)},
        }
    )


def _describe(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {m: asdict(info) for m, info in dataset.infos.items()}


def _scaled(progress: Progress, fold: int, folds: int) -> Progress:
    return lambda done, total: progress(fold * total + done, folds * total)
