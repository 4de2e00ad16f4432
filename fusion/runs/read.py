"""Read finished runs: one class for evaluate, report, tables and pictures. Nothing here imports torch.

`amr.fusion.runs.record` lists the files of a run folder. The folder of a sweep holds sweep.json, results.csv and one
run folder per run in runs/.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from amr.common.files import NotWhole, damaged_names, read_json, read_table, read_whole, whole_file
from amr.common.options import number_text
from amr.common.progress import Progress
from amr.common.workspace import EMBEDDINGS, is_training, run_name, training_of, training_runs
from amr.fusion.choices import SCORES, Score
from amr.fusion.config import FitConfig
from amr.fusion.runs.record import RUN_FILES, RunRecord, check_measures

# Settings besides the seed in which the runs of a folder may differ: columns of results.csv and evaluation.csv.
SETTINGS = (
    "head",
    "method",
    "modalities",
    "amr_ratio",
    "amr_weight",
    "lr",
    "attribution",
    "amr_level",
    "embedding_noise",
    "weight_decay",
    "method_option",
)
OF_AMR = ("amr_weight", "attribution", "amr_level")  # None without a ratio
# Settings after method, head, modalities and ratio, as labels of tables and pictures name them.
_DETAILS = {
    "attribution": "{}",
    "amr_level": "level {}",
    "amr_weight": "weight {}",
    "embedding_noise": "noise {}",
    "lr": "lr {}",
    "weight_decay": "decay {}",
    "method_option": "{}",
}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Folder of the run.
        record: Record of the run (config.json).
        val, test: Measures in metrics.json, the mean over folds; None if the split has no clips.
        folds: Measures `val` and `test` of each fold; one entry without folds.
        evaluated: Entry of the run in evaluation.json; empty if there is none.
    """

    folder: Path
    record: RunRecord
    val: Mapping[str, Any] | None
    test: Mapping[str, Any] | None
    folds: tuple[Mapping[str, Any], ...]
    evaluated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder; of the run of a training of encoders, that of the training (`run_name`)."""
        return run_name(self.folder)

    @property
    def training(self) -> Path | None:
        """Folder of the training of encoders whose z the run takes; None for other embeddings."""
        cache = Path(self.record.cache)
        return training_of(cache) if cache.name == EMBEDDINGS else None

    @property
    def config(self) -> FitConfig:
        """Settings of the fit."""
        return self.record.config

    @property
    def seed(self) -> int:
        """Seed of the fit."""
        return self.config.seed

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the run, in order."""
        return tuple(self.record.modalities)

    @property
    def score(self) -> Score:
        """Measure of the task by which runs are chosen."""
        return SCORES[self.config.task]

    @property
    def val_score_text(self) -> str:
        """The score on val in parentheses, for messages; empty without val clips."""
        return "" if self.val is None else f" (val {self.score.words} {self.val[self.score.name]:.3f})"

    @property
    def val_gain(self) -> float:
        """The score on val, its sign such that more is better; minus infinity without val clips."""
        return -math.inf if self.val is None else self.score.gain(float(self.val[self.score.name]))

    @property
    def fuses(self) -> bool:
        """Whether one head fuses several modalities, so that their balance is defined."""
        return self.record.fuses and len(self.modalities) > 1

    @property
    def regularized(self) -> bool:
        """Whether the run was trained with AMR."""
        return self.config.regularizer_weight > 0

    @cached_property
    def setting(self) -> dict[str, Any]:
        """`SETTINGS` of the run as in evaluation.json: "-" for no head, None for no ratio, or if not set."""
        c = self.config
        return {
            "head": c.head if self.record.fuses and self.record.model is None else "-",
            "method": self.record.model or c.method,
            "modalities": list(self.modalities),
            "amr_ratio": c.amr_ratio,
            **{name: getattr(c, name) if c.amr_ratio else None for name in OF_AMR},
            "amr_weight": c.regularizer_weight if c.amr_ratio else None,
            **{name: getattr(c, name) for name in ("lr", "embedding_noise", "weight_decay")},
            "method_option": ",".join(c.method_option) or None,
        }

    @cached_property
    def measures(self) -> dict[str, float]:
        """Flat name (`share.audio`) to value on test, with the evaluation's measures; on val if there is no test.

        `alone`, `use_share` and `shapley_use_share` are here if they follow from the others, as in the evaluations of
        version 0.1, which did not name them, and in fits that were not evaluated.
        """
        found = flat(self.test or self.val or {}) | flat(self.nested)
        same = {canonical_name(name): value for name, value in found.items()}
        return use_shares(found, self.modalities) | found | same

    @cached_property
    def val_measures(self) -> dict[str, float]:
        """Flat name to value on val, as measured by the fit."""
        return flat(self.val or {})

    @property
    def nested(self) -> Mapping[str, Any]:
        """Nested measures of evaluation.json; empty if there is no evaluation."""
        return self.evaluated.get("measures", {})

    @property
    def intervals(self) -> dict[str, tuple[float | None, float | None]]:
        """Flat name to the low and high bound over bootstrapped clips."""
        return {name: tuple(bounds) for name, bounds in self.evaluated.get("intervals", {}).items() if bounds}

    @cached_property
    def val_loss(self) -> float:
        """Val loss of the saved epoch, the mean over folds; infinite if there is none."""
        tables = self._tables("history.csv", ("epoch",))
        losses = [t.loc[t["chosen"] == 1, "val_loss"].mean() for t in tables if {"chosen", "val_loss"} <= {*t.columns}]
        loss = float(sum(losses) / len(losses)) if losses else math.inf
        return math.inf if math.isnan(loss) else loss

    def history(self) -> pd.DataFrame | None:
        """Read history.csv: one row per epoch, the mean over folds; None if there is none."""
        tables = self._tables("history.csv", ("epoch",))
        return pd.concat(tables).groupby("epoch", as_index=False).mean(numeric_only=True) if tables else None

    def predictions(self) -> pd.DataFrame | None:
        """Read the test rows of predictions.csv, over all folds; None if the run has none."""
        shares = [f"share_{m}" for m in self.modalities]
        numbers = ["probability"] * (self.config.task == "multiclass")
        tables = self._tables("predictions.csv", (*numbers, *shares), ("id", "part", "target", "pred"))
        if not tables:
            return None
        table = pd.concat(tables, ignore_index=True)
        table = table.fillna({"target": "", "pred": ""})  # a clip without labels
        return table[table["part"] == "test"].reset_index(drop=True)

    def _tables(self, name: str, numbers: Sequence[str], texts: Sequence[str] = ()) -> list[pd.DataFrame]:
        """Tables of that name of all folds, as far as they exist. Without `texts`, all columns are numbers."""
        places = (self.folder, *sorted(self.folder.glob("fold-*")))
        files = [place / name for place in places if (place / name).is_file()]
        tables = [read_table(file, numbers, texts) for file in files]
        for file, table in zip(files, tables, strict=True):
            with whole_file(file, "RUN"):
                unknown = {*table.get("target", ()), *table.get("pred", ())} - {*self.record.classes}
                if unknown and self.config.task == "multiclass":
                    raise ValueError(f"class {min(map(str, unknown))!r} is not one of the run")
        return tables


def read_run(folder: Path, option: str = "RUN") -> Run:
    """Read a finished run.

    Args:
        folder: Folder of the run.
        option: Name of the argument, for errors.

    Raises:
        FileNotFoundError: The folder is not a run, or the run is not finished.
        ValueError: Its files are damaged.
    """
    record = RunRecord.read(folder, option)
    metrics = read_json(folder / "metrics.json", option)
    if metrics is None:
        raise FileNotFoundError(
            f"{option} must be a finished run, got {str(folder)!r}. Run the same amr fit or amr sweep again."
        )
    with whole_file(folder / "metrics.json", option):
        folds = tuple(metrics.get("folds", [metrics]))
        if len(folds) != max(1, record.config.folds):
            raise ValueError(f"it has {len(folds)} folds, not {record.config.folds}")
        for measures in (each[split] for each in (metrics, *folds) for split in ("val", "test")):
            check_measures(measures, [*record.modalities], SCORES[record.config.task].name)
        return Run(folder, record, metrics["val"], metrics["test"], folds)


def damaged_file(folder: Path) -> Path | None:
    """A file of a finished run that is damaged or gone; None if the run is whole. Every file is read."""
    if not (folder / "metrics.json").is_file():
        return folder / "metrics.json"
    try:
        run = read_run(folder)
    except NotWhole as error:
        return error.file
    except (ValueError, FileNotFoundError):
        return folder / "config.json"
    folds = [folder / f"fold-{k}" for k in range(run.config.folds)]
    found = [place / name for place in (folder, *folds) for name in damaged_names(place) if name in RUN_FILES]
    gone = [file for place in folds or [folder] if not (file := place / "weights.safetensors").is_file()]
    return next(iter(found + gone), None)


def read_runs(folder: Path, option: str = "RUN") -> list[Run]:
    """Read the run in a folder of `amr fit`, or all finished runs in a folder of `amr sweep` or `amr table`.

    A training of encoders has one run if it is joint, and one per modality if it is unimodal.

    Raises:
        FileNotFoundError: The folder is neither.
        ValueError: No run of the sweep is finished, or files are damaged.
    """
    if is_training(folder):
        return [read_run(run, option) for run in training_runs(folder)]
    if (folder / "config.json").is_file():
        return [read_run(folder, option)]
    if not (folder / "sweep.json").is_file():
        raise FileNotFoundError(
            f"{option} must be the folder of a run or of a sweep, got {str(folder)!r}. "
            "Make one with amr fit or amr sweep."
        )
    finished = sorted(file.parent for file in folder.glob("runs/*/metrics.json"))
    results = folder / "results.csv"
    if results.is_file() and read_whole(results, option).strip():  # in the order requested; empty without splits
        order = {name: i for i, name in enumerate(read_table(results, texts=("run",))["run"].unique())}
        finished.sort(key=lambda run: order.get(run.name, len(order)))
    if not finished:
        raise ValueError(
            f"{option} must hold a finished run, got none in {str(folder)!r}. Run the command that made it again."
        )
    return [read_run(run, option) for run in finished]


def best_run(folder: Path, option: str = "RUN") -> Run:
    """Read the run in a folder of `amr fit`, or the best run by val in a folder of `amr sweep` or `amr table`.

    The best run is that of `best_of`.

    Raises:
        FileNotFoundError: The folder is neither.
        ValueError: No run is finished, there are several and none has val clips, or files are damaged.
    """
    runs = read_runs(folder, option)
    if len(runs) == 1:
        return runs[0]
    if max(run.val_gain for run in runs) == -math.inf:
        raise ValueError(
            f"{option} must be one run if no run has val clips to choose by, got {len(runs)} runs in {str(folder)!r}. "
            f"Name one, such as {runs[0].folder}."
        )
    return best_of(runs)


def best_of(runs: Sequence[Run]) -> Run:
    """The run with the best score on val; of equals, that with the lowest val loss; of equals again, the first."""
    highest = max(run.val_gain for run in runs)
    return min((run for run in runs if run.val_gain == highest), key=lambda run: run.val_loss)


def chosen_run(folder: Path, progress: Progress | None = None, option: str = "RUN") -> Path:
    """Folder of the run in a folder of `amr fit`, or of the best one, which is then noted.

    The best is the one that `amr frontier` chose, or the `best_run` of a sweep or table.

    Raises:
        FileNotFoundError: The folder is neither.
        ValueError: There is no best run.
    """
    if (folder / "config.json").is_file() and not is_training(folder):
        return folder
    file = folder / "frontier.json"
    frontier = read_json(file, option)
    with whole_file(file, option):
        # the frontier of a sweep's runs is a reading of it, which must not change what its best run is
        is_own = frontier is not None and frontier["best"] is not None and "runs" not in frontier["config"]
        chosen = folder / "runs" / Path(frontier["best"]["run"]).name if is_own else folder
    if is_own:
        if progress is not None:
            progress.note(f"using {chosen}, which amr frontier chose")
        return chosen
    run = best_run(folder, option)
    if progress is not None:
        progress.note(f"using {run.folder}, the best run by val{run.val_score_text}")
    return run.folder


def with_evaluation(runs: Sequence[Run], evaluation: Mapping[str, Any] | None) -> list[Run]:
    """Add the entries of evaluation.json to runs; a single run gets the only entry."""
    if evaluation is None:
        return list(runs)
    entries = {entry["run"]: entry for entry in evaluation["runs"]}
    only = evaluation["runs"][0] if len(runs) == 1 and len(evaluation["runs"]) == 1 else None
    return [replace(run, evaluated=entries.get(run.name, only or {})) for run in runs]


def flat(measures: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Flatten nested measures, names joined by dots; values that are not finite numbers are left out.

    >>> flat({"accuracy": 0.5, "share": {"audio": 0.7, "video": None}})
    {'accuracy': 0.5, 'share.audio': 0.7}
    """
    result: dict[str, float] = {}
    for name, value in measures.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{before}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            result[f"{before}{name}"] = float(value)
    return result


# Part of a name that other files use, to the name of that measure on pages; a modality follows.
SAME = {"missing.mean": "alone", "shapley_share.permutation": "shapley_use_share"}


def canonical_name(name: str) -> str:
    """Name of a measure on pages: one name for what evaluation.json has under two.

    >>> canonical_name("missing.mean.audio"), canonical_name("missing.mean.audio+video")
    ('alone.audio', 'missing.mean.audio+video')
    """
    first, _, modality = name.rpartition(".")
    return f"{SAME[first]}.{modality}" if first in SAME and "+" not in modality else name


def use_shares(measures: Mapping[str, float], modalities: Sequence[str]) -> dict[str, float]:
    """`use_share.MODALITY` from the uses, negative ones taken as 0; empty if a use is unknown or none is positive.

    >>> use_shares({"perceptual.audio": 0.375, "perceptual.video": 0.125}, ["audio", "video"])
    {'use_share.audio': 0.75, 'use_share.video': 0.25}
    """
    uses = [measures.get(f"perceptual.{m}") for m in modalities]
    positive = [max(use, 0.0) for use in uses if use is not None]
    total = sum(positive)
    if len(positive) < max(2, len(modalities)) or total == 0:
        return {}
    return {f"use_share.{m}": use / total for m, use in zip(modalities, positive, strict=True)}


def varied_settings(settings: Sequence[Mapping[str, str]]) -> set[str]:
    """Names of the settings in which runs differ, from the texts of each setting; "-" is not set.

    >>> plain = dict.fromkeys(SETTINGS, "-")
    >>> sorted(varied_settings([plain, plain | {"embedding_noise": "2", "attribution": "shapley"}]))
    ['embedding_noise']
    """
    values = {name: {texts[name] for texts in settings} for name in SETTINGS}
    # without noise is a value, too; without AMR there is no attribution that could differ
    return {name for name, each in values.items() if len(each if name == "embedding_noise" else each - {"-"}) > 1}


def setting_details(setting: Mapping[str, Any], varied: Collection[str]) -> list[str]:
    """Words for the settings in `varied`, other than method, head, modalities and ratio.

    >>> setting_details({"amr_weight": 0.3, "attribution": "permutation", "lr": None}, ["amr_weight", "lr"])
    ['weight 0.3']
    """
    texts = {name: setting_text(name, setting.get(name)) for name in _DETAILS if name in varied}
    return [_DETAILS[name].format(text) for name, text in texts.items() if text != "-"]


def setting_text(name: str, value: object) -> str:
    """Text of a setting on pages and in CSV files: "none" without a ratio, "-" if something else is not set.

    >>> setting_text("modalities", ["audio", "video"]), setting_text("lr", 0.001), setting_text("amr_weight", None)
    ('audio,video', '0.001', '-')
    >>> setting_text("amr_ratio", None)
    'none'
    """
    if value is None and name == "amr_ratio":
        return "none"
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if name in ("amr_weight", "lr", "weight_decay"):
        try:
            return number_text(float(str(value)))
        except ValueError:
            return "-"
    return str(value)
