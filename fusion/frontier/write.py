"""Write frontier.json, frontier.csv and frontier.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from amr.common.files import checksummed, write_csv, write_json
from amr.fusion.choices import score_of
from amr.fusion.frontier.picture import plot_frontier


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """Write the document, one row per setting, and the picture."""
    rows = [_row(entry, score_of(document).name) for entry in document["settings"]]
    with checksummed(folder, "frontier.json", "frontier.csv", "frontier.png"):
        write_json(folder / "frontier.json", document)
        write_csv(folder / "frontier.csv", pd.DataFrame(rows))
        plot_frontier(folder / "frontier.png", document)


def _row(entry: Mapping[str, Any], score: str) -> dict[str, Any]:
    """Setting as a flat row: `use_share.audio`, and `.low` and `.high` after the name of what has an interval."""
    row: dict[str, Any] = {name: entry[name] for name in ("setting", "kind", "on_front")}
    row |= {"seeds": len(entry["seeds"]), f"val_{score}": entry["val"][score]}
    row |= _with_interval(score, entry[score], entry[f"{score}_interval"])
    for m in entry["use"]:
        row[f"val_use_share.{m}"] = entry["val"]["use_share"][m]
        row[f"use.{m}"] = entry["use"][m]
        row[f"share.{m}"] = None if entry["share"] is None else entry["share"][m]
        for name in ("use_share", "shapley_use_share"):
            row |= _with_interval(f"{name}.{m}", entry[name][m], entry[f"{name}_interval"][m])
        price = (entry["price"] or {}).get(m)
        row[f"per_tenth.{m}"] = None if price is None else price["per_tenth"]
    return row


def _with_interval(name: str, value: float, interval: list[float] | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {name: value, f"{name}.low": low, f"{name}.high": high}
