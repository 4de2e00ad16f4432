"""Folder of a training of encoders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amr.common.files import write_json
from amr.common.options import saved_settings
from amr.common.version import versions
from amr.common.workspace import encoders_dir, place
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import MediaData
from amr.fusion.model import Fitted
from amr.fusion.runs.measure import Measures

CONFIG, METRICS = "config.json", "metrics.json"
# options that do not affect the numbers, at their defaults
IRRELEVANT: dict[str, Any] = {"device": "auto", "workers": None, "store": None, "out": None, "overwrite": False}


@dataclass(frozen=True)
class TrainResult:
    """Result of a training of encoders.

    Args:
        folder: Folder of the training.
        encoders: Embedding name to spec for `amr extract --encoder`.
        val, test: Measures of the joint head, or modality to those of its classifier; None without clips.
        epochs: "joint", or modality, to the number of epochs and the selected one.
        notes: Decisions and omissions, in words.
    """

    folder: Path
    encoders: dict[str, str]
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    epochs: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Output of `amr train-encoders --json`."""
        return asdict(self) | {"folder": str(self.folder), "notes": list(self.notes)}


@dataclass(frozen=True)
class Trained:
    """One trained model and the measures of its best epoch."""

    fitted: Fitted
    val: Measures | None
    test: Measures | None


def training_folder(config: TrainConfig) -> Path:
    """Choose the folder; if it exists, it must be of the same training.

    Raises:
        ValueError: The folder holds another training, or something else.
    """
    if config.out is not None:
        folder = place(config.out, encoders_dir())
    else:
        dataset = config.dataset or Path(str(config.manifest)).parent.name or "clips"
        ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else None
        objective = "unimodal" if config.objective == "unimodal" else f"joint-{config.method}"
        words = [dataset, config.label, objective, ratio, f"seed{config.seed}"]
        folder = encoders_dir() / "_".join(word for word in words if word is not None)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    saved = read_saved(folder)
    if saved is None:
        raise ValueError(f"--out must be new or a training of encoders, got {str(folder)!r}. Choose another name.")
    settings = requested(config)
    if saved["config"] != settings and not config.overwrite:
        changed = [k for k, v in settings.items() if saved["config"].get(k) != v]
        raise ValueError(
            f"--out must be new or of the same training, got {str(folder)!r}, which has another "
            f"--{changed[0].replace('_', '-') if changed else 'set of options'}. Choose another name, or --overwrite."
        )
    return folder


def begin_folder(folder: Path, config: TrainConfig, data: MediaData) -> None:
    """Write config.json; an unfinished training resumes only with the same clips.

    Raises:
        ValueError: The training was started with other clips.
    """
    clips = data.clips_sha256()
    previous = read_saved(folder)
    if config.overwrite and previous is not None:
        shutil.rmtree(folder)
    elif previous is not None and previous.get("clips_sha256") != clips:
        raise ValueError(
            f"--out must be new or of the same clips, got {str(folder)!r}, started with other clips, labels or splits. "
            "Choose another name, or --overwrite."
        )
    folder.mkdir(exist_ok=True)
    saved = {
        "config": requested(config),
        "classes": data.classes,
        "clips_sha256": clips,
        "versions": training_versions(),
    }
    write_json(folder / CONFIG, saved)


def read_saved(folder: Path) -> dict[str, Any] | None:
    """Read config.json of a training; None if there is none."""
    file = folder / CONFIG
    saved = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return saved if isinstance(saved, dict) and "objective" in saved.get("config", {}) else None


def requested(config: TrainConfig) -> dict[str, Any]:
    """Options that affect the numbers, as JSON values."""
    settings: dict[str, Any] = json.loads(json.dumps(saved_settings(replace(config, **IRRELEVANT))))
    return settings


def training_versions() -> dict[str, str]:
    """Versions of the packages that training depends on."""
    return versions("torch", "torchvision", "torchaudio", "timm")


def write_folder(
    folder: Path, config: TrainConfig, data: MediaData, trained: Mapping[str, Trained], notes: Sequence[str]
) -> None:
    """Write metrics.json, the last file: a training with it is finished."""
    measures: dict[str, Any] = {
        split: {name: getattr(each, split) for name, each in trained.items()} for split in ("val", "test")
    }
    if config.objective == "joint":
        measures = {split: values["joint"] for split, values in measures.items()}
    epochs = {
        name: {"epochs": len(each.fitted.history["train_loss"]), "best": int(each.fitted.best_epoch[0])}
        for name, each in trained.items()
    }
    names = list(data.encoders)
    write_json(folder / METRICS, {**measures, "epochs": epochs, "encoders": names, "notes": list(notes)})


def read_folder(folder: Path) -> TrainResult:
    """Read a finished training."""
    saved = json.loads((folder / METRICS).read_text())
    encoders = {name: f"trained:{folder / name}" for name in saved["encoders"]}
    return TrainResult(folder, encoders, saved["val"], saved["test"], saved["epochs"], tuple(saved["notes"]))
