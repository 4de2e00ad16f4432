"""results.csv: one row per run and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from amr.common.files import checksummed, write_csv
from amr.common.progress import Progress
from amr.fusion.runs.read import Run, damaged_file, read_run, setting_text
from amr.fusion.runs.record import RunRecord

RESULTS = "results.csv"


def write_results(folder: Path, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Write results.csv, one row per finished run and split, in the requested order, and return the rows."""
    return write_rows(folder, [read_run(run_folder(record)) for record in records if is_finished(record)])


def write_rows(folder: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Write results.csv, one row per run and split, and return the rows."""
    measured = [(run, {"val": run.val, "test": run.test}) for run in runs]
    rows = [_row(run, split, m) for run, of_run in measured for split, m in of_run.items() if m is not None]
    with checksummed(folder, RESULTS):
        write_csv(folder / RESULTS, pd.DataFrame(rows))
    return rows


def missed_targets(records: Sequence[RunRecord]) -> list[str]:
    """One sentence about the finished runs whose shares are far from their target; empty if there are none."""
    return missed_by([read_run(run_folder(record)) for record in records if is_finished(record)])


def missed_by(finished: Sequence[Run]) -> list[str]:
    """One sentence about the runs whose shares are far from their target; empty if there are none."""
    runs = [run for run in finished if run.config.amr_ratio]
    missed = {run.name: text for run in runs if (text := run.record.missed_target(run.val, run.test)) is not None}
    if not missed:
        return []
    name, text = next(iter(missed.items()))
    return [f"{len(missed)} of {len(runs)} runs with AMR did not reach their ratio, such as {name}: {text}"]


def discard_damaged(records: Sequence[RunRecord], progress: Progress) -> None:
    """Note the finished runs whose files are damaged, and make them unfinished: they are fitted again."""
    for folder in (run_folder(record) for record in records if is_finished(record)):
        file = damaged_file(folder)
        if file is not None:
            progress.warn(f"{file} is damaged: {folder.name} is fitted again")
            (folder / "metrics.json").unlink(missing_ok=True)


def _row(run: Run, split: str, measures: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: setting_text(name, run.setting[name]) for name in ("modalities", "amr_ratio")}
    row: dict[str, Any] = {"run": run.name, **run.setting, **texts, "seed": run.seed, "part": split, "split": split}
    for name, value in measures.items():
        row |= {f"{name}_{m}": v for m, v in value.items()} if isinstance(value, dict) else {name: value}
    return row


def run_folder(record: RunRecord) -> Path:
    """Folder of a run of a sweep."""
    return Path(str(record.config.out))


def is_finished(record: RunRecord) -> bool:
    """Whether a run of a sweep is fitted and measured."""
    return (run_folder(record) / "metrics.json").is_file()
