"""Modality dropout: batches without some of the modalities (paper, section 5.2; Neverova et al. 2016, ModDrop)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, Setting, cross_entropy, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class ModalityDropoutOptions:
    """Settings of modality dropout.

    Args:
        p: the probability that a modality is dropped from a batch; 0 is naive training.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        """A probability."""
        if not 0 <= self.p <= 1:
            raise ValueError(f"--method-option p must be from 0 to 1, got {self.p}. Pass p=0.5.")


@methods.register("modality-dropout")
class ModalityDropout(Method):
    """Each batch drops each modality with probability p, never all of them (ModDrop, Neverova et al. 2016).

        kept_m ~ Bernoulli(1 - p), once a batch; where none is kept, one of them, each as likely
        z'^m = kept_m z^m,    logits = head(z')

    A dropped modality is absent to the head, too (`present` false). A clip that would be left with nothing, because
    it lacks the ones that stay, keeps what it has. Attribution and test see every modality.

    Against end-to-end training, encoders do not learn to stand alone, only adapters and head do.
    """

    summary = "each batch drops a random subset of the modalities, never all"
    citation = "paper, section 5.2; ModDrop, Neverova et al. 2016"
    end_to_end = True
    Options = ModalityDropoutOptions

    def __init__(self, options: ModalityDropoutOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.joint = self.graph_safe = options.p == 0  # naive training, then, operation by operation

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits of what is kept."""
        num_modalities = batch.present.shape[-1]
        kept = keep(self.setting.noise.uniform(num_modalities), batch.present, self.options.p)
        masked = {}
        for i, (m, value) in enumerate(z.items()):
            mask = kept[..., i].view(*kept.shape[:-1], *[1] * (value.ndim - 2))
            masked[m] = value * mask
        return cross_entropy(model.head(masked, kept), batch.target)


def keep(draw: Tensor, present: Tensor, p: float) -> Tensor:
    """Which modalities each clip keeps, bool `(run, batch, modalities)`.

    Args:
        draw: `(run, modalities)`, uniform in [0, 1): below p is dropped, but the highest stays.
        present: bool `(run, batch, modalities)`.
        p: the probability to drop.
    """
    stays = (draw >= p) | (draw == draw.amax(-1, keepdim=True))  # (run, modalities)
    kept = present & stays.unsqueeze(-2)
    return torch.where(kept.any(-1, keepdim=True), kept, present)
