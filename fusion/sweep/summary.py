"""Summary of a sweep: the settings with the best val accuracy, and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.choices import SCORES
from amr.fusion.runs.read import SETTINGS, read_runs, setting_text
from amr.fusion.sweep.folder import writing
from amr.fusion.sweep.plots import plot_shares
from amr.fusion.sweep.sweep import SweepResult

COLUMNS = ("method", "head", *(name for name in SETTINGS if name not in ("method", "head")))


def best_by_val(result: SweepResult) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table of settings, the best on val first, by the rule of `best_of`.

    Measures are means over seeds. The shares of all modalities are in one cell.
    """
    results = result.table
    names = [*dict.fromkeys(",".join(results["modalities"]).split(","))]
    varied = [name for name in COLUMNS if name == "amr_ratio" or _varies(results, name)]
    score = SCORES[result.task]
    second, words = [*score.main.items()][1]
    columns = [*varied, "seeds", "val", "test", words, f"share {'/'.join(names)}"]
    rows: list[list[object]] = []
    runs_of: list[list[str]] = []
    gains: list[float] = []
    for _, runs in results.groupby(list(COLUMNS), sort=False, dropna=False):
        val, test = (runs[runs["part"] == split] for split in ("val", "test"))
        means = [_mean(each) for each in (val[score.name], test[score.name], test[second])]
        shares = [_mean(test[f"share_{m}"]) for m in names if "," in runs["modalities"].iloc[0]]
        share = "/".join("-" if value is None else f"{value:.2f}" for value in shares) or "-"
        rows.append([*(_text(runs.iloc[0], name) for name in varied), runs["seed"].nunique(), *means, share])
        runs_of.append([*val["run"]])
        gains.append(-math.inf if means[0] is None else score.gain(means[0]))
    losses = _losses_of_ties(result.folder, gains, runs_of)
    order = sorted(range(len(rows)), key=lambda i: (-gains[i], losses[i]))
    return columns, [rows[i] for i in order]


def _losses_of_ties(folder: Path, gains: list[float], runs_of: Sequence[Sequence[str]]) -> list[float]:
    """Mean val loss of each setting whose gain is that of another one; 0 for the others, which need none."""
    is_tied = [gains.count(gain) > 1 and bool(names) for gain, names in zip(gains, runs_of, strict=True)]
    found = {run.name: run for run in read_runs(folder)} if any(is_tied) else {}
    return [
        sum(found[name].val_loss for name in names) / len(names) if tied else 0.0
        for tied, names in zip(is_tied, runs_of, strict=True)
    ]


def _varies(results: pd.DataFrame, name: str) -> bool:
    one_each = results.drop_duplicates(list(COLUMNS))
    if name == "modalities":  # single ones are shown as methods
        one_each = one_each[one_each["modalities"].str.contains(",")]
    return len({_text(row, name) for _, row in one_each.iterrows()} - {"-"}) > 1


def _text(row: pd.Series, name: str) -> str:
    if name == "method" and row[name] == "unimodal":
        return f"{row['modalities']} only"
    if name == "amr_ratio" and row[name] != "none":
        return named_ratio(row[name], row["modalities"].split(","))
    return setting_text(name, None if pd.isna(row[name]) else row[name])


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return None if pd.isna(mean) else mean


def write_picture(result: SweepResult) -> Path:
    """Write the picture of accuracy against the first modality's share to the sweep's folder, and return its path."""
    table = result.table
    file = result.folder / f"{SCORES[result.task].name}-against-share.png"
    joint = table[table["modalities"].str.contains(",")]
    modality = (joint if len(joint) else table)["modalities"].iloc[0].split(",")[0]
    with writing(result.folder):
        plot_shares(file, table, modality, score=SCORES[result.task])
    return file
