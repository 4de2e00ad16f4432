"""Write evaluation.json, evaluation.csv and evaluation.npz."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from amr.common.files import replacing, write_csv, write_json
from amr.fusion.data.folds import TrainingData
from amr.fusion.data.on_disk import empty
from amr.fusion.evaluate.comparison import Measured
from amr.fusion.evaluate.groups import RunGroup
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.evaluate.perturb import LEVELS, Name
from amr.fusion.runs.read import setting_text

VERSION = 1
MAX_PROBABILITIES = 20_000_000
MAX_INT16 = 2**15  # classes
DIGITS = 6


def write(folder: Path, document: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """Write evaluation.json, and evaluation.csv with one row per run and measure."""
    write_json(folder / "evaluation.json", document)
    rows = []
    for m in measured:
        texts = {name: setting_text(name, m.run.setting[name]) for name in ("modalities", "amr_ratio")}
        setting = m.run.setting | texts | {"seed": m.run.config.seed}
        for name, value in m.value.items():
            low, high = m.interval.get(name, (math.nan, math.nan))
            row = {"measure": ".".join(name), "value": value, "low": low, "high": high}
            rows.append({"run": m.run.name, **setting, **row})
    write_csv(folder / "evaluation.csv", pd.DataFrame(rows))


def run_entry(measured: Measured) -> dict[str, Any]:
    """Entry of one run in evaluation.json."""
    return {
        "run": measured.run.name,
        **measured.run.setting,
        "seed": measured.run.config.seed,
        "measures": nested(measured.value | measured.counts),
        "intervals": {".".join(name): list(bounds) for name, bounds in measured.interval.items()},
    }


def nested(values: Mapping[Name, float]) -> dict[str, Any]:
    """Nest values by name; a noise curve becomes a list over its levels."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        inner = result
        for key in name[:-1]:
            inner = inner.setdefault(key, {})
        inner[name[-1]] = value
    for modality, curve in result.get("noise", {}).items():
        result["noise"][modality] = [curve[f"{level:g}"] for level in LEVELS]
    return result


def rounded(value: Any) -> Any:
    """Round the numbers of a JSON value to 6 decimals, tiny ones to 3 digits; NaN becomes None."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return round(value, DIGITS) if abs(value) > 10**-DIGITS else float(f"{value:.3g}")
    return value


def decisions(task: str, probability: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays `preds` and `probability` of evaluation.npz, as far as a task has them.

    Args:
        task: Task: multiclass has both, multilabel `probability`, and regression `preds`.
        probability: Probabilities of classes or labels, or numbers, `(run, clips, outputs)`.
    """
    if task == "regression":
        return {"preds": probability[..., 0].astype(np.float32)}
    result = {"probability": probability.astype(np.float16)}
    if task == "multiclass":
        kind = np.int16 if probability.shape[-1] <= MAX_INT16 else np.int32
        result["preds"] = probability.argmax(-1).astype(kind)
    return result


class Arrays:
    """Each run's prediction for each clip; preds are -1 and shares NaN for clips that a run was not tested on.

    Args:
        data: Clips; the test clips are the columns, in their order, one fold after the other. A clip that several folds
            are tested on is a column for each.
        order: Names of the runs, in the order of evaluation.json.
        modalities: Modalities of all runs.
    """

    def __init__(self, data: TrainingData, order: Sequence[str], modalities: Sequence[str]) -> None:
        self._dataset = dataset = data.dataset
        self._modalities = list(modalities)
        self._order = {name: i for i, name in enumerate(order)}
        rows = np.concatenate([fold.rows.test for fold in data.folds])
        folds = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(data.folds)])
        self._per_fold = len(dataset.clips) if len(np.unique(rows)) < len(rows) else 0
        self._column = {key: i for i, key in enumerate(self._keys(folds, rows))}
        shape = len(order), len(rows)
        self._by_run = {
            "shares": _on_disk((*shape, len(modalities)), torch.float16, torch.nan),
        }
        for name, none in decisions(dataset.task, np.empty((0, 0, len(dataset.classes)))).items():
            size = (*shape, *none.shape[2:])
            if name == "preds" or math.prod(size) <= MAX_PROBABILITIES:
                unknown = -1 if none.dtype.kind == "i" else torch.nan
                self._by_run[name] = _on_disk(size, torch.from_numpy(none).dtype, unknown)
        self._by_clip = {
            "target": dataset.target.numpy()[rows],
            "ids": dataset.clips["id"].to_numpy().astype(str)[rows],
            "fold": folds,
        }

    def add(self, group: RunGroup, per_clip: PerClip) -> None:
        """Add the results of a run group.

        Raises:
            ValueError: Its cache has other clips than those of the first group.
        """
        dataset = group.data.dataset
        if dataset is not self._dataset and not np.array_equal(dataset.clips["id"], self._dataset.clips["id"]):
            raise ValueError(
                f"RUN must have runs on the same clips, got {group.runs[0].name} on others. Evaluate it alone."
            )
        keys = self._keys(per_clip.folds, per_clip.rows)
        selected = np.array([key in self._column for key in keys])
        columns = np.array([self._column[key] for key in keys[selected]], dtype=int)
        rows = np.array([self._order[run.name] for run in group.runs])
        modalities = np.array([self._modalities.index(m) for m in per_clip.modalities])
        self._by_run["shares"][np.ix_(rows, columns, modalities)] = per_clip.share[:, selected]
        for name, values in decisions(dataset.task, per_clip.probability[:, selected]).items():
            if name in self._by_run:
                self._by_run[name][np.ix_(rows, columns)] = values

    def _keys(self, folds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A number for each column: the row of the clip in the cache, and its fold if clips are in several."""
        return np.asarray(rows + self._per_fold * folds)

    def save(self, folder: Path) -> None:
        """Write evaluation.npz."""
        arrays: dict[str, Any] = self._by_run | self._by_clip
        with replacing(folder / "evaluation.npz") as partial:
            np.savez_compressed(partial, **arrays)


def _on_disk(shape: Sequence[int], dtype: torch.dtype, value: float) -> np.ndarray:
    """Array in a file, so that memory does not grow with the number of runs."""
    array: np.ndarray = empty(shape, dtype, on_disk=True).fill_(value).numpy()
    return array
