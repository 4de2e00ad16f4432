"""Read folders of fits and sweeps for the page. Nothing is fitted or measured here, and torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amr.common.files import read_json
from amr.common.workspace import is_training, run_name, training_of
from amr.fusion.choices import Score
from amr.fusion.report.decisions import Decisions, of_evaluation, of_predictions
from amr.fusion.runs.read import SETTINGS, Run, canonical_name, read_runs, with_evaluation
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.statistics import why_no_test

UNLIKE_OURS = (KeyError, TypeError, AttributeError, IndexError)  # what such content raises
NO_TEST = dict.fromkeys(("p", "p_corrected", "p_holm", "p_wilcoxon", "p_wilcoxon_corrected", "effect_size", "d"))
FILES = "config.json of amr fit or sweep.json of amr sweep"


@dataclass(frozen=True)
class ResultFolder:
    """One folder that a section of the page is about.

    Args:
        folder: Folder of a sweep or a single run.
        runs: Its finished runs, in the order of the sweep.
        modality_infos: Modality to the cache's description of its embedding, over all runs.
        sweep: sweep.json; None for a single run.
        evaluation: evaluation.json; None without `amr evaluate`.
        table: Rows of table.json; None without `amr table`.
        frontier: frontier.json; None without `amr frontier`.
        training: Options of the training of encoders that made the runs, or the first of them; None for fits.
        of_page: Modalities of all folders of the page, in the order of their colors; empty for those of this folder.
    """

    folder: Path
    runs: tuple[Run, ...]
    modality_infos: Mapping[str, Mapping[str, Any]]
    sweep: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    table: Sequence[Mapping[str, Any]] | None = None
    frontier: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    of_page: tuple[str, ...] = ()

    @property
    def record(self) -> RunRecord:
        """config.json of the first run."""
        return self.runs[0].record

    @property
    def score(self) -> Score:
        """Measure of the task by which runs are chosen, such as accuracy."""
        return self.runs[0].score

    @property
    def name(self) -> str:
        """The folder's name; of a joint training's run, that of the training."""
        return run_name(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.record.classes

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of all runs."""
        names = [m for run in self.runs for m in run.modalities]
        return tuple(dict.fromkeys(names))

    def place_of(self, modality: str) -> int:
        """Number of a modality's color, the same in every picture of the page."""
        return (self.of_page or self.modalities).index(modality)

    @cached_property
    def comparisons(self) -> list[Mapping[str, Any]]:
        """Paired tests of evaluation.json, each measure under one name; without p if the pairs are too few."""
        tests = [] if self.evaluation is None else self.evaluation.get("comparisons", [])
        tests = [test if why_no_test(test["num_pairs"]) is None else test | NO_TEST for test in tests]
        renamed = [{**test, "measure": canonical_name(test["measure"])} for test in tests]
        unique = {(test["measure"], *(str(test.get(name)) for name in SETTINGS)): test for test in renamed}
        return list(unique.values())

    @cached_property
    def table_tests(self) -> list[Mapping[str, Any]]:
        """Paired tests of table.json, one per method and measure; without p if the seeds are too few."""
        is_tested = why_no_test(self.num_seeds) is None
        return [
            {"method": row["method"], "measure": measure, **(test if is_tested else test | NO_TEST)}
            for row in self.table or ()
            for measure, test in (row["tests"] or {}).items()
        ]

    @property
    def num_seeds(self) -> int:
        """Number of different seeds of its runs."""
        return len({run.seed for run in self.runs})

    @cached_property
    def decisions(self) -> Decisions | None:
        """Decisions on the test clips, of the evaluation or of a single run; None if they are not known."""
        file = self.folder / "evaluation.npz"
        if self.evaluation is not None and file.is_file():
            return of_evaluation(file, self.record.config.task, tuple(run["run"] for run in self.evaluation["runs"]))
        return of_predictions(self.runs[0]) if len(self.runs) == 1 else None

    @property
    def cache(self) -> Path:
        """Path of the cache when the runs were fitted; it may be gone."""
        return Path(self.record.cache)

    @property
    def clips(self) -> str:
        """Name of the clips: that of the cache, or of what the encoders were trained on."""
        if self.training is None:
            return self.cache.stem
        return self.training["dataset"] or Path(self.training["manifest"]).parent.name or "clips"


def read_results(folder: Path) -> ResultFolder:
    """Read the folder of a fit, a sweep or a table.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is none of those, its files are damaged, or it has no finished run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"DIR must be a folder, got {str(folder)!r}. Make one with amr fit or amr sweep.")
    if not any((folder / name).is_file() for name in ("sweep.json", "config.json")):
        raise ValueError(f"DIR must hold {FILES}, got {str(folder)!r}. Name the folder of a fit or a sweep.")
    makers = {"sweep": "the command that made it", "evaluation": "amr evaluate"}
    makers |= {name: f"amr {name}" for name in ("table", "frontier")}
    sweep, evaluation, table, frontier = (
        read_json(folder / f"{name}.json", "DIR", f"Run {maker} again.") for name, maker in makers.items()
    )
    try:
        runs = with_evaluation(read_runs(folder, "DIR"), evaluation)
        infos = {m: info for run in runs for m, info in run.record.modalities.items()}
        return ResultFolder(folder, tuple(runs), infos, sweep, evaluation, table, frontier, _training(folder, runs[0]))
    except UNLIKE_OURS as error:
        raise unlike_ours(folder, error) from error


def unlike_ours(folder: Path, error: Exception) -> ValueError:
    """Error for a folder with files of the right form and wrong content."""
    return ValueError(
        f"DIR must hold whole files, got {str(folder)!r} ({type(error).__name__}: {error}). "
        "Run the commands that made it again."
    )


def _training(folder: Path, run: Run) -> Mapping[str, Any] | None:
    """Options of the training of encoders that made a run, alone or in a sweep; None if it was fitted."""
    sweeps = (read_json(each / "sweep.json", "DIR") for each in (folder, folder.resolve().parent.parent))
    in_sweep = any(sweep.get("end_to_end") for sweep in sweeps if sweep is not None)
    if run.training is None or not (in_sweep or is_training(folder) or training_of(folder)):
        return None
    config: Mapping[str, Any] = read_json(run.training / "config.json", "DIR")["config"]
    return config
