"""Write the files of a fitted run group to the folders of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from amr.common.files import CHECKSUMS, json_text, write_csv, write_last
from amr.fusion.choices import OWN_WEIGHTS
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.folds import Fold
from amr.fusion.data.targets import TargetScale
from amr.fusion.model import Fitted, predict_logits, predict_shares
from amr.fusion.runs.measure import Measures, measure
from amr.fusion.runs.record import RUN_FILES, RunRecord
from amr.fusion.runs.weights import attributor_of, save_weights
from amr.fusion.tasks.metrics import label_scores

FoldMeasures = dict[str, Measures | None]


def write_group(
    records: Sequence[RunRecord],
    places: Sequence[Path | None],
    dataset: Dataset,
    fold: Fold,
    fitted: Fitted,
    *,
    with_predictions: bool,
    end: Callable[[int, Measures | None], None] | None = None,
) -> list[FoldMeasures]:
    """Measure a run group on val and test, and write weights, history, predictions and metrics of each run.

    Args:
        records: Record of each run.
        places: Folder of each run, or of its current fold; None for a run that is not written.
        dataset: Dataset of the clips.
        fold: Splits of the clips.
        fitted: Run group, in the order of `records`.
        with_predictions: Whether to write predictions.csv, and labels.csv of several labels.
        end: Function that gets the index and the test measures of each finished run before its last file is written.
    """
    splits = {"val": (fold.rows.val, fold.val), "test": (fold.rows.test, fold.test)}
    attributor, target = attributor_of(records[0]), target_shares(records, fitted)
    scale = fold.target_scale
    measured = {split: measure(fitted.model, clips, attributor, target, scale) for split, (_, clips) in splits.items()}
    results = []
    for run, (record, place) in enumerate(zip(records, places, strict=True)):
        results.append({split: None if m is None else m[run] for split, m in measured.items()})
        if place is None:
            continue
        place.mkdir(parents=True, exist_ok=True)
        (place / CHECKSUMS).unlink(missing_ok=True)
        save_weights(place, fitted.model.run_state(run), fold.normalization, fitted.model.run_mean(run), scale)
        write_csv(place / "history.csv", history_table(fitted, run))
        tables = [
            predictions_table(record, dataset, fitted, split, rows, clips, run, scale)
            for split, (rows, clips) in splits.items()
            if with_predictions and len(clips) > 0
        ]
        if tables:
            write_csv(place / "predictions.csv", pd.concat(tables))
            if record.config.task == "multilabel":
                parts = {split: clips for split, (_, clips) in splits.items() if len(clips) > 0}
                write_csv(place / "labels.csv", labels_table(record.classes, fitted, parts, run))
        if fitted.diverged[run]:  # history.csv shows the epoch; without metrics.json the run is not finished
            continue
        if end is not None:
            end(run, results[-1]["test"])
        write_metrics(place, results[-1])
    return results


def write_metrics(folder: Path, measures: Mapping[str, Any]) -> None:
    """Write metrics.json, the last file of a run or of a fold, after the checksums of all of its files."""
    write_last(folder / "metrics.json", json_text(measures), RUN_FILES)


def target_shares(records: Sequence[RunRecord], fitted: Fitted) -> Tensor:
    """Target of each run's gradient x input shares, `(run, modalities)`; even ones without AMR.

    Even ones, too, for an attribution whose ratio says where to, not how far.
    """
    even = dict.fromkeys(fitted.model.modalities, 1 / len(fitted.model.modalities))
    device = next(fitted.model.parameters()).device
    configs = [record.config for record in records]
    reached = [c.regularizer_weight > 0 and c.attribution not in OWN_WEIGHTS for c in configs]
    targets = [record.target_share if aims else None for record, aims in zip(records, reached, strict=True)]
    return torch.tensor([[*(target or even).values()] for target in targets], device=device)


def history_table(fitted: Fitted, run: int) -> pd.DataFrame:
    """Table with one row per epoch of a run."""
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
    split: str,
    rows: np.ndarray,
    clips: Clips,
    run: int,
    scale: TargetScale | None,
) -> pd.DataFrame:
    """Table with one row per clip: id, split, target, pred, and the shares of the decision.

    Of classes, also the probability of pred; of labels, that of each, and target and pred are labels joined by ";".
    """
    logits, share, counted = (
        values[run].cpu() for values in predict_shares(fitted.model, clips, attributor_of(record), of_each_clip=True)
    )
    shares: Tensor = torch.where(counted[:, None], share, torch.nan)
    return pd.DataFrame(
        {
            "id": dataset.clips["id"].to_numpy()[rows],
            "part": split,  # the name of `split` in 0.1
            "split": split,
            **decision_columns(record.config.task, record.classes, *_in_units(logits, clips.target.cpu(), scale)),
            **{f"share_{m}": shares[:, i].numpy() for i, m in enumerate(record.modalities)},
        }
    )


def labels_table(classes: Sequence[str], fitted: Fitted, parts: Mapping[str, Clips], run: int) -> pd.DataFrame:
    """Table with one row per split and label: split, label, clips with it, average precision and F1.

    Args:
        classes: Names of the labels.
        fitted: Run group.
        parts: Split to its clips.
        run: Index of the run.
    """
    tables = []
    for split, clips in parts.items():
        target = clips.target.cpu()
        precision, f1 = label_scores(predict_logits(fitted.model, clips)[run].cpu(), target)
        counts = (target > 0).sum(0).numpy()
        tables.append(pd.DataFrame({"split": split, "label": classes, "clips": counts, "ap": precision, "f1": f1}))
    return pd.concat(tables, ignore_index=True)


def _in_units(outputs: Tensor, target: Tensor, scale: TargetScale | None) -> tuple[Tensor, Tensor]:
    """Outputs and targets; numbers in the units of the cache."""
    return (outputs, target) if scale is None else (scale.undo(outputs), scale.undo(target))


def decision_columns(task: str, classes: Sequence[str], outputs: Tensor, target: Tensor) -> dict[str, Any]:
    """Columns of a table of decisions, one row per clip: `target`, `pred`, and probabilities of classes or labels.

    Args:
        task: Task that was predicted.
        classes: Names of the classes or labels.
        outputs: Logits or numbers, `(clips, outputs)` on the CPU.
        target: Targets of the clips.
    """
    if task == "regression":
        return {"target": target.numpy(), "pred": outputs.squeeze(-1).numpy()}
    names = np.array(classes)
    if task == "multiclass":
        probability, pred = outputs.softmax(-1).max(-1)
        return {"target": names[target.numpy()], "pred": names[pred.numpy()], "probability": probability.numpy()}
    probability = outputs.sigmoid()
    return {
        "target": [";".join(names[row]) for row in (target > 0).numpy()],
        "pred": [";".join(names[row]) for row in (outputs > 0).numpy()],
        **{f"probability_{name}": probability[:, i].numpy() for i, name in enumerate(names)},
    }
