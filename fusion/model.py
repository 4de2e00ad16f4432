"""The model of a group of runs, adapters and head; its predictions; a trained group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.baseline import mean_encoding
from amr.fusion.attribution.permutation import partners_with
from amr.fusion.attribution.share import counted_magnitudes
from amr.fusion.data.clips import Batch, Clips, permutation_orders
from amr.fusion.heads import Head, HeadShape, build_head
from amr.fusion.run_axis.axes import of_runs, step_mask
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws
from amr.fusion.tasks import Task, tasks


@dataclass(frozen=True)
class ModelShape:
    """Sizes and names that the runs of a group have in common.

    Args:
        head: Name of the head.
        head_shape: Sizes of the head, after the adapters.
        adapter: Adapter: none, linear or mlp.
        embed_dims: Modality to the size of its embedding, before the adapters.
    """

    head: str
    head_shape: HeadShape
    adapter: str
    embed_dims: Mapping[str, int]

    @classmethod
    def of(
        cls,
        embed_dims: Mapping[str, int],
        num_classes: int,
        *,
        head: str,
        hidden: int,
        adapter: str,
        adapter_dim: int,
        options: Any = None,
        experts: bool = False,
    ) -> ModelShape:
        """Shape for embeddings of these sizes; with adapters, the head sees vectors of `adapter_dim`."""
        after_adapters = dict(embed_dims) if adapter == "none" else dict.fromkeys(embed_dims, adapter_dim)
        return cls(head, HeadShape(after_adapters, num_classes, hidden, options, experts), adapter, dict(embed_dims))


class FusionModel(nn.Module):
    """z^m = adapter(e^m), logits = head(z).

    Args:
        shape: Sizes and names.
        seeds: Seed of each run.

    Attributes:
        trains_encoders: Whether adapters are encoders, which take media in place of embeddings.
    """

    trains_encoders: ClassVar[bool] = False

    def __init__(self, shape: ModelShape, seeds: Sequence[int]) -> None:
        super().__init__()
        draws = Draws(seeds)
        self.shape = shape
        self.adapters = nn.ModuleDict(
            {
                m: _adapter(shape.adapter, dim, shape.head_shape.embed_dims[m], draws)
                for m, dim in shape.embed_dims.items()
            }
            if shape.adapter != "none"
            else {}
        )
        self.head: Head = build_head(shape.head, shape.head_shape, draws)
        for i in range(len(shape.embed_dims)):
            # not in the state dict, because few runs have one; `amr.fusion.runs.weights` saves it
            self.register_buffer(f"mean_{i}", None, persistent=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.shape.embed_dims)

    @property
    def mean(self) -> dict[str, Tensor] | None:
        """Modality to the mean of z over the train clips, `(run, dim)`; None if no attribution needs it."""
        means = {m: getattr(self, f"mean_{i}") for i, m in enumerate(self.modalities)}
        return None if any(mean is None for mean in means.values()) else means

    def set_mean(self, means: Mapping[str, Tensor]) -> None:
        """Set the mean of z; in place if there is one, because a recorded step reads it there."""
        for i, m in enumerate(self.modalities):
            mean = getattr(self, f"mean_{i}")
            if mean is None:
                setattr(self, f"mean_{i}", means[m].detach().clone())
            else:
                mean.copy_(means[m])

    def run_mean(self, run: int) -> dict[str, Tensor] | None:
        """Mean of z of one run, without the run axis."""
        return None if self.mean is None else {m: mean[run].cpu().contiguous() for m, mean in self.mean.items()}

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Modality to z, `(run, batch, dim)` or `(run, batch, steps, dim)`; adapters act on each step.

        z is 0 for absent clips and after a clip's last step, regardless of the adapter's bias. Without adapters, if the
        head `shares_inputs`, the first axis stays as short as that of the batch.
        """
        num_runs = len(batch.present)
        if not self.adapters:
            shared = self.head.shares_inputs
            return {m: e if shared else of_runs(e, num_runs) for m, e in batch.embeddings.items()}
        z = {}
        for i, (m, e) in enumerate(batch.embeddings.items()):
            valid = batch.present[..., i, None]
            if e.ndim == 4:
                valid = (valid & of_runs(step_mask(e), num_runs)).unsqueeze(-1)
            z[m] = self.adapters[m](e) * valid.to(e.dtype)
        return z

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(run, batch, classes)`."""
        return self.head(self.encode(batch), batch.present)

    def encoded(self, clips: Clips) -> tuple[FusionModel, Clips]:
        """Model and clips with the same logits for repeated use: these, or head and z where encoding is slow."""
        return self, clips

    def num_parameters(self) -> int:
        """Number of parameters of one run."""
        return sum(p[0].numel() for p in self.parameters())

    def run_state(self, run: int) -> dict[str, Tensor]:
        """Weights of one run, without the run axis."""
        return {name: value[run].detach().cpu().contiguous() for name, value in self.state_dict().items()}


def _adapter(kind: str, in_features: int, out_features: int, draws: Draws) -> nn.Module:
    if kind == "linear":
        return StackedLinear(in_features, out_features, draws)
    return nn.Sequential(
        StackedLinear(in_features, out_features, draws),
        nn.ReLU(),
        StackedLinear(out_features, out_features, draws),
    )


@torch.no_grad()
def predict_logits(model: FusionModel, clips: Clips, change: Callable[[Batch], Batch] | None = None) -> Tensor:
    """Logits of every run for every clip, `(run, clips, classes)`.

    Args:
        model: Model of the run group.
        clips: Clips of a split.
        change: Function that changes the clips of each batch; None to take them as they are.
    """
    num_runs = next(model.parameters()).shape[0]
    chunks = clips.chunks(num_runs)
    batches = (clips.slice(start, start + chunks.step, num_runs) for start in chunks)
    return torch.cat([model(batch if change is None else change(batch)) for batch in batches], dim=1)


@torch.no_grad()
def predict_shares(
    model: FusionModel, clips: Clips, attributor: Attributor, *, of_each_clip: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, shares `(run, clips, modalities)`, and which clips have shares, bool `(run, clips)`.

    No clip has shares if they depend on the train mean and the model has none. For permutation, divergences take the
    place of shares (`Attributor.shares`), by 10 fixed orders of the clips.

    Args:
        model: Model of the run group.
        clips: Clips of a split.
        attributor: Attribution of the shares.
        of_each_clip: Whether shares of single clips are needed, which permutation does not have.
    """
    if attributor.uses_partners:
        return _predict_divergences(model, clips, tasks[attributor.task], of_each_clip=of_each_clip)
    num_runs = next(model.parameters()).shape[0]
    chunks = clips.chunks(num_runs)
    known = model.mean is not None or not attributor.needs_mean
    results = []
    for start in chunks:
        batch = clips.slice(start, start + chunks.step, num_runs)
        results.append(attributor.shares(model.head, model.encode(batch), batch.present, mean=model.mean))
    logits, share, counted = zip(*results, strict=True)
    return torch.cat(logits, dim=1), torch.cat(share, dim=1) * known, torch.cat(counted, dim=1) & known


def _predict_divergences(
    model: FusionModel, clips: Clips, task: Task, *, of_each_clip: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the mean divergence by permuting each modality `(run, clips, modalities)`, and the clips that count."""
    model, clips = model.encoded(clips)
    logits, parts = predict_logits(model, clips), _predict_modality_logits(model, clips)
    orders = permutation_orders(clips)
    divergence = torch.zeros(*logits.shape[:2], len(model.modalities), device=logits.device)
    for i, m in enumerate(model.modalities):
        for order in orders:
            partners = partners_with(clips.present[:, i], order)
            if parts is None:
                others = predict_logits(model, clips.with_permuted(m, partners))
            else:
                others = logits - parts[m] + parts[m][:, partners]
            divergence[..., i] += task.divergence(logits, others) / len(orders)
    divergence, counted = counted_magnitudes(divergence, clips.present.expand(len(logits), -1, -1))
    return logits, divergence, counted & (not of_each_clip)


def _predict_modality_logits(model: FusionModel, clips: Clips) -> dict[str, Tensor] | None:
    """Modality to its part of the logits, `(run, clips, classes)`; None if the head is not additive."""
    num_runs = next(model.parameters()).shape[0]
    chunks = clips.chunks(num_runs)
    found = [model.head.modality_logits(model.encode(clips.slice(s, s + chunks.step, num_runs))) for s in chunks]
    parts = [each for each in found if each is not None]
    return {m: torch.cat([part[m] for part in parts], dim=1) for m in model.modalities} if parts else None


@torch.no_grad()
def update_mean(model: FusionModel, train: Clips, attributor: Attributor) -> None:
    """Set the model's mean of z over the train clips, at its current adapters, if the attribution depends on it."""
    if not attributor.needs_mean or (model.mean is not None and not model.adapters):
        return
    num_runs = next(model.parameters()).shape[0]
    chunks = train.chunks(num_runs)
    batches = (train.slice(start, start + chunks.step, num_runs) for start in chunks)
    model.set_mean(mean_encoding((model.encode(batch), batch.present) for batch in batches))


@dataclass(frozen=True)
class Fitted:
    """A trained group.

    Args:
        model: Weights of each run's selected epoch.
        best_epoch: Selected epoch of each run, `(run,)`, counted from 1.
        history: Name to `(epochs, run)`, or `(epochs, run, modalities)` for shares.
        diverged: Bool `(run,)`: training did not stay finite, and the weights are useless.
    """

    model: FusionModel
    best_epoch: Tensor
    history: dict[str, Tensor]
    diverged: Tensor
