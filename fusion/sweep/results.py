"""results.csv: one row per run and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from amr.common.files import write_csv
from amr.fusion.runs.read import Run, read_run
from amr.fusion.runs.record import RunRecord


def write_results(folder: Path, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Write results.csv, one row per finished run and split, in the requested order, and return the rows."""
    runs = [read_run(run_folder(record)) for record in records if is_finished(record)]
    measured = [(run, {"val": run.val, "test": run.test}) for run in runs]
    rows = [_row(run, split, m) for run, of_run in measured for split, m in of_run.items() if m is not None]
    write_csv(folder / "results.csv", pd.DataFrame(rows))
    return rows


def _row(run: Run, split: str, measures: Mapping[str, Any]) -> dict[str, Any]:
    modalities = ",".join(run.modalities)
    row: dict[str, Any] = {"run": run.name, **run.setting, "modalities": modalities, "seed": run.seed, "part": split}
    for name, value in measures.items():
        row |= {f"{name}_{m}": v for m, v in value.items()} if isinstance(value, dict) else {name: value}
    return row


def run_folder(record: RunRecord) -> Path:
    """Folder of a run of a sweep."""
    return Path(str(record.config.out))


def is_finished(record: RunRecord) -> bool:
    """Whether a run of a sweep is fitted and measured."""
    return (run_folder(record) / "metrics.json").is_file()
