"""Weights of a run, with its normalization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from amr.common.files import replacing
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.normalization import Normalization
from amr.fusion.heads import head_options
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.runs.record import RunRecord


@dataclass(frozen=True)
class FittedRun:
    """A run as read from its folder: one model per fold, or a single one."""

    record: RunRecord
    models: tuple[FusionModel, ...]
    normalizations: tuple[Normalization, ...]

    @property
    def lacks_mean(self) -> bool:
        """Whether its shares depend on a train mean that was not saved; they are then undefined."""
        return attributor_of(self.record).needs_mean and any(model.mean is None for model in self.models)


def read_fitted(folder: Path, device: torch.device | str = "cpu") -> FittedRun:
    """Read the models of a run folder.

    Raises:
        FileNotFoundError: The folder is not a run.
    """
    record = RunRecord.read(folder)
    folds = [folder / f"fold-{k}" for k in range(record.config.folds)] or [folder]
    fitted = [_read_model(record, fold / "weights.safetensors", device) for fold in folds]
    models, normalizations = zip(*fitted, strict=True)
    return FittedRun(record, models, normalizations)


def model_shape(record: RunRecord) -> ModelShape:
    """Shape of a run's model."""
    c = record.config
    return ModelShape.of(
        {m: info["embed_dim"] for m, info in record.modalities.items()},
        len(record.classes),
        head=c.head,
        hidden=c.hidden,
        adapter=c.adapter,
        adapter_dim=c.adapter_dim,
        options=head_options(c.head, c.head_option, c.condition),
    )


def attributor_of(record: RunRecord) -> Attributor:
    """Attributor of a run's settings."""
    c = record.config
    return Attributor(
        c.attribution_output, c.attribution_pooling, c.attribution, c.attribution_baseline, c.attribution_steps
    )


def save_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    normalization: Normalization,
    mean: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a run's weights, without the run axis, its normalization, and its mean of z if there is one."""
    tensors = dict(state)
    for m, value in (mean or {}).items():
        tensors[f"baseline.{m}.mean"] = value
    for m in normalization.mean:
        tensors[f"normalization.{m}.mean"] = normalization.mean[m].cpu().contiguous()
        tensors[f"normalization.{m}.std"] = normalization.std[m].cpu().contiguous()
        tensors[f"normalization.{m}.seen"] = torch.tensor(normalization.seen[m])
    with replacing(folder / "weights.safetensors") as partial:
        save_file(tensors, partial)


def read_weights(file: Path, modalities: Iterable[str]) -> tuple[dict[str, Tensor], Normalization]:
    """Read a run's weights, without the run axis, and its normalization, as written by `save_weights`."""
    tensors, names = load_file(file), list(modalities)
    for m in names:
        tensors.pop(f"baseline.{m}.mean", None)
    normalization = Normalization(
        {m: tensors.pop(f"normalization.{m}.mean") for m in names},
        {m: tensors.pop(f"normalization.{m}.std") for m in names},
        {m: bool(tensors.pop(f"normalization.{m}.seen", True)) for m in names},  # version 0.1 did not save it
    )
    return tensors, normalization


def _read_model(record: RunRecord, file: Path, device: torch.device | str) -> tuple[FusionModel, Normalization]:
    tensors, normalization = read_weights(file, record.modalities)
    model = FusionModel(model_shape(record), [record.config.seed]).to(device)
    model.load_state_dict({name: value.unsqueeze(0) for name, value in tensors.items()})
    if attributor_of(record).needs_mean and (mean := _read_mean(record, file)) is not None:
        model.set_mean({m: value.unsqueeze(0).to(device) for m, value in mean.items()})
    return model, normalization.to(device)


def _read_mean(record: RunRecord, file: Path) -> dict[str, Tensor] | None:
    """Mean of a run's z over its train clips, `(dim,)`; None if it is not known: version 0.1 did not save it."""
    with safe_open(file, framework="pt") as tensors:
        if not set(tensors.keys()).isdisjoint(f"baseline.{m}.mean" for m in record.modalities):
            return {m: tensors.get_tensor(f"baseline.{m}.mean") for m in record.modalities}
    if record.config.normalize == "standard" and record.config.adapter == "none":
        return {m: torch.zeros(info["embed_dim"]) for m, info in record.modalities.items()}  # by standardization
    return None
