"""Adapters and head of a group of runs: what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.heads import Head, HeadShape, heads
from amr.fusion.run_axis.axes import of_runs, step_mask
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class ModelShape:
    """Everything that a group of runs must have in common to be trained as one.

    Args:
        head: name of the head.
        head_shape: its sizes, behind the adapters.
        adapter: none, linear or mlp.
        embed_dims: modality to size of its embedding, before the adapters.
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
    ) -> ModelShape:
        """The shape for embeddings of these sizes: adapters change what the head sees."""
        seen = dict(embed_dims) if adapter == "none" else dict.fromkeys(embed_dims, adapter_dim)
        return cls(head, HeadShape(seen, num_classes, hidden, options), adapter, dict(embed_dims))


class FusionModel(nn.Module):
    """z^m = adapter(e^m), logits = head(z).

    Args:
        shape: sizes and names.
        seeds: one a run.
    """

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
        self.head: Head = heads[shape.head](shape.head_shape, draws)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(self.shape.embed_dims)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Each modality's z, `(run, batch, dim)`, or `(run, batch, steps, dim)`: adapters act step by step.

        It is 0 where the clip lacks the modality and behind its last step, whatever the adapter's bias. Runs still
        share it where there are no adapters and the head `shares_inputs`.
        """
        num_runs = len(batch.present)
        if not self.adapters:
            shared = self.head.shares_inputs
            return {m: e if shared else of_runs(e, num_runs) for m, e in batch.embeddings.items()}
        z = {}
        for i, (m, e) in enumerate(batch.embeddings.items()):
            there = batch.present[..., i, None]
            if e.ndim == 4:
                there = (there & of_runs(step_mask(e), num_runs)).unsqueeze(-1)
            z[m] = self.adapters[m](e) * there.to(e.dtype)
        return z

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(run, batch, classes)`."""
        return self.head(self.encode(batch), batch.present)

    def num_parameters(self) -> int:
        """Parameters of one run."""
        return sum(p[0].numel() for p in self.parameters())

    def run_state(self, run: int) -> dict[str, Tensor]:
        """The weights of one run, without the run axis."""
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
def predict_logits(model: FusionModel, clips: Clips) -> Tensor:
    """Logits `(run, clips, classes)` of every run for every clip."""
    num_runs = next(model.parameters()).shape[0]
    steps = clips.chunks(num_runs)
    return torch.cat([model(clips.slice(start, start + steps.step, num_runs)) for start in steps], dim=1)


@torch.no_grad()
def predict_shares(model: FusionModel, clips: Clips, attributor: Attributor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, shares `(run, clips, modalities)` and which clips count `(run, clips)`."""
    num_runs = next(model.parameters()).shape[0]
    steps = clips.chunks(num_runs)
    parts = []
    for start in steps:
        batch = clips.slice(start, start + steps.step, num_runs)
        parts.append(attributor.shares(model.head, model.encode(batch), batch.present))
    logits, share, counted = zip(*parts, strict=True)
    return torch.cat(logits, dim=1), torch.cat(share, dim=1), torch.cat(counted, dim=1)


@dataclass(frozen=True)
class Fitted:
    """A trained group.

    Args:
        model: each run's weights of its chosen epoch.
        best_epoch: `(run,)`, counted from 1.
        history: name to `(epochs, run)`, or `(epochs, run, modalities)` for shares.
        diverged: bool `(run,)`: training did not stay finite; the weights are of no use.
    """

    model: FusionModel
    best_epoch: Tensor
    history: dict[str, Tensor]
    diverged: Tensor
