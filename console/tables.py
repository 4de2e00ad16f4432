"""Results of single commands as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from amr.common.options import number_text
from amr.console.output import table
from amr.fusion.config import FitConfig
from amr.fusion.runs.record import RunRecord


def measures_table(record: RunRecord, splits: Mapping[str, Any]) -> Table:
    """Table with one row per split and modality; its title has the ratio and the attribution that was regularized."""
    config = record.config
    headings = {"share": "share", "share_logit": "logit share", "perceptual": "use"}
    settings = (config.attribution, config.attribution_output, config.attribution_pooling)
    if settings != (FitConfig.attribution, FitConfig.attribution_output, FitConfig.attribution_pooling):
        headings = {"share": "share", "share_regularized": f"{attribution_text(config)} share"} | headings
    weight = number_text(config.regularizer_weight)
    on = f" on {config.attribution}" * (config.attribution != FitConfig.attribution)
    title = "" if record.named_ratio is None else f"AMR {record.named_ratio}{on}, weight {weight}"
    rows: list[list[object]] = []
    for name, measures in splits.items():
        if measures is None:
            continue
        scores = [measures[score] for score in ("num_clips", "accuracy", "map", "f1")]
        for i, modality in enumerate(measures["share"]):
            of_split = scores if i == 0 else [""] * len(scores)
            shares = [measures[measure][modality] for measure in headings]
            rows.append([name if i == 0 else "", modality, *of_split, *shares])
    return table(title, ["", "modality", "clips", "accuracy", "mAP", "F1", *headings.values()], rows)


def attribution_text(config: FitConfig) -> str:
    """Attribution of a run's settings in short: its name, and what differs from the defaults."""
    name = "" if config.attribution == FitConfig.attribution else config.attribution
    output = "" if config.attribution_output == FitConfig.attribution_output else config.attribution_output
    pooling = "" if config.attribution_pooling == FitConfig.attribution_pooling else config.attribution_pooling
    return " ".join(part for part in (name, output, pooling) if part)
