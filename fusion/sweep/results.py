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


class Results:
    """The finished runs of a sweep, and its results.csv. Each run is read once, however often the file is written.

    Args:
        folder: Folder of the sweep.
        records: Records of its runs, in the requested order.
    """

    def __init__(self, folder: Path, records: Sequence[RunRecord]) -> None:
        self._folder, self._records = folder, records
        self._runs: dict[Path, Run] = {}
        self._rows: dict[Path, list[dict[str, Any]]] = {}

    def write(self) -> list[dict[str, Any]]:
        """Write results.csv, one row per finished run and split, in the requested order, and return the rows."""
        for folder in map(run_folder, self._records):
            if folder not in self._runs and _is_whole(folder):
                self._runs[folder] = read_run(folder)
                self._rows[folder] = _rows(self._runs[folder])
        rows = [row for record in self._records for row in self._rows.get(run_folder(record), ())]
        _write(self._folder, rows)
        return rows

    def missed_targets(self) -> list[str]:
        """`missed_by` of the runs that were written."""
        return missed_by([self._runs[folder] for folder in map(run_folder, self._records) if folder in self._runs])


def write_rows(folder: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Write results.csv, one row per run and split, and return the rows."""
    rows = [row for run in runs for row in _rows(run)]
    _write(folder, rows)
    return rows


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


def _write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with checksummed(folder, RESULTS):
        write_csv(folder / RESULTS, pd.DataFrame(rows))


def _rows(run: Run) -> list[dict[str, Any]]:
    return [
        _row(run, split, measures) for split, measures in (("val", run.val), ("test", run.test)) if measures is not None
    ]


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
    return _is_whole(run_folder(record))


def _is_whole(folder: Path) -> bool:
    return (folder / "metrics.json").is_file()
