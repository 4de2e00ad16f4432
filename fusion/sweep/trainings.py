"""Many trainings of encoders on the same clips: `amr train-encoders` with lists, `amr table --end-to-end`.

Media are decoded once. Uni-modal models are trained once per seed and shared by the methods that learn from them. A
stopped sweep continues at the epoch. Several processes may work on one sweep: each takes a training that no other one
holds, and waits for the rest.

    sweep.json              the request
    trainings/<name>/       one training each, as `amr train-encoders` writes it
    runs/<name>/            its model as a run; `unimodal_<modality>_seed<N>` for each modality of a uni-modal training
    results.csv             one row per run and split
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amr.common.files.lock import Locked, remove_left
from amr.common.progress import Progress
from amr.common.workspace import TRAININGS, check_new_name, encoders_dir
from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.choices import own_weight
from amr.fusion.end_to_end.checkpoint import SECONDS_BETWEEN, remove_checkpoints
from amr.fusion.end_to_end.config import TRAIN_SWEPT, TrainConfig, TrainSweepConfig, alone, without_amr
from amr.fusion.end_to_end.data import MediaData, read_media_data
from amr.fusion.end_to_end.folder import (
    IRRELEVANT,
    METRICS,
    has_diverged,
    is_finished,
    read_folder,
    read_saved,
    requested,
)
from amr.fusion.end_to_end.train import Diverged, check, check_teachers, train_encoders
from amr.fusion.loggers.tracker import check_loggers
from amr.fusion.methods import methods
from amr.fusion.methods.able import with_able_methods
from amr.fusion.resolve import with_head, without_effect_on
from amr.fusion.runs.read import Run, damaged_file, read_run
from amr.fusion.sweep.folder import begin, check_folder, folder_of, writing
from amr.fusion.sweep.results import missed_by, write_rows
from amr.fusion.sweep.sweep import SweepResult

SECONDS_BETWEEN_LOOKS = 2.0  # at trainings of other processes
SECONDS_BETWEEN_NOTES = 30.0


@dataclass(frozen=True)
class Training:
    """One training of a sweep.

    Args:
        name: Name of its folder in trainings/.
        config: Options of the training.
        teachers: Name of the uni-modal training that it learns from; None if it needs none.
    """

    name: str
    config: TrainConfig
    teachers: str | None = None

    @property
    def folder(self) -> Path:
        """Folder of the training."""
        return Path(str(self.config.out))

    def run(self, model: str) -> Path:
        """Folder of the run of a model, "joint" or a modality."""
        name = self.name if model == "joint" else f"{self.name.replace('_', f'_{model}_', 1)}"
        return self.folder.parent.parent / "runs" / name


def sweep_trainings(
    config: TrainSweepConfig,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    needs_test: bool = False,
    seconds_between: float = SECONDS_BETWEEN,
) -> SweepResult:
    """Train every combination of a sweep, and write results.csv.

    Args:
        config: Config of the sweep.
        progress: Listener.
        overwrite: Whether to replace another sweep in the folder.
        needs_test: Whether there must be test clips.
        seconds_between: Least time between checkpoints.

    Raises:
        ValueError: The request does not fit the clips, or the folder holds something else.
        FileNotFoundError: Media or weights are missing.
        Locked: Another sweep would be replaced, but another process trains it.
    """
    progress = progress or Progress()
    check_loggers(config.base.logger)
    config, left_out = with_able_methods(config, _checked)
    members = _members(config)
    for member in members:
        check_teachers(member)
    request = _request(config)
    base = config.base
    source = base.dataset or Path(str(base.manifest)).resolve().parent.name
    check_new_name(base.out, encoders_dir())
    folder = folder_of(base.out, request, ("trainings", source, base.label))
    trainings = _trainings(members, folder)
    check_folder(folder, request, lambda: _holds(folder, trainings), overwrite=overwrite)
    data = read_media_data(members[0], progress)  # before the folder: wrong media must leave nothing
    if needs_test and len(data.rows.test) == 0:
        raise ValueError("--split-policy must name a split with test clips, got none. Pass another.")
    request["clips_sha256"] = data.clips_sha256()
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder):
        of_these = functools.cache(lambda: _holds(folder, trainings, request["clips_sha256"]))
        check_folder(folder, request, of_these, overwrite=overwrite)
        begin(folder, request, of_these, progress)
    diverged = _train_all(trainings, data, progress, seconds_between)
    finished = [each for each in trainings if each.name not in diverged]
    results = [read_folder(each.folder) for each in finished]
    runs = [_run(each, model) for each, result in zip(finished, results, strict=True) for model in result.epochs]
    with writing(folder):
        rows = write_rows(folder, runs)
    ignored = without_effect_on(config.members())
    notes = dict.fromkeys([*left_out, *ignored, *(note for result in results for note in result.notes)])
    warnings = dict.fromkeys(text for result in results for text in result.warnings)
    return SweepResult(folder, tuple(rows), tuple(notes), tuple(diverged), (*warnings, *missed_by(runs)))


def _run(training: Training, model: str) -> Run:
    folder = training.run(model)
    if (damaged := damaged_file(folder)) is not None:
        raise ValueError(
            f"--out must have the whole run of each finished training, got a damaged or missing {str(damaged)!r}. "
            f"Remove {str(training.folder)!r} to train it again."
        )
    return read_run(folder)


def _request(config: TrainSweepConfig) -> dict[str, Any]:
    """Content of sweep.json. Without what does not change the numbers, which may differ when a sweep continues."""
    base = requested(config.base)
    swept = {name: list(getattr(config, name)) for name in TRAIN_SWEPT}
    fixed = {name: value for name, value in base.items() if name not in (*swept, *IRRELEVANT)}
    given = config.base.amr_weight
    weights = list(dict.fromkeys(own_weight(each) if given is None else given for each in config.attribution))
    fixed["amr_weight"] = weights[0] if len(weights) == 1 else weights
    saved: dict[str, Any] = json.loads(json.dumps({"end_to_end": True, **swept, "base": fixed}))
    return saved


def _members(config: TrainSweepConfig) -> list[TrainConfig]:
    """Checked config of each training. --overwrite is about the sweep, not about its trainings."""
    members = [replace(member, overwrite=False) for member in config.members()]
    if any(methods[member.method].fits_unimodal for member in members):
        members = [
            member if methods[member.method].fits_unimodal else replace(member, teachers=None) for member in members
        ]
    return list(dict.fromkeys(map(_checked, members)))


def _checked(config: TrainConfig) -> TrainConfig:
    """The config as its method needs it: uni-modal trainings have an objective of their own, some take no ratio.

    Raises:
        ValueError: Options cannot be combined.
    """
    method = methods[config.method]
    needed = alone(config) if method.single_modality else with_head(config if method.fuses else without_amr(config))
    check(needed)
    return needed


def _trainings(members: list[TrainConfig], folder: Path) -> list[Training]:
    """Trainings of the members, each after the uni-modal training that it learns from."""
    found: dict[str, Training] = {}

    def add(config: TrainConfig, teachers: str | None = None) -> str:
        name = _name(config)
        place = folder / TRAININGS
        # resolved, so that the sweep is the same from every working directory
        taught_by = config.teachers if teachers is None else str((place / teachers).resolve())
        found.setdefault(name, Training(name, replace(config, out=str(place / name), teachers=taught_by), teachers))
        return name

    for member in members:
        learns = member.objective == "joint" and methods[member.method].fits_unimodal and member.teachers is None
        add(member, add(alone(member)) if learns else None)
    return list(found.values())


def _holds(folder: Path, trainings: Sequence[Training], clips_sha256: str | None = None) -> bool:
    """Whether a folder holds some of these trainings and no other one.

    Args:
        folder: Folder of the sweep.
        trainings: Its trainings.
        clips_sha256: Hash of their clips; None if it is not known yet.
    """
    known = {each.name: each for each in trainings}
    found = [path for path in (folder / TRAININGS).glob("*") if path.is_dir()]
    return bool(found) and all(path.name in known and _may_be(known[path.name], clips_sha256) for path in found)


def _may_be(training: Training, clips_sha256: str | None) -> bool:
    """Whether the folder of a training holds it; one that is not finished, `train_encoders` checks."""
    saved = read_saved(training.folder)
    if saved is None or not (training.folder / METRICS).is_file():
        return True
    return is_finished(training.folder, training.config) and clips_sha256 in (None, saved.get("clips_sha256"))


def _name(config: TrainConfig) -> str:
    if config.objective == "unimodal":
        return f"unimodal_seed{config.seed}"
    parts = [config.method]
    if config.amr_ratio is None:
        parts.append("plain")
    else:
        ratio = named_ratio(config.amr_ratio, list(config.encoders)) if "=" in config.amr_ratio else config.amr_ratio
        parts += [f"amr-{ratio}", config.attribution]
    name = "_".join([*parts, f"seed{config.seed}"])
    return "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)


def _train_all(trainings: list[Training], data: MediaData, progress: Progress, seconds_between: float) -> list[str]:
    """Train what is not finished, with other processes if there are any; returns the names of those that diverged."""
    diverged: list[str] = []
    for training in trainings:
        if _is_done(training) or has_diverged(training.folder, training.config):
            _remove_left(training)
    todo = [each for each in trainings if not _is_done(each)]
    progress.start(len(trainings), len(trainings) - len(todo), "trainings")
    awaited = ""
    try:
        while todo:
            later: list[Training] = []
            for training in todo:
                if training.teachers in [each.name for each in later]:
                    later.append(training)
                elif training.teachers in diverged or has_diverged(training.folder, training.config):
                    diverged.append(training.name)
                elif _train(training, data, progress, diverged, seconds_between):
                    progress.advance(1)
                else:
                    later.append(training)
            if len(later) == len(todo):
                if later[0].name != awaited:
                    awaited = later[0].name
                    progress.note(f"waiting for {awaited}, which another process trains")
                time.sleep(SECONDS_BETWEEN_LOOKS)
            todo = later
    finally:
        progress.stop()
    return diverged


def _train(
    training: Training, data: MediaData, progress: Progress, diverged: list[str], seconds_between: float
) -> bool:
    """Train, or take the result of another process; False if another one is at it."""
    try:
        train_encoders(
            training.config,
            _Notes(training.name, progress),
            seconds_between=seconds_between,
            data=data.with_new_encoders(training.config),
            places=training.run,
            group=training.folder.parent.parent.name,
        )
    except Locked:
        return False
    except Diverged:
        diverged.append(training.name)
    _remove_left(training)
    return True


def _remove_left(training: Training) -> None:
    """Remove checkpoints, copies of all weights: a sweep does not continue to more epochs. A kill left more."""
    remove_checkpoints(training.folder)
    remove_left(training.folder)


def _is_done(training: Training) -> bool:
    return training.folder.exists() and is_finished(training.folder, training.config)


class _Notes(Progress):
    """Notes of one training among many: named, and not more often than every 30 seconds."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._said = time.monotonic()

    def note(self, text: str) -> None:
        """Pass on a message for the user."""
        if time.monotonic() - self._said >= SECONDS_BETWEEN_NOTES:
            self._progress.note(f"{self._name}: {text}")
            self._said = time.monotonic()

    def warn(self, text: str) -> None:
        """Pass on a message at once."""
        self._progress.warn(f"{self._name}: {text}")
