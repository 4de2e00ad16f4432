"""Results of single commands as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from amr.console.output import table


def trained_table(trained: Mapping[str, Any]) -> Table:
    """Table with one row per trained model: the joint one, or one per modality."""
    rows = []
    for name, epochs in trained["epochs"].items():
        val, test = (trained[split] if name == "joint" else trained[split][name] for split in ("val", "test"))
        rows.append(
            [name, epochs["epochs"], epochs["best"], *(m and m["accuracy"] for m in (val, test)), test and test["map"]]
        )
    return table("", ["trained", "epochs", "best epoch", "val accuracy", "test accuracy", "test mAP"], rows)


def measures_table(splits: Mapping[str, Any]) -> Table:
    """Table with one row per split for up to two modalities, else one row per split and modality."""
    measured = {name: measures for name, measures in splits.items() if measures is not None}
    modalities = list(next(iter(measured.values()))["share"]) if measured else []
    headings = {"share": "share", "share_logit": "logit share", "perceptual": "perceptual"}
    columns = ["", "clips", "accuracy", "mAP", "F1"]
    scores = {name: [m["num_clips"], m["accuracy"], m["map"], m["f1"]] for name, m in measured.items()}
    if len(modalities) <= 2:
        columns += [f"{heading} {m}" for heading in headings.values() for m in modalities]
        rows = [
            [name, *scores[name], *(m[measure][modality] for measure in headings for modality in modalities)]
            for name, m in measured.items()
        ]
        return table("", columns, rows)
    rows = []
    for name, measures in measured.items():
        for i, modality in enumerate(modalities):
            first = [name, *scores[name]] if i == 0 else ["", None, None, None, None]
            rows.append([*first, modality, *(measures[measure][modality] for measure in headings)])
    return table("", [*columns, "modality", *headings.values()], rows)


def explanation_table(e: Mapping[str, Any]) -> Table:
    """Table with one row of shares per attribution, and one row of probabilities without each modality per baseline."""
    modalities = list(next(iter(e["shares"].values())))
    rows = [[f"share, {name}", *shares.values()] for name, shares in e["shares"].items()]
    for baseline, removed in e["removed"].items():
        rows.append(
            [f"probability without it, {baseline}", *(removed.get(m, {}).get("probability") for m in modalities)]
        )
    truth = "" if e["true"] is None else f", label {e['true']}"
    answer = f"{e['pred']} {e['probabilities'][e['pred']]:.3f}{truth}"
    return table("", [answer, *modalities], rows)
