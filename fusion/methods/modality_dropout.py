"""Modality dropout: batches that lack some modalities (paper, section 5.2; Neverova et al. 2016, ModDrop)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class ModalityDropoutOptions:
    """Settings of modality dropout.

    Args:
        p: Probability that a modality is dropped from a batch; 0 is naive training.
        per_clip: Whether each clip drops modalities of its own; by default, a whole batch drops the same ones.
    """

    p: float = 0.5
    per_clip: bool = False

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0 <= self.p <= 1:
            raise ValueError(f"--method-option p must be from 0 to 1, got {self.p}. Pass p=0.5.")


@methods.register("modality-dropout")
class ModalityDropout(Method):
    """Each batch drops each modality with probability p, never all of them (ModDrop, Neverova et al. 2016).

        kept_m ~ Bernoulli(1 - p), once per batch; if all would be dropped, one is kept, chosen uniformly
        z'^m = kept_m z^m,    logits = head(z')

    The AMR paper drops by batch. With `per_clip`, kept_m is drawn once per clip, as in ModDrop: the expectation is the
    same, with less variance between batches. What is kept is not scaled up.

    The head sees a dropped modality as absent (`present` false). A clip that lacks all modalities that its batch keeps
    is left as it is; with `per_clip`, the one that is kept is of those that the clip has. Attribution and test use
    every modality.

    On a cache, unlike in `amr train-encoders`, only adapters and head learn to work without a modality; encoders do
    not.
    """

    summary = "each batch drops a random subset of the modalities, never all"
    citation = "paper, section 5.2; ModDrop, Neverova et al. 2016"
    Options = ModalityDropoutOptions

    def __init__(self, options: ModalityDropoutOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = options.p == 0  # p = 0 must be naive training, bit for bit

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits from the modalities that are kept, `(run,)`."""
        num_modalities = batch.present.shape[-1]
        shape = batch.present.shape[1:] if self.options.per_clip else (num_modalities,)
        kept = keep(self.context.noise.uniform(*shape), batch.present, self.options.p)
        masked = {}
        for i, (m, value) in enumerate(z.items()):
            mask = kept[..., i].view(*kept.shape[:-1], *[1] * (value.ndim - 2))
            masked[m] = value * mask
        return self.joint_loss(model.head(masked, kept), batch)


def keep(draw: Tensor, present: Tensor, p: float) -> Tensor:
    """Modalities that each clip keeps, bool `(run, batch, modalities)`.

    Args:
        draw: Uniform numbers in [0, 1), `(run, modalities)`, or `(run, batch, modalities)` for each clip. Those below p
            drop a modality, except the largest; that of a clip is of the modalities that it has.
        present: Bool `(run, batch, modalities)`.
        p: Probability that a modality is dropped.
    """
    draw = draw.masked_fill(~present, -1) if draw.ndim == present.ndim else draw.unsqueeze(-2)
    kept = present & ((draw >= p) | (draw == draw.amax(-1, keepdim=True)))
    return torch.where(kept.any(-1, keepdim=True), kept, present)
