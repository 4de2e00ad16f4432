"""A run folder: what one fit leaves behind, enough to predict new clips without the cache.

    config.json          the FitConfig as it was resolved, classes, modalities and their encoders, cache, versions
    weights.safetensors  head, adapters, and the normalization of each modality
    history.csv          one row an epoch
    predictions.csv      one row a val or test clip; runs of a sweep leave it out
    metrics.json         val and test, as `amr fit --json` prints them

With folds, those but config.json are in fold-0/, fold-1/, ..., and metrics.json is there for the whole as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.config import FitConfig
from amr.fusion.data.dataset import Normalization
from amr.fusion.model import FusionModel, ModelShape

RUN_FILES = ("config.json", "weights.safetensors", "history.csv", "predictions.csv", "metrics.json")


@dataclass(frozen=True)
class RunRecord:
    """What a run says of itself, in config.json.

    Args:
        config: the fit's settings, with the method's own filled in.
        classes: in the order of the logits.
        modalities: modality to its embedding: embed_dim, encoder, weights_sha256, preprocessing, fingerprint.
        cache: path of the cache.
        notes: what was decided or left out, in words.
    """

    config: FitConfig
    classes: tuple[str, ...]
    modalities: Mapping[str, Mapping[str, Any]]
    cache: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> ModelShape:
        """The shape of the run's model."""
        return ModelShape.of(
            {m: info["embed_dim"] for m, info in self.modalities.items()},
            len(self.classes),
            head=self.config.head,
            hidden=self.config.hidden,
            adapter=self.config.adapter,
            adapter_dim=self.config.adapter_dim,
            condition=self.config.condition,
        )

    @property
    def attributor(self) -> Attributor:
        """How the run attributes."""
        c = self.config
        return Attributor(
            c.attribution_output, c.attribution_pooling, c.attribution, c.attribution_baseline, c.attribution_steps
        )

    def save(self, folder: Path) -> None:
        """Write config.json."""
        record = asdict(self) | {"versions": {name: version(name) for name in ("amr", "torch")}}
        write_json(folder / "config.json", record)

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read config.json.

        Raises:
            FileNotFoundError: the folder is no run.
        ValueError: its config.json is not a run's.
        """
        file = folder / "config.json"
        if not file.is_file():
            raise FileNotFoundError(f"RUN must be the folder of a run, got {str(folder)!r}. Make one with amr fit.")
        try:
            record = json.loads(file.read_text())
            config = FitConfig(**{**record["config"], "method_option": tuple(record["config"]["method_option"])})
            return cls(config, tuple(record["classes"]), record["modalities"], record["cache"], tuple(record["notes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"RUN must be the folder of a run, got {str(folder)!r}, whose config.json is none of amr fit's. "
                "Make one with amr fit."
            ) from error


@dataclass(frozen=True)
class FittedRun:
    """A run read back: one model a fold, or the only one."""

    record: RunRecord
    models: tuple[FusionModel, ...]
    normalizations: tuple[Normalization, ...]


def load_run(folder: Path, device: torch.device | str = "cpu") -> FittedRun:
    """Read a run folder.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    record = RunRecord.load(folder)
    folds = [folder / f"fold-{k}" for k in range(record.config.folds)] or [folder]
    loaded = [_load_weights(record, fold / "weights.safetensors", device) for fold in folds]
    models, normalizations = zip(*loaded, strict=True)
    return FittedRun(record, models, normalizations)


def save_weights(folder: Path, state: Mapping[str, Tensor], normalization: Normalization) -> None:
    """Write one run's weights, without the run axis, and the normalization that goes with them."""
    tensors = dict(state)
    for m in normalization.mean:
        tensors[f"normalization.{m}.mean"] = normalization.mean[m].cpu().contiguous()
        tensors[f"normalization.{m}.std"] = normalization.std[m].cpu().contiguous()
    save_file(tensors, folder / "weights.safetensors")


def read_weights(file: Path, modalities: Iterable[str]) -> tuple[dict[str, Tensor], Normalization]:
    """One run's weights, without the run axis, and its normalization, as `save_weights` wrote them."""
    tensors = load_file(file)
    normalization = Normalization(
        {m: tensors.pop(f"normalization.{m}.mean") for m in modalities},
        {m: tensors.pop(f"normalization.{m}.std") for m in modalities},
    )
    return tensors, normalization


def _load_weights(record: RunRecord, file: Path, device: torch.device | str) -> tuple[FusionModel, Normalization]:
    tensors, normalization = read_weights(file, record.modalities)
    model = FusionModel(record.shape, [record.config.seed]).to(device)
    model.load_state_dict({name: value.unsqueeze(0) for name, value in tensors.items()})
    return model, normalization.to(device)


def new_folder(config: FitConfig, cache: Path, runs_dir: Path) -> tuple[FitConfig, Path]:
    """Make the folder of a run, and the config that names it.

    `--out` may name a folder that is not there, is empty, or holds an earlier run, which is replaced; by default a
    new folder below `runs_dir` is named after the settings.

    Raises:
        ValueError: `--out` holds something else.
    """
    if config.out is not None:
        folder = Path(config.out)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out must be a folder, got the file {config.out!r}. Choose another name.")
        if folder.is_dir() and any(folder.iterdir()):
            _clear_run(folder, config.out)
        folder.mkdir(parents=True, exist_ok=True)
        return config, folder
    ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else "plain"
    head = config.head if config.hidden == 0 else f"{config.head}{config.hidden}"
    parts = [
        cache.stem,
        config.label,
        config.modalities and config.modalities.replace(",", "+"),
        head,
        config.method,
    ]
    name = "_".join([part for part in parts if part is not None] + [ratio, f"seed{config.seed}"])
    name = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)
    number = 1
    while (folder := runs_dir / (name if number == 1 else f"{name}_{number}")).exists():
        number += 1
    folder.mkdir(parents=True)
    return replace(config, out=str(folder)), folder


def _clear_run(folder: Path, out: str) -> None:
    """Delete what an earlier run wrote, and nothing else.

    Raises:
        ValueError: the folder is no run, or holds more.
    """
    refused = ValueError(f"--out must be new, empty or an earlier run, got {out!r}. Choose another name.")
    try:
        RunRecord.load(folder)
    except (FileNotFoundError, ValueError) as error:
        raise refused from error
    folds = [path for path in folder.glob("fold-*") if path.is_dir()]
    files = [place / name for place in (folder, *folds) for name in RUN_FILES if (place / name).exists()]
    if set(folder.rglob("*")) - {*files, *folds}:
        raise refused
    for path in files:
        path.unlink()
    for path in folds:
        path.rmdir()


def write_json(file: Path, value: Any) -> None:
    """Write JSON that people read, too; a kill leaves the whole file or none."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table with numbers to 6 digits; a kill leaves the whole file or none."""
    write_text(file, table.to_csv(index=False, float_format="%.6g"))


def write_text(file: Path, text: str) -> None:
    """Write text; a kill leaves the whole file or none."""
    beside = file.with_name(f".{file.name}.partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)
