"""Folders of fits and sweeps, read back for the page: nothing is fitted or measured here, and torch is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FILES = "config.json of amr fit or sweep.json of amr sweep"


@dataclass(frozen=True)
class Run:
    """One fitted head.

    Args:
        name: of its folder.
        folder: where it is.
        config: every setting, as resolved.
        settings: head ("-" where the method has none), method, modalities, amr_ratio ("none" without),
            amr_weight and lr, as texts: what the runs of a group share.
        test: flat name (`share.audio`) to value, on test, or on val where there is no test part.
        val: the same on val.
        nested: the measures of evaluation.json as they nest; empty without it.
        intervals: flat name to low and high, over bootstrapped clips; of evaluation.json.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    settings: Mapping[str, str]
    test: Mapping[str, float]
    val: Mapping[str, float]
    nested: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.config["seed"])

    def history(self) -> pd.DataFrame | None:
        """One row an epoch, the mean over folds; None where there is none."""
        tables = [pd.read_csv(file) for place in self._places() if (file := place / "history.csv").is_file()]
        if not tables:
            return None
        return pd.concat(tables).groupby("epoch", as_index=False).mean(numeric_only=True)

    def predictions(self) -> pd.DataFrame | None:
        """The test rows of predictions.csv over all folds; None where it was left out."""
        tables = [
            pd.read_csv(file, dtype={"id": str, "target": str, "pred": str}, keep_default_na=False, na_values=[""])
            for place in self._places()
            if (file := place / "predictions.csv").is_file()
        ]
        if not tables:
            return None
        table = pd.concat(tables, ignore_index=True)
        return table[table["part"] == "test"].reset_index(drop=True)

    def _places(self) -> list[Path]:
        return [self.folder, *sorted(self.folder.glob("fold-*"))]


@dataclass(frozen=True)
class Decisions:
    """What runs decided, clip by clip.

    Args:
        runs: names, the first axis.
        ids: `(clips,)` text.
        target: `(clips,)` index into the classes.
        preds: `(run, clips)` index into the classes.
        shares: `(run, clips, modalities)`, NaN where a clip has none.
    """

    runs: tuple[str, ...]
    ids: np.ndarray
    target: np.ndarray
    preds: np.ndarray
    shares: np.ndarray

    def of(self, names: Sequence[str]) -> Decisions:
        """Those of the runs that are there."""
        places = [i for i, name in enumerate(self.runs) if name in set(names)]
        kept = tuple(self.runs[i] for i in places)
        return Decisions(kept, self.ids, self.target, self.preds[places], self.shares[places])


@dataclass(frozen=True)
class Source:
    """One folder that a section of the page is about.

    Args:
        folder: of a sweep or a single run.
        runs: finished ones, in the order of the sweep.
        record: config.json of the first run: classes, modalities, cache, notes, versions.
        sweep: sweep.json; None for a single run.
        evaluation: evaluation.json; None where `amr evaluate` has not been there.
        table: rows of table.json; None but for `amr table`.
    """

    folder: Path
    runs: tuple[Run, ...]
    record: Mapping[str, Any]
    sweep: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    table: Sequence[Mapping[str, Any]] | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return tuple(self.record["classes"])

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """All that any run takes."""
        names = [m for run in self.runs for m in run.settings["modalities"].split(",")]
        return tuple(dict.fromkeys(names))

    @property
    def comparisons(self) -> list[Mapping[str, Any]]:
        """The paired tests of evaluation.json."""
        return [] if self.evaluation is None else list(self.evaluation.get("comparisons", []))

    @cached_property
    def decisions(self) -> Decisions | None:
        """Of evaluation.npz, else of the predictions.csv of a single run."""
        file = self.folder / "evaluation.npz"
        if self.evaluation is not None and file.is_file():
            names = tuple(run["run"] for run in self.evaluation["runs"])
            with np.load(file) as arrays:
                return Decisions(
                    names,
                    arrays["ids"].astype(str),
                    arrays["target"].astype(int),
                    arrays["preds"].astype(int),
                    arrays["shares"].astype(float),
                )
        table = self.runs[0].predictions() if len(self.runs) == 1 else None
        if table is None or table.empty:
            return None
        places = {name: i for i, name in enumerate(self.classes)}
        modalities = self.runs[0].settings["modalities"].split(",")
        return Decisions(
            (self.runs[0].name,),
            table["id"].to_numpy(str),
            table["target"].map(places).to_numpy(int),
            table["pred"].map(places).to_numpy(int)[None],
            table[[f"share_{m}" for m in modalities]].to_numpy(float)[None],
        )

    @property
    def cache(self) -> Path:
        """Where the cache was when the runs were fitted; it may be gone."""
        return Path(self.record["cache"])


def read_source(folder: Path) -> Source:
    """Read the folder of a fit, a sweep or a table.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is none of those, its files are damaged, or no run in it is finished.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"DIR must be a folder, got {str(folder)!r}. Make one with amr fit or amr sweep.")
    try:
        sweep, evaluation, table = (_json(folder / f"{name}.json") for name in ("sweep", "evaluation", "table"))
        if sweep is not None:
            runs = _runs_of_sweep(folder, evaluation)
        elif (folder / "config.json").is_file():
            runs = [run] if (run := _run(folder, None, evaluation, alone=True)) is not None else []
        else:
            raise ValueError(f"DIR must hold {FILES}, got {str(folder)!r}. Name the folder of a fit or a sweep.")
        if not runs:
            raise ValueError(f"DIR must hold a finished run, got none in {str(folder)!r}. Run the same command again.")
        record = json.loads((runs[0].folder / "config.json").read_text(encoding="utf-8"))
        widest = max(runs, key=lambda run: len(run.settings["modalities"].split(",")))
        record["modalities"] |= json.loads((widest.folder / "config.json").read_text(encoding="utf-8"))["modalities"]
        return Source(folder, tuple(runs), record, sweep, evaluation, table)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"DIR must hold whole files, got {str(folder)!r} ({type(error).__name__}: {error}). Make it again."
        ) from error


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _runs_of_sweep(folder: Path, evaluation: Mapping[str, Any] | None) -> list[Run]:
    file = folder / "results.csv"
    if not file.is_file() or file.stat().st_size < 2:
        return []
    results = pd.read_csv(file, dtype={"run": str, "amr_ratio": str}, keep_default_na=False, na_values=[""])
    heads = dict(zip(results["run"], results["head"], strict=True))
    found = [_run(folder / "runs" / name, head, evaluation) for name, head in heads.items()]
    return [run for run in found if run is not None]


def _run(folder: Path, head: str | None, evaluation: Mapping[str, Any] | None, alone: bool = False) -> Run | None:
    """One run of its own files, with what the evaluation adds; None where it is not finished."""
    metrics = _json(folder / "metrics.json")
    if metrics is None:
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    evaluated = [] if evaluation is None else evaluation["runs"]
    mine = [run for run in evaluated if alone or run["run"] == folder.name]
    nested = mine[0]["measures"] if mine else {}
    intervals = {name: tuple(bounds) for name, bounds in mine[0]["intervals"].items() if bounds} if mine else {}
    test = flat(metrics["test"] or metrics["val"] or {}) | flat(nested)
    ratio = config["amr_ratio"] or "none"
    settings = {
        "head": config["head"] if head is None else head,
        "method": config["method"],
        "modalities": config["modalities"],
        "amr_ratio": ratio,
        "amr_weight": "-" if ratio == "none" else f"{config['amr_weight']:g}",
        "lr": "-" if config["lr"] is None else f"{config['lr']:g}",
    }
    return Run(folder.resolve().name, folder, config, settings, test, flat(metrics["val"] or {}), nested, intervals)


def flat(measures: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Nested measures under names joined by dots; what is no number, or absent, is left out.

    >>> flat({"accuracy": 0.5, "share": {"audio": 0.7, "video": None}})
    {'accuracy': 0.5, 'share.audio': 0.7}
    """
    result: dict[str, float] = {}
    for name, value in measures.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{before}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            result[f"{before}{name}"] = float(value)
    return result
