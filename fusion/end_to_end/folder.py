"""Folder of a training of encoders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from amr.common.files import (
    CHECKSUMS,
    check_unlinked,
    check_writable,
    checksummed,
    damaged_names,
    finish_removal,
    json_text,
    partial_path,
    read_json,
    remove_checksums,
    remove_folder,
    whole_file,
    write_json,
    write_last,
)
from amr.common.options import parse_options, saved_settings
from amr.common.version import versions
from amr.common.workspace import EMBEDDINGS, JOINT_RUN, check_new_name, encoders_dir, place, runs_dir
from amr.extract.config import CLIP_TIMEOUT
from amr.extract.encoders.families.trained import ENCODER, WEIGHTS
from amr.fusion.choices import own_weight
from amr.fusion.end_to_end.checkpoint import CHECKPOINT
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import MediaData
from amr.fusion.loggers.files import EVENTS, LOGS, TENSORBOARD, foreign_log
from amr.fusion.methods import methods
from amr.fusion.model import Fitted
from amr.fusion.runs.folder import LATER_FILES, differences, few_of, foreign_file
from amr.fusion.runs.measure import Measures

CONFIG, METRICS, TEACHERS = "config.json", "metrics.json", "teachers"
HEAD = "head.safetensors"
# what a killed writer of the cache leaves ends with these
OF_CACHE = tuple(f"{EMBEDDINGS}{end}" for end in ("", ".lock", ".tmp", ".failures.jsonl"))
FILES = (CONFIG, METRICS, CHECKPOINT, ENCODER, WEIGHTS, HEAD, "history.csv", CHECKSUMS, *OF_CACHE)
TRAIN_AGAIN = "Train again with --overwrite, or choose another name."  # way out of a damaged file
# options that do not affect the numbers, at their defaults
IRRELEVANT: dict[str, Any] = {
    "device": "auto",
    "workers": None,
    "clip_timeout": CLIP_TIMEOUT,
    "store": None,
    "out": None,
    "overwrite": False,
    "logger": None,
}
# version 0.1 saved its preset by name, and had no crops
PRESET_0_1 = [
    "audio=timm:resnet18,picture=spectrogram,channels=1,size=257x188,weights=random",
    "video=timm:resnet18,frames=3,size=224,weights=random",
]
UNTIL_0_1 = {"resized_crop": False, "time_crop": 1.0}


@dataclass(frozen=True)
class TrainResult:
    """Result of a training of encoders.

    Args:
        folder: Folder of the training.
        encoders: Embedding name to spec for `amr extract --encoder`.
        val, test: Measures of the joint head, or modality to those of its classifier; None without clips.
        epochs: "joint", or modality, to the number of epochs and the selected one.
        notes: Decisions and omissions, in words.
        warnings: Sentences about data that make results doubtful.
    """

    folder: Path
    encoders: dict[str, str]
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    epochs: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Output of `amr train-encoders --json`."""
        return asdict(self) | {"folder": str(self.folder), "notes": list(self.notes), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Trained:
    """One trained model and the measures of its best epoch."""

    fitted: Fitted
    val: Measures | None
    test: Measures | None


def training_folder(config: TrainConfig) -> Path:
    """Choose the folder. If it exists, it must be of the same training, perhaps with fewer epochs.

    A training that diverged, or that saved no epoch, is replaced by another one.

    Raises:
        ValueError: The folder holds another training, or something else.
    """
    check_new_name(config.out, runs_dir())
    if config.out is not None:
        folder = place(config.out, encoders_dir())
    else:
        dataset = config.dataset or Path(str(config.manifest)).parent.name or "clips"
        ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else None
        objective = "unimodal" if config.objective == "unimodal" else f"joint-{config.method}"
        attribution = config.attribution if ratio and config.attribution != TrainConfig.attribution else None
        words = [dataset, config.label, objective, ratio, attribution, f"seed{config.seed}"]
        folder = encoders_dir() / "_".join(word for word in words if word is not None)
    check_writable(folder, "--out", "Pass --out with another folder.")
    check_unlinked(folder, "--out")
    if not folder.exists() or (folder.is_dir() and not _holds_anything(folder)):
        return folder
    saved = read_saved(folder)
    if saved is None:
        raise ValueError(f"--out must be new or a training of encoders, got {str(folder)!r}. Choose another name.")
    if config.overwrite or (_changes(saved, config) and _is_replaceable(folder, saved)):
        _refuse_foreign(folder, saved)
    elif changes := [change for change in _changes(saved, config) if not change.startswith("--epochs ")]:
        raise ValueError(
            f"--out must be new or of the same training, got {str(folder)!r}, a training with {few_of(changes)}. "
            "Choose another name, or --overwrite."
        )
    else:
        _check_epochs(folder, saved["config"]["epochs"], config)
        if not is_finished(folder, config):
            _refuse_foreign_in_runs(folder)
    return folder


def _holds_anything(folder: Path) -> bool:
    """Whether a folder holds more than a config.json that is not written to its end."""
    return any(path.name != partial_path(Path(CONFIG)).name for path in folder.iterdir())


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder that `training_folder` chose holds the finished training."""
    saved = read_saved(folder)
    return saved is not None and (folder / METRICS).is_file() and not config.overwrite and not _changes(saved, config)


def has_diverged(folder: Path, config: TrainConfig) -> bool:
    """Whether a folder holds the same training, which diverged."""
    saved = read_saved(folder)
    return saved is not None and bool(saved.get("diverged")) and not _changes(saved, config)


def begin_folder(folder: Path, config: TrainConfig, data: MediaData) -> None:
    """Make the folder that `training_folder` chose, and write config.json.

    A finished training that gets more epochs stays finished until `supersede`.

    Raises:
        ValueError: The training was started with other clips.
    """
    finish_removal(folder)
    previous = read_saved(folder)
    if previous is not None:
        changed = _changes(previous, config) or previous.get("clips_sha256") != data.clips_sha256()
        if config.overwrite or (changed and _is_replaceable(folder, previous)):
            _refuse_foreign(folder, previous)
            remove_folder(folder)
        elif previous.get("clips_sha256") != data.clips_sha256():
            raise ValueError(
                f"--out must be new or of the same clips, got {str(folder)!r}, started with other clips, labels or "
                "splits. Choose another name, or --overwrite."
            )
    folder.mkdir(exist_ok=True)
    if not (folder / METRICS).is_file():
        _write_config(folder, config, data)


def supersede(folder: Path, config: TrainConfig, data: MediaData) -> None:
    """Turn a finished training into an unfinished one of more epochs, before its files are replaced.

    Raises:
        ValueError: One of its runs holds a file that no command wrote.
    """
    if (folder / METRICS).is_file():
        _refuse_foreign_in_runs(folder)
        later = [file for pattern in LATER_FILES for file in folder.glob(pattern)]
        remove_checksums(folder, [METRICS, *(file.name for file in later)])
        for file in later:
            file.unlink()
        for run in (folder / JOINT_RUN, *folder.glob(f"*/{JOINT_RUN}")):
            shutil.rmtree(run, ignore_errors=True)
        (folder / METRICS).unlink()
        _write_config(folder, config, data)  # last: with the old metrics.json it would be of a finished training


def mark_diverged(folder: Path) -> None:
    """Note in config.json that the training diverged: another one may replace it."""
    with checksummed(folder, CONFIG):
        write_json(folder / CONFIG, (read_saved(folder) or {}) | {"diverged": True})


def _write_config(folder: Path, config: TrainConfig, data: MediaData) -> None:
    saved = {
        "config": requested(config),
        "classes": data.classes,
        "clips_sha256": data.clips_sha256(),
        "versions": training_versions(),
    }
    with checksummed(folder, CONFIG):
        write_json(folder / CONFIG, saved)


def _changes(saved: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """Options in which a saved training differs from the requested one; those that it lacks were at their defaults."""
    now = requested(config)
    defaults = {each.name: each.default for each in fields(config) if each.name in now}
    then = {"encoder": _encoder(saved), "preset": None}
    teachers = saved["config"].get("teachers")
    if teachers is not None and config.teachers is not None and config.out is not None:
        own = Path(config.teachers).resolve()  # of the same sweep, which may have been moved
        if own.parent == Path(config.out).resolve().parent and own.name == Path(teachers).name:
            then["teachers"] = now["teachers"]
    return differences(defaults | UNTIL_0_1 | saved["config"] | then, now)


def _encoder(saved: Mapping[str, Any]) -> list[str]:
    """NAME=SPEC of each encoder of a saved training."""
    return saved["config"]["encoder"] or PRESET_0_1


def _is_replaceable(folder: Path, saved: Mapping[str, Any]) -> bool:
    """Whether a training is of no worth: it is not finished, and diverged or has no epoch to continue from."""
    if (folder / METRICS).is_file():
        return False
    return bool(saved.get("diverged")) or not any(folder.rglob(CHECKPOINT))


def _check_epochs(folder: Path, before: int, config: TrainConfig) -> None:
    """Check that a training can continue to another number of epochs, with the result of a training of that number."""
    now, method = config.epochs, methods[config.method]
    if now == before:
        return
    advice = "Choose another name, or --overwrite to train from the start."
    if now < before:
        raise ValueError(f"--epochs must be {before} or more to continue {str(folder)!r}, got {now}. {advice}")
    if method.plans_ahead(parse_options(method.Options, config.method_option, "--method-option", config.method)):
        reason = f"what --method {config.method} does depends on the number of epochs"
    elif (folder / TEACHERS).is_dir():
        reason = f"its teachers were trained for {before}, too"
    elif (folder / METRICS).is_file() and not all(each.is_file() for each in _checkpoints(folder)):
        reason = f"its {CHECKPOINT} is gone"
    elif (folder / METRICS).is_file() and any(damaged_names(each.parent) for each in _checkpoints(folder)):
        reason = "its files are damaged"
    else:
        return
    raise ValueError(f"--epochs must be {before} in {str(folder)!r}, as {reason}, got {now}. {advice}")


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a finished training: one per trained model."""
    with whole_file(folder / METRICS, "--out", TRAIN_AGAIN):
        models = read_json(folder / METRICS, "--out", TRAIN_AGAIN)["epochs"].keys()
    return [folder / CHECKPOINT if name == "joint" else folder / name / CHECKPOINT for name in models]


def _refuse_foreign(folder: Path, saved: Mapping[str, Any]) -> None:
    """Raise ValueError if the folder of a training holds a file that no command wrote."""
    foreign = foreign_path(folder, saved)
    if foreign is not None:
        raise _holds_foreign(folder, foreign)


def _refuse_foreign_in_runs(folder: Path) -> None:
    """Raise ValueError if a run, which is replaced as a whole, holds a file that no command wrote."""
    for run in folder.rglob(JOINT_RUN):
        if run.is_dir() and (foreign := foreign_file(run)) is not None:
            raise _holds_foreign(folder, run.relative_to(folder) / foreign)


def _holds_foreign(folder: Path, foreign: Path) -> ValueError:
    return ValueError(
        f"--out must be new or a training of encoders, got {str(folder)!r}, which holds {foreign}. "
        "Move it elsewhere, or choose another name."
    )


def foreign_path(folder: Path, saved: Mapping[str, Any] | None = None) -> Path | None:
    """Path, from the folder of a training on, of a file that no command wrote; None if there is none."""
    saved = saved or read_saved(folder)
    names = [] if saved is None else [text.partition("=")[0] for text in _encoder(saved)]
    files = [*FILES, *(partial_path(Path(name)).name for name in FILES)]
    for path in sorted(folder.rglob("*")):
        *folders, name = path.relative_to(folder).parts
        if path.is_dir() and name == JOINT_RUN and (in_run := foreign_file(path)) is not None:
            return path.relative_to(folder) / in_run
        if path.is_dir() or JOINT_RUN in folders or folders[:1] == [LOGS]:
            continue
        in_curves = folders[-1:] == [TENSORBOARD] and name.startswith(EVENTS)
        evaluated = not folders and any(fnmatch(name, pattern) for pattern in LATER_FILES)
        if not {*folders} <= {*names, TEACHERS, TENSORBOARD} or not (in_curves or evaluated or name in files):
            return path.relative_to(folder)
    return foreign_log(folder)


def read_saved(folder: Path) -> dict[str, Any] | None:
    """Read config.json of a training; None if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    advice = "Remove the folder to train again, or choose another name."
    saved = read_json(folder / CONFIG, "--out", advice)
    with whole_file(folder / CONFIG, "--out", advice):
        return saved if isinstance(saved, dict) and "objective" in saved.get("config", {}) else None


def requested(config: TrainConfig) -> dict[str, Any]:
    """Options that affect the numbers, as JSON values; those of a preset, as its values."""
    weight = own_weight(config.attribution) if config.amr_weight is None else config.amr_weight
    settings: dict[str, Any] = json.loads(json.dumps(saved_settings(replace(config.resolved(), **IRRELEVANT))))
    return settings | {"amr_weight": weight}


def training_versions() -> dict[str, str]:
    """Versions of the packages that training depends on."""
    return versions("torch", "torchvision", "torchaudio", "timm")


def write_folder(
    folder: Path,
    config: TrainConfig,
    names: Sequence[str],
    trained: Mapping[str, Trained],
    notes: Sequence[str],
    warnings: Sequence[str] = (),
) -> None:
    """Write metrics.json, the last file: a training with it is finished.

    Args:
        folder: Folder of the training.
        config: Options of the training.
        names: Names of the trained encoders.
        trained: Trained models.
        notes: Decisions and omissions, in words.
        warnings: Sentences about data that make results doubtful.
    """
    measures: dict[str, Any] = {
        split: {name: getattr(each, split) for name, each in trained.items()} for split in ("val", "test")
    }
    if config.objective == "joint":
        measures = {split: values["joint"] for split, values in measures.items()}
    epochs = {
        name: {"epochs": len(each.fitted.history["train_loss"]), "best": int(each.fitted.best_epoch[0])}
        for name, each in trained.items()
    }
    said = {"notes": list(notes), "warnings": list(warnings)}
    write_last(folder / METRICS, json_text({**measures, "epochs": epochs, "encoders": list(names), **said}))


def read_folder(folder: Path) -> TrainResult:
    """Read a finished training.

    Raises:
        ValueError: Its files are damaged.
    """
    saved = read_json(folder / METRICS, "--out", TRAIN_AGAIN)
    with whole_file(folder / METRICS, "--out", TRAIN_AGAIN):
        encoders = {name: f"trained:{folder / name}" for name in saved["encoders"]}
        said = tuple(saved["notes"]), tuple(saved.get("warnings", ()))
        return TrainResult(folder, encoders, saved["val"], saved["test"], dict(saved["epochs"]), *said)
