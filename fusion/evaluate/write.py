"""evaluation.json, evaluation.csv and evaluation.npz of a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amr.common.files import replacing, write_csv, write_json
from amr.fusion.data.folds import TrainingData
from amr.fusion.evaluate.comparison import Measured
from amr.fusion.evaluate.groups import RunGroup
from amr.fusion.evaluate.measures.noise import LEVELS
from amr.fusion.evaluate.measures.perturb import Name
from amr.fusion.evaluate.per_clip import PerClip

FORMAT, VERSION = "amr-evaluation", 1
MAX_PROBABILITIES = 20_000_000
DIGITS = 6


def write(folder: Path, document: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """Write the document, and its runs as a tidy table: a row a run and measure."""
    write_json(folder / "evaluation.json", document)
    rows = []
    for m in measured:
        setting = m.run.setting | {"modalities": ",".join(m.run.modalities), "seed": m.run.config.seed}
        for name, value in m.value.items():
            low, high = m.interval.get(name, (math.nan, math.nan))
            row = {"measure": ".".join(name), "value": value, "low": low, "high": high}
            rows.append({"run": m.run.folder.name, **setting, **row})
    write_csv(folder / "evaluation.csv", pd.DataFrame(rows))


def run_entry(measured: Measured) -> dict[str, Any]:
    """A run's part of the document."""
    return {
        "run": measured.run.folder.name,
        **measured.run.setting,
        "seed": measured.run.config.seed,
        "measures": nested(measured.value | measured.counts),
        "intervals": {".".join(name): list(bounds) for name, bounds in measured.interval.items()},
    }


def nested(values: Mapping[Name, float]) -> dict[str, Any]:
    """Names as nested dictionaries; a noise curve is a list over its levels."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        inner = result
        for part in name[:-1]:
            inner = inner.setdefault(part, {})
        inner[name[-1]] = value
    for modality, curve in result.get("noise", {}).items():
        result["noise"][modality] = [curve[f"{level:g}"] for level in LEVELS]
    return result


def rounded(value: Any) -> Any:
    """JSON values: numbers to 6 digits behind the point, but for small p; NaN as None."""
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return round(value, DIGITS) if abs(value) > 10**-DIGITS else float(f"{value:.3g}")
    return value


class Arrays:
    """What each run answers to each clip: preds -1 and shares NaN for a clip that a run was not tested on.

    Args:
        source: whose test clips are the columns, in their order.
        order: of the document's runs, by name.
    """

    def __init__(self, data: TrainingData, order: Sequence[str]) -> None:
        self._dataset = dataset = data.dataset
        self._order = {name: i for i, name in enumerate(order)}
        rows = np.concatenate([fold.rows.test for fold in data.folds])
        self._place = {row: i for i, row in enumerate(rows)}
        shape = len(order), len(rows)
        self._of_runs = {
            "preds": np.full(shape, -1, np.int16),
            "shares": np.full((*shape, len(dataset.modalities)), np.nan, np.float16),
        }
        if math.prod(shape) * len(dataset.classes) <= MAX_PROBABILITIES:
            self._of_runs["probability"] = np.full((*shape, len(dataset.classes)), np.nan, np.float16)
        self._of_clips = {
            "target": dataset.target.numpy()[rows],
            "ids": dataset.clips["id"].to_numpy().astype(str)[rows],
            "fold": np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(data.folds)]),
        }

    def add(self, group: RunGroup, answers: PerClip) -> None:
        """Take note of a group's answers."""
        known = np.array([row in self._place for row in answers.rows])
        columns = np.array([self._place[row] for row in answers.rows[known]], dtype=int)
        rows = np.array([self._order[run.folder.name] for run in group.runs])
        of_modality = np.array([self._dataset.modalities.index(m) for m in answers.modalities])
        probability = answers.probability[:, known]
        self._of_runs["preds"][np.ix_(rows, columns)] = probability.argmax(-1)
        self._of_runs["shares"][np.ix_(rows, columns, of_modality)] = answers.share[:, known]
        if "probability" in self._of_runs:
            self._of_runs["probability"][np.ix_(rows, columns)] = probability

    def save(self, folder: Path) -> None:
        """Write evaluation.npz."""
        arrays: dict[str, Any] = self._of_runs | self._of_clips
        with replacing(folder / "evaluation.npz") as partial:
            np.savez_compressed(partial, **arrays)
