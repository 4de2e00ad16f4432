"""Weights of a run, with its normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from amr.common.files import read_whole, replacing, whole_file
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.normalization import Normalization
from amr.fusion.data.targets import TargetScale
from amr.fusion.heads import head_options
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.runs.record import RunRecord
from amr.fusion.tasks import Task, tasks

SCALE = "target.mean_std"  # mean and deviation of a number over the train clips, float64


@dataclass(frozen=True)
class FittedRun:
    """A run as read from its folder: one model per fold, or a single one."""

    record: RunRecord
    models: tuple[FusionModel, ...]
    normalizations: tuple[Normalization, ...]
    scales: tuple[TargetScale | None, ...]

    @property
    def task(self) -> Task:
        """What the run predicts."""
        return tasks[self.record.config.task]

    @property
    def lacks_mean(self) -> bool:
        """Whether its shares depend on a train mean that was not saved; they are then undefined."""
        return attributor_of(self.record).needs_mean and any(model.mean is None for model in self.models)


def read_fitted(folder: Path, device: torch.device | str = "cpu") -> FittedRun:
    """Read the models of a run folder.

    Raises:
        FileNotFoundError: The folder is not a run.
        ValueError: Its files are damaged.
    """
    record = RunRecord.read(folder)
    folds = map("fold-{}".format, range(record.config.folds)) if record.config.folds else [""]
    fitted = [_read_model(record, folder / fold / "weights.safetensors", device) for fold in folds]
    models, normalizations, scales = zip(*fitted, strict=True)
    return FittedRun(record, models, normalizations, scales)


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
        experts=c.experts,
    )


def attributor_of(record: RunRecord) -> Attributor:
    """Attributor of a run's settings."""
    c = record.config
    return Attributor(
        c.attribution_output,
        c.attribution_pooling,
        c.attribution,
        c.attribution_baseline,
        c.attribution_steps,
        c.task,
    )


def save_weights(
    folder: Path,
    state: Mapping[str, Tensor],
    normalization: Normalization,
    mean: Mapping[str, Tensor] | None = None,
    scale: TargetScale | None = None,
) -> None:
    """Write a run's weights, without the run axis, its normalization, and its mean of z and scale if there are any."""
    tensors = dict(state)
    if scale is not None:
        tensors[SCALE] = torch.tensor([scale.mean, scale.std], dtype=torch.float64)
    for m, value in (mean or {}).items():
        tensors[f"baseline.{m}.mean"] = value
    for m in normalization.mean:
        tensors[f"normalization.{m}.mean"] = normalization.mean[m].cpu().contiguous()
        tensors[f"normalization.{m}.std"] = normalization.std[m].cpu().contiguous()
        tensors[f"normalization.{m}.seen"] = torch.tensor(normalization.seen[m])
    with replacing(folder / "weights.safetensors") as partial:
        partial.write_bytes(save(tensors))


def read_weights(file: Path, record: RunRecord) -> tuple[dict[str, Tensor], Normalization]:
    """Read a run's weights, without the run axis, and its normalization, as written by `save_weights`.

    Args:
        file: weights.safetensors of the run or of a fold.
        record: Record of the run.

    Raises:
        ValueError: The file is damaged, or is not one of such a run.
    """
    tensors, normalization, *_ = _read(file, record)
    return tensors, normalization


def _read(
    file: Path, record: RunRecord
) -> tuple[dict[str, Tensor], Normalization, dict[str, Tensor], TargetScale | None]:
    """Weights, normalization, the mean of z, empty if it was not saved, and the scale of a number."""
    record.check_fitted()
    content = read_whole(file, "RUN")
    with whole_file(file, "RUN"):
        tensors = load(content)
        if not all(value.isfinite().all() for value in tensors.values()):
            raise ValueError("a weight is not a number")
        saved = tensors.pop(SCALE, None)
        if (saved is not None) != (record.config.task == "regression") or (saved is not None and len(saved) != 2):
            raise ValueError("the scale of the target is not that of such a run")
        scale = None if saved is None else TargetScale(*saved.tolist())
        modalities = list(record.modalities)
        names = [name for m in modalities if (name := f"baseline.{m}.mean") in tensors]
        mean = {m: tensors.pop(name) for m, name in zip(modalities, names, strict=True)} if names else {}
        normalization = Normalization(
            {m: tensors.pop(f"normalization.{m}.mean") for m in modalities},
            {m: tensors.pop(f"normalization.{m}.std") for m in modalities},
            {m: bool(tensors.pop(f"normalization.{m}.seen", True)) for m in modalities},  # version 0.1 did not save it
        )
        for m, info in record.modalities.items():
            if not normalization.mean[m].shape == normalization.std[m].shape == (info["embed_dim"],):
                raise ValueError(f"the normalization of {m} does not have {info['embed_dim']} dimensions")
        with torch.device("meta"):  # takes no memory, whatever the sizes in config.json are
            shapes = {name: value.shape for name, value in FusionModel(model_shape(record), [0]).state_dict().items()}
        if {name: (1, *value.shape) for name, value in tensors.items()} != shapes:
            raise ValueError("its names or shapes are not those of config.json")
        return tensors, normalization, mean, scale


def _read_model(
    record: RunRecord, file: Path, device: torch.device | str
) -> tuple[FusionModel, Normalization, TargetScale | None]:
    tensors, normalization, saved, scale = _read(file, record)
    with whole_file(file, "RUN"):
        model = FusionModel(model_shape(record), [record.config.seed]).to(device)
        model.load_state_dict({name: value.unsqueeze(0) for name, value in tensors.items()})
        if attributor_of(record).needs_mean and (mean := saved or _known_mean(record)) is not None:
            model.set_mean({m: value.unsqueeze(0).to(device) for m, value in mean.items()})
    return model, normalization.to(device), scale


def _known_mean(record: RunRecord) -> dict[str, Tensor] | None:
    """Mean of a run's z over its train clips, `(dim,)`; None if it is not known: version 0.1 did not save it."""
    if record.config.normalize == "standard" and record.config.adapter == "none":
        return {m: torch.zeros(info["embed_dim"]) for m, info in record.modalities.items()}  # by standardization
    return None
