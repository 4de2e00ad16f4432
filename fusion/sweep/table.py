"""Table 1 of the paper on a cache: every method without and with AMR, mean and interval over seeds, a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amr.common.files import checksummed, write_csv, write_json, write_text
from amr.common.progress import Progress
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.choices import SCORES
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.data.folds import modalities_of, read_training_data
from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.methods import methods
from amr.fusion.resolve import takes_steps
from amr.fusion.runs.statistics import MIN_VALUES_INTERVAL, holm, mean_interval, p_text, paired_test, why_no_test
from amr.fusion.sweep.folder import writing
from amr.fusion.sweep.sweep import SweepResult, sweep
from amr.fusion.sweep.trainings import sweep_trainings
from amr.fusion.swept import SweepConfig
from amr.fusion.tasks import tasks

FILES = tuple(f"table.{suffix}" for suffix in ("csv", "md", "tex", "json"))
# methods of the paper's table, in its order; `--method all` has every one
TABLE_1 = (
    *("unimodal", "naive", "dropout", "modality-dropout", "umt", "ume", "ogm-ge", "ogm", "gradient-blending", "gge"),
)


@dataclass(frozen=True)
class Table:
    """Rows of table 1.

    Args:
        folder: Folder of the sweep, with table.csv, table.md, table.tex and table.json.
        rows: Rows of JSON values, one per method (one per modality for `unimodal`): method, modalities, and for `plain`
            and `amr` (None if a method takes no ratio) the mean and the half width of the 95 % interval of each
            metric, and the mean shares; `p` is the paired t-test of AMR against none over seeds, `p_holm` corrected
            for all rows (None for fewer than three seeds).
        modalities: Names of the modalities, in the order of the shares.
        ratio: Target ratio of AMR; None if the table has no columns with AMR.
        num_seeds: Number of pairs in each test.
        diverged: Names of the runs that did not stay finite; they are left out.
        notes: Sentences about what was decided or left out.
        warnings: Sentences about data that make results doubtful, and about ratios that were not reached.
        task: Task of the runs.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    modalities: tuple[str, ...]
    ratio: str | None
    num_seeds: int
    diverged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    task: str = "multiclass"

    @property
    def metrics(self) -> dict[str, str]:
        """Names of the metrics to their words."""
        return _metrics(self.task)

    @property
    def title(self) -> str:
        """Heading of the table."""
        interval = " and 95 % interval" if self.num_seeds >= MIN_VALUES_INTERVAL else ""
        title = f"test, mean{interval} of {self.num_seeds} {'seed' if self.num_seeds == 1 else 'seeds'}"
        if self.ratio is None:
            return title
        title = f"{title}; AMR {self._named_ratio}"
        if self.no_test is not None:
            return title
        return f"{title}; p of AMR against none for {'/'.join(self.metrics.values())}, paired, Holm"

    @property
    def no_test(self) -> str | None:
        """Why no row has a p; None if rows have one, or no columns with AMR."""
        reason = None if self.ratio is None else why_no_test(self.num_seeds)
        return None if reason is None else f"no p: {reason} (--seeds 3 or more)"

    @property
    def _named_ratio(self) -> str:
        return "" if self.ratio is None else named_ratio(self.ratio, self.modalities)

    def cells(self, *, as_csv: bool = False) -> tuple[list[str], list[list[str]]]:
        """Columns and rows as text: without AMR on the left, with AMR on the right, as in the paper.

        One modality has no share. Only table.csv keeps its column.

        Args:
            as_csv: Whether to name columns and print shares as table.csv of version 0.1 did: in percent.
        """
        share = "/".join(self.modalities) if as_csv else f"share {'/'.join(self.modalities)}"
        halves = [""] if self.ratio is None else ["", f" AMR {self.ratio if as_csv else self._named_ratio}"]
        columns = ["method"]
        for half in halves:
            columns += [f"{title}{half}" for title in self.metrics.values()]
            columns += [f"{share}{half}"] * (self._fuses or as_csv)
        columns += [f"p {title}" for title in self.metrics.values()] * (self.ratio is not None)
        return columns, [self._cells(row, as_csv=as_csv) for row in self.rows]

    @property
    def _fuses(self) -> bool:
        return len(self.modalities) > 1

    def _cells(self, row: dict[str, Any], *, as_csv: bool) -> list[str]:
        cells = [_name(row)]
        for half in ("plain",) if self.ratio is None else ("plain", "amr"):
            cells += self._half_cells(row, half, percent=as_csv, with_share=self._fuses or as_csv)
        return cells if self.ratio is None else cells + self._p_cells(row)

    def stacked(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for a terminal: the row with AMR below the one without."""
        columns = ["method", *self.metrics.values(), *[f"share {'/'.join(self.modalities)}"] * self._fuses]
        if self.ratio is None:
            return columns, [[_name(row), *self._half_cells(row, "plain", with_share=self._fuses)] for row in self.rows]
        rows = []
        for row in self.rows:
            rows.append([_name(row), "no", *self._half_cells(row, "plain"), ""])
            if row["amr"] is not None:
                rows.append(["", "yes", *self._half_cells(row, "amr"), self._p_cell(row)])
        return [columns[0], "AMR", *columns[1:], "p"], rows

    def _half_cells(
        self, row: dict[str, Any], half: str, *, percent: bool = False, with_share: bool = True
    ) -> list[str]:
        values = row[half]
        cells = ["-" if values is None else _interval(values[metric]) for metric in self.metrics]
        if not with_share:
            return cells
        no_share = values is None or len(row["modalities"]) == 1
        return [*cells, "-" if no_share else _share_text(values["share"], percent=percent)]

    def _p_cells(self, row: dict[str, Any]) -> list[str]:
        tests = row["tests"]
        return ["-" if tests is None else p_text(tests[metric]["p_holm"]) for metric in self.metrics]

    def _p_cell(self, row: dict[str, Any]) -> str:
        """The p of all metrics in one cell."""
        cells = self._p_cells(row)
        return "-" if set(cells) == {"-"} else "/".join(cells)


def _metrics(task: str) -> dict[str, str]:
    """The main measures of a task; of classes, mAP comes first, as in the paper."""
    found = SCORES[task].main
    return dict(reversed(found.items())) if task == "multiclass" else found


def _name(row: dict[str, Any]) -> str:
    return f"{row['modalities'][0]} only" if methods[row["method"]].single_modality else row["method"]


def make_table(
    config: FitConfig,
    num_seeds: int,
    group_size: int | None = None,
    progress: Progress | None = None,
    *,
    names: Sequence[str] = (),
    with_amr: bool = True,
    overwrite: bool = False,
) -> Table:
    """Fit every method without and with AMR, with the same adapter in every row, and compare.

    With one modality there is nothing to fuse or to balance: the table is then the row of its unimodal model.

    Args:
        config: Settings of all rows. Its amr_ratio, by default 1:1:..., is used in the columns with AMR; its method and
            seed are ignored.
        num_seeds: Number of seeds, 0 to N-1.
        group_size: Number of runs trained at once; None for as many as fit the device.
        progress: Listener.
        names: Methods of the rows; `TABLE_1` if there are none, every one if it is ("all",).
        with_amr: Whether to make the columns with AMR.
        overwrite: Whether to replace another sweep in the folder.

    Raises:
        ValueError: The config does not fit the cache, or the folder holds something else.
        FileNotFoundError: The cache does not exist.
    """
    modalities = modalities_of(config)
    names, ratio, notes = _requested(config, modalities, names, with_amr=with_amr)
    base = replace(config, recipe=None, method="naive", amr_ratio=None, seed=0)
    every_method = SweepConfig(
        base,
        method=names,
        amr_ratio=(None,) if ratio is None else (None, ratio),
        seed=tuple(range(num_seeds)),
        group_size=group_size,
    )
    _check_test_split(base)
    result = sweep(every_method, progress, overwrite=overwrite)
    return _table_of(replace(result, notes=(*notes, *result.notes)), modalities, ratio, num_seeds)


def make_table_end_to_end(
    config: TrainConfig,
    num_seeds: int,
    progress: Progress | None = None,
    *,
    names: Sequence[str] = (),
    with_amr: bool = True,
    overwrite: bool = False,
) -> Table:
    """Train encoders by every method without and with AMR, and compare: the paper's own setting.

    Args:
        config: Settings of all rows. Its amr_ratio, by default 1:1:..., is used in the columns with AMR; its method and
            seed are ignored.
        num_seeds: Number of seeds, 0 to N-1.
        progress: Listener.
        names: Methods of the rows; `TABLE_1` if there are none, every one if it is ("all",).
        with_amr: Whether to make the columns with AMR.
        overwrite: Whether to replace another sweep in the folder.

    Raises:
        ValueError: The config does not fit the clips, or the folder holds something else.
        FileNotFoundError: Media or weights are missing.
    """
    modalities = tuple(config.encoders)
    names, ratio, notes = _requested(config, modalities, names, with_amr=with_amr)
    every_method = TrainSweepConfig(
        replace(config, objective="joint", method="naive", seed=0, amr_ratio=None),
        method=names,
        amr_ratio=(None,) if ratio is None else (None, ratio),
        attribution=(config.attribution,),
        seed=tuple(range(num_seeds)),
    )
    result = sweep_trainings(every_method, progress, overwrite=overwrite, needs_test=True)
    return _table_of(replace(result, notes=(*notes, *result.notes)), modalities, ratio, num_seeds)


def _requested(
    config: TrainingConfig, modalities: Sequence[str], names: Sequence[str], *, with_amr: bool
) -> tuple[tuple[str, ...], str | None, list[str]]:
    """Methods of the rows, ratio of the columns with AMR (None: there are none), and notes.

    Raises:
        ValueError: The ratio is not of these modalities.
    """
    if config.amr_ratio is not None:
        parse_ratio(config.amr_ratio, modalities, name="--amr-ratio")
    elif len(modalities) == 1:
        note = f"AMR and fusion need two modalities, got {modalities[0]}: the table has its unimodal row only"
        return default_methods(modalities), None, [note]
    ratio = (config.amr_ratio or ":".join("1" for _ in modalities)) if with_amr else None
    if names:
        return tuple(names), ratio, []
    task = getattr(config, "task", "multiclass")  # encoders are trained for classes
    notes = [f"{name} is left out: {reason}" for name in TABLE_1 if (reason := _unfit(name, task))]
    return default_methods(modalities, task), ratio, notes


def default_methods(modalities: Sequence[str], task: str = "multiclass") -> tuple[str, ...]:
    """Methods of the rows if none is named: `TABLE_1`, without those that cannot learn the task.

    Of one modality, it is the unimodal method alone.
    """
    if len(modalities) == 1:
        return tuple(name for name in methods if methods[name].single_modality)
    return tuple(name for name in TABLE_1 if not _unfit(name, task))


def _unfit(name: str, task: str) -> str | None:
    """Why a method cannot learn a task; None if it can."""
    return methods[name].unfit(methods[name].Options(), tasks[task])


def _table_of(result: SweepResult, modalities: Sequence[str], ratio: str | None, num_seeds: int) -> Table:
    """Write the table of a sweep.

    Raises:
        RuntimeError: No run has test clips, because all diverged.
    """
    if not result.rows:
        raise RuntimeError("the loss must stay finite, got no run whose loss did. Pass a smaller --lr.")
    test = result.table[result.table["part"] == "test"]
    metrics = _metrics(result.task)
    rows = [_row(runs, modalities, [*metrics]) for _, runs in test.groupby(["method", "modalities"], sort=False)]
    _correct(rows, [*metrics])
    table = Table(
        result.folder,
        tuple(rows),
        tuple(modalities),
        ratio,
        num_seeds,
        result.diverged,
        result.notes,
        result.warnings,
        result.task,
    )
    _write(table)
    return table if table.no_test is None else replace(table, notes=(*table.notes, table.no_test))


def _check_test_split(config: FitConfig) -> None:
    """Raise ValueError before training if the cache has no test clips."""
    data = read_training_data(replace(config, device="cpu"), keep_steps=takes_steps(config))
    if len(data.folds[0].test) == 0:
        raise ValueError("--split-policy must name a split with test clips, got none. Pass another, or --folds 5.")


def _row(runs: pd.DataFrame, modalities: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    halves = {"plain": runs[runs["amr_ratio"] == "none"], "amr": runs[runs["amr_ratio"] != "none"]}
    row: dict[str, Any] = {"method": runs["method"].iloc[0], "modalities": runs["modalities"].iloc[0].split(",")}
    for half, values in halves.items():
        row[half] = None if len(values) == 0 else _half(values, modalities, metrics)
    row["tests"] = None if len(halves["amr"]) == 0 else {m: _test(halves, m) for m in metrics}
    return row


def _half(runs: pd.DataFrame, modalities: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        metric: dict(zip(("mean", "half_width"), mean_interval(runs[metric].to_numpy()), strict=True))
        for metric in metrics
    }
    shares = {m: runs[f"share_{m}"].mean() if f"share_{m}" in runs else np.nan for m in modalities}
    result["share"] = {m: None if np.isnan(value) else float(value) for m, value in shares.items()}
    return result


def _test(halves: dict[str, pd.DataFrame], metric: str) -> dict[str, float | None]:
    """Paired t-test over seeds: the mean difference by AMR, Cohen's d of the differences, and p."""
    plain, amr = (halves[half].set_index("seed")[metric].sort_index() for half in ("plain", "amr"))
    test = paired_test((amr - plain).dropna().to_numpy())
    return {"difference": test.difference, "d": test.effect_size, "p": test.p}


def _correct(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> None:
    """Add Holm's correction of each metric's p over the rows, in place."""
    for metric in metrics:
        tests = [row["tests"][metric] for row in rows if row["tests"] is not None]
        for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = corrected


def _interval(value: dict[str, float | None]) -> str:
    half = value["half_width"]
    return f"{value['mean']:.3f}" if half is None else f"{value['mean']:.3f} ± {half:.3f}"


def _share_text(share: dict[str, float | None], *, percent: bool) -> str:
    texts = (None if value is None else f"{100 * value:.0f}" if percent else f"{value:.2f}" for value in share.values())
    return "/".join(text or "-" for text in texts)


def _write(table: Table) -> None:
    columns, rows = table.cells(as_csv=True)
    with writing(table.folder), checksummed(table.folder, *FILES):
        write_csv(table.folder / "table.csv", pd.DataFrame(rows, columns=columns))
        columns, rows = table.cells()
        note = table.no_test
        write_text(table.folder / "table.md", markdown(columns, rows) + (f"\n{note}\n" if note else ""))
        write_text(table.folder / "table.tex", latex(columns, rows) + (f"% {note}\n" if note else ""))
        write_json(table.folder / "table.json", list(table.rows))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown, with a line break at its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table for LaTeX with booktabs: the first column to the left, the others to the right."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    body = "\n".join(line(row) for row in rows)
    align = "l" + "r" * (len(columns) - 1)
    head = f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{line(columns)}\n\\midrule\n"
    return f"{head}{body}\n\\bottomrule\n\\end{{tabular}}\n"


# letters that mean something to LaTeX: names of modalities may have them
_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "\N{MINUS SIGN}": "$-$"}
)
