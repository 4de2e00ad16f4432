"""Summary of a sweep: the settings with the best val accuracy, and a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from amr.fusion.sweep.plots import plot_shares
from amr.fusion.sweep.sweep import SweepResult

SETTINGS = ["method", "head", "modalities", "amr_ratio", "amr_weight", "lr"]
MAX_ROWS = 10


def best_by_val(results: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table of settings, best val accuracy first. Measures are means over seeds."""
    results = results.assign(amr_weight=results["amr_weight"].fillna(0.0))
    shares = [f"share_{m}" for m in dict.fromkeys(",".join(results["modalities"]).split(","))]
    varied = [name for i, name in enumerate(SETTINGS) if i < 2 or results[name].nunique() > 1]
    columns = [*varied, "seeds", "val accuracy", "test accuracy", "test mAP"]
    columns += [f"test {name.replace('_', ' ')}" for name in shares]
    rows: list[list[object]] = []
    for _, runs in results.groupby(SETTINGS, sort=False):
        val, test = (runs[runs["part"] == split] for split in ("val", "test"))
        means = [_mean(val["accuracy"]), *(_mean(test[name]) for name in ("accuracy", "map", *shares))]
        rows.append([*(runs[name].iloc[0] for name in varied), runs["seed"].nunique(), *means])
    val_column = len(varied) + 1
    rows.sort(key=lambda row: -1.0 if row[val_column] is None else float(str(row[val_column])), reverse=True)
    return columns, rows[:MAX_ROWS]


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return None if pd.isna(mean) else mean


def write_picture(result: SweepResult) -> Path:
    """Write the picture of accuracy against the first modality's share to the sweep's folder, and return its path."""
    table = result.table
    file = result.folder / "accuracy-against-share.png"
    joint = table[table["modalities"].str.contains(",")]
    modality = (joint if len(joint) else table)["modalities"].iloc[0].split(",")[0]
    plot_shares(file, table, modality)
    return file
