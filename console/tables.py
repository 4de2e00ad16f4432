"""Results of single commands as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from amr.console.output import table


def trained_table(trained: Mapping[str, Any]) -> Table:
    """A row for each model that was trained: the joint one, or one a modality."""
    rows = []
    for name, epochs in trained["epochs"].items():
        val, test = (trained[part] if name == "joint" else trained[part][name] for part in ("val", "test"))
        rows.append(
            [name, epochs["epochs"], epochs["best"], *(m and m["accuracy"] for m in (val, test)), test and test["map"]]
        )
    return table("", ["trained", "epochs", "best epoch", "val accuracy", "test accuracy", "test mAP"], rows)


def measures_table(parts: Mapping[str, Any]) -> Table:
    """A row a part where two modalities fit beside it, else a row a part and modality."""
    there = {name: measures for name, measures in parts.items() if measures is not None}
    modalities = list(next(iter(there.values()))["share"]) if there else []
    whats = {"share": "share", "share_logit": "logit share", "perceptual": "perceptual"}
    columns = ["", "clips", "accuracy", "mAP", "F1"]
    scores = {name: [m["num_clips"], m["accuracy"], m["map"], m["f1"]] for name, m in there.items()}
    if len(modalities) <= 2:
        columns += [f"{what} {m}" for what in whats.values() for m in modalities]
        rows = [
            [name, *scores[name], *(m[what][modality] for what in whats for modality in modalities)]
            for name, m in there.items()
        ]
        return table("", columns, rows)
    rows = []
    for name, measures in there.items():
        for i, modality in enumerate(modalities):
            first = [name, *scores[name]] if i == 0 else ["", None, None, None, None]
            rows.append([*first, modality, *(measures[what][modality] for what in whats)])
    return table("", [*columns, "modality", *whats.values()], rows)


def explanation_table(e: Mapping[str, Any]) -> Table:
    """A row an attribution with each modality's share, and a row a baseline with what is left without each."""
    modalities = list(next(iter(e["shares"].values())))
    rows = [[f"share, {name}", *shares.values()] for name, shares in e["shares"].items()]
    for baseline, removed in e["removed"].items():
        rows.append(
            [f"probability without it, {baseline}", *(removed.get(m, {}).get("probability") for m in modalities)]
        )
    truth = "" if e["true"] is None else f", label {e['true']}"
    answer = f"{e['pred']} {e['probabilities'][e['pred']]:.3f}{truth}"
    return table("", [answer, *modalities], rows)
