"""On-the-fly gradient modulation, with and without generalization enhancement (Peng et al. 2022, OGM-GE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from amr.fusion.attribution.shapley import unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, Setting, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class OGMOptions:
    """Settings of OGM-GE.

    Args:
        alpha: how strongly the leading modality is held back; 0 is naive training, noise included.
        start_epoch, end_epoch: it acts in epochs start_epoch to end_epoch - 1, counted from 1.
    """

    alpha: float = 0.8
    start_epoch: int = 1
    end_epoch: int = 51

    def __post_init__(self) -> None:
        """A strength and an interval."""
        if not 0 <= self.alpha < inf:
            raise ValueError(f"--method-option alpha must be 0 or more, got {self.alpha}. Pass alpha=0.8.")
        if not 1 <= self.start_epoch <= self.end_epoch:
            raise ValueError(
                f"--method-option end_epoch must be at least start_epoch, from 1, got {self.start_epoch} to "
                f"{self.end_epoch}. Pass start_epoch=1 and end_epoch=51."
            )


@methods.register("ogm-ge")
class OGMGE(Method):
    """The modality that leads learns more slowly, and noise makes up for it (Peng et al. 2022, sections 3.2, 3.3).

        s_m   = sum_i softmax(out_m,i)_{y_i}                                  over the batch
        rho_m = s_m / mean of the other modalities' s
        k_m   = 1 - tanh(alpha rho_m) where rho_m > 1, else 1
        g    <- k_m g + N(0, std(g)^2)                                        g: a parameter of adapter m

    std(g) is over the parameter's elements, of its gradient before the scaling; of a single element it is 0. Noise
    goes to every modality, as in the authors' code. out_m is m's part of the joint logits (`unimodal_logits`), so any
    head will do; no gradient flows through the coefficients. Where clips lack modalities, s_m is the mean over the
    batch's clips that have m, so that a rare modality does not pass for a weak one (where all are present, rho is the
    same), and a modality that no clip of the batch has is held against no other.

    Against end-to-end training, k_m holds back adapters where the paper holds back encoders; the noise is on the
    adapters' gradients alone, too.

    SGD, because Adam cancels a scale of the gradient that stays the same. The source's learning rate of 1e-3 is for
    encoders: on CREMA-D embeddings it is enough for linear adapters and head, but an mlp adapter and a hidden layer
    are still learning after 60 epochs (val accuracy .58, against .61 at 1e-2; .1 diverges). So 1e-2 is the default.
    """

    summary = "the leading modality's adapter gradient is scaled down, with noise on all"
    citation = "Peng et al. 2022, sections 3.2 and 3.3"
    end_to_end = True
    Options = OGMOptions
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.1)
    needs_adapter = True
    enhances = True

    def __init__(self, options: OGMOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.acts = False
        self.coefficients = torch.empty(0)  # (modalities, run), of the last batch
        self.seen: list[Tensor] = []  # of the epoch's batches

    @classmethod
    def notes(cls, optimizer: str) -> list[str]:
        """Adam undoes what the method does."""
        if optimizer == "sgd":
            return []
        return [f"{optimizer} cancels a constant scale of the gradient, which is what this method changes; use sgd"]

    def begin_epoch(self, epoch: int) -> None:
        """It acts in [start_epoch, end_epoch)."""
        o = self.options
        self.acts = o.alpha > 0 and o.start_epoch <= epoch < o.end_epoch
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits; the coefficients are found on the way."""
        if self.acts:
            with torch.no_grad():
                out = unimodal_logits(model.head, z, batch.present)  # (modalities, run, batch, classes)
            self.coefficients = coefficients(out, batch, self.options.alpha)
            self.seen.append(self.coefficients)
        return super().loss(model, batch, z)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The adapters' gradients, modulated."""
        if not self.acts:
            return gradients
        adjusted = dict(gradients)
        for m, k in zip(self.setting.model.modalities, self.coefficients, strict=True):
            for name in (name for name in gradients if name.startswith(f"adapters.{m}.")):
                g = gradients[name]
                adjusted[name] = g * k.view(-1, *[1] * (g.ndim - 1))
                if self.enhances:
                    adjusted[name] = adjusted[name] + self.setting.noise.normal(*g.shape[1:]) * deviation(g)
        return adjusted

    def epoch_values(self) -> dict[str, Tensor]:
        """Each modality's mean coefficient over the epoch; 1 where the method does not act."""
        model = self.setting.model
        first = next(model.parameters())
        one = torch.ones(len(model.modalities), len(first), device=first.device)
        means = torch.stack(self.seen).mean(0) if self.seen else one
        return {f"coefficient_{m}": mean for m, mean in zip(model.modalities, means, strict=True)}


@methods.register("ogm")
class OGM(OGMGE):
    """OGM-GE without the noise (Peng et al. 2022, section 3.2)."""

    summary = "the leading modality's adapter gradient is scaled down"
    citation = "Peng et al. 2022, section 3.2"
    enhances = False


def coefficients(out: Tensor, batch: Batch, alpha: float) -> Tensor:
    """k_m of each run: uni-modal logits `(modalities, run, batch, classes)` to `(modalities, run)`."""
    right = out.softmax(-1).gather(-1, batch.target.expand(len(out), -1, -1).unsqueeze(-1)).squeeze(-1)
    there = batch.present.movedim(-1, 0)  # (modalities, run, batch)
    num_clips = there.sum(-1)
    score = (right * there).sum(-1) / num_clips.clamp_min(1)  # s_m, a mean; 0 where no clip has m
    counted = (num_clips > 0).to(score.dtype)
    num_others = counted.sum(0) - counted
    others = (score.sum(0) - score) / num_others.clamp_min(1)
    compared = (counted > 0) & (num_others > 0)
    rho = torch.where(compared, score / others.clamp_min(torch.finfo(score.dtype).tiny), 1)
    return torch.where(rho > 1, 1 - torch.tanh(alpha * rho), 1)


def deviation(gradient: Tensor) -> Tensor:
    """Standard deviation over each run's elements, `(run, 1, ...)`; 0 for a single one."""
    flat = gradient.flatten(1)
    std = flat.std(1) if flat.shape[1] > 1 else torch.zeros_like(flat[:, 0])
    return std.view(-1, *[1] * (gradient.ndim - 1))
