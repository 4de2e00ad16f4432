"""`--logger csv`: the history of all runs in one tidy file, one row per run, epoch and value."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from amr.common.files import replacing
from amr.fusion.loggers.base import Logger, Point, TrackedRun, loggers
from amr.fusion.loggers.files import HISTORY

COLUMNS = ("run", "fold", "epoch", "name", "value")


@loggers.register("csv")
class CsvLogger(Logger):
    """Rows in `history.csv`: run, fold, epoch, name and value, then the settings of the run."""

    summary = "logs/history.csv, one row per run, epoch and value, with the settings of the run"

    def __init__(self, folder: Path, group: str | None = None) -> None:
        super().__init__(folder, group)
        self._file = folder / HISTORY
        self._header: list[str] = []
        self._settings: dict[str, list[Any]] = {}
        self._logged: set[str] = set()  # runs with rows in the file

    @classmethod
    def check(cls) -> None:
        """Pass: nothing is needed."""

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run; rows of an earlier, killed command are replaced."""
        settings = {name: value for name, value in run.flat_settings.items() if name not in COLUMNS}
        if not self._header:
            self._header = [*COLUMNS, *settings]
            rows = self._rows()
            self._logged = {row["run"] for row in rows}
            self._rewrite(rows)  # without what a kill left of a line
        if run.name in self._logged:
            self._rewrite([row for row in self._rows() if row["run"] != run.name])
        self._logged.add(run.name)
        # as in results.csv: without a ratio is a value, too
        self._settings[run.name] = [
            "none" if name == "amr_ratio" and settings.get(name) is None else settings.get(name)
            for name in self._header[len(COLUMNS) :]
        ]
        for point in points:
            self.log(run.name, point)

    def log(self, name: str, point: Point) -> None:
        """Append the values of an epoch."""
        place = [name, point.fold, point.epoch]
        with self._file.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [*place, key, value, *self._settings[name]] for key, value in point.values.items()
            )

    def end(self, name: str, measures: Point | None) -> None:
        """Append the test measures, at the last epoch."""
        if measures is not None:
            self.log(name, measures)

    def _rows(self) -> list[dict[str, str]]:
        """Whole rows of the file; none if there is no file."""
        if not self._file.is_file():
            return []
        with self._file.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file, restkey="") if None not in row.values() and "" not in row]

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._file) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._header, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
