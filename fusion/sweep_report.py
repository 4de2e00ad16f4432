"""What a sweep shows when it is done: the best by val, and a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from amr.fusion.plots import plot_dominance
from amr.fusion.sweep import SweepResult

SETTINGS = ["method", "head", "modalities", "amr_ratio", "amr_weight", "lr"]
MAX_ROWS = 10


def best_by_val(results: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the settings with the best val accuracy, mean over seeds, and their test figures."""
    results = results.assign(amr_weight=results["amr_weight"].fillna(0.0))
    shares = [c for c in results if c.startswith("share_") and not c.startswith(("share_logit", "share_regularized"))]
    means = results.groupby([*SETTINGS, "part"], sort=False)[["accuracy", "map", *shares]].mean().reset_index("part")
    val, test = (means[means["part"] == part].drop(columns="part") for part in ("val", "test"))
    seeds = results.groupby(SETTINGS, sort=False)["seed"].nunique()
    order = (val if len(val) else test)["accuracy"].sort_values(ascending=False, kind="stable").index[:MAX_ROWS]
    varied = [i for i, name in enumerate(SETTINGS) if i < 2 or results[name].nunique() > 1]
    columns = [SETTINGS[i] for i in varied] + ["seeds", "val accuracy", "test accuracy", "test mAP"]
    columns += [f"test {name.replace('_', ' ')}" for name in shares]
    rows: list[list[object]] = []
    for key in order:
        names = [key[i] for i in varied]
        on_val = float(val.loc[key, "accuracy"]) if key in val.index else None
        on_test = [float(test.loc[key, c]) if key in test.index else None for c in ("accuracy", "map", *shares)]
        rows.append([*names, int(seeds[key]), on_val, *(None if v is None or pd.isna(v) else v for v in on_test)])
    return columns, rows


def draw(result: SweepResult) -> Path:
    """The picture of accuracy against dominance, in the sweep's folder."""
    table = result.table
    file = result.folder / "dominance.png"
    joint = table[table["modalities"].str.contains(",")]
    modality = (joint if len(joint) else table)["modalities"].iloc[0].split(",")[0]
    plot_dominance(file, table, modality)
    return file
