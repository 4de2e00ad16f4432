"""On-the-fly gradient modulation, with and without generalization enhancement (Peng et al. 2022, OGM-GE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from amr.fusion.balance import ogm_coefficients, score_ratios, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class OGMOptions:
    """Settings of OGM-GE.

    Args:
        alpha: Strength with which the leading modality is held back; 0 switches the method off, the noise too.
        start_epoch: First epoch in which the method acts, counted from 1.
        end_epoch: Epoch from which it no longer acts.
    """

    alpha: float = 0.8
    start_epoch: int = 1
    end_epoch: int = 51

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.alpha < inf:
            raise ValueError(f"--method-option alpha must be 0 or more, got {self.alpha}. Pass alpha=0.8.")
        if not 1 <= self.start_epoch <= self.end_epoch:
            raise ValueError(
                f"--method-option end_epoch must be at least start_epoch, from 1, got {self.start_epoch} to "
                f"{self.end_epoch}. Pass start_epoch=1 and end_epoch=51."
            )


@methods.register("ogm-ge")
class OGMGE(Method):
    """The leading modality learns more slowly, and noise helps generalization (Peng et al. 2022, sections 3.2, 3.3).

        s_m   = sum_i softmax(out_m,i)_{y_i}                                  over the batch
        rho_m = s_m / mean of the other modalities' s
        k_m   = 1 - tanh(alpha rho_m) if rho_m > 1, else 1
        g    <- k_m g + N(0, std(g)^2)                                        g: a parameter of adapter m

    std(g) is over the elements of the parameter's gradient before scaling; for a single element it is 0. Noise is added
    for every modality, as in the authors' code. out_m are the uni-modal logits (`unimodal_logits`), so any head works.
    No gradient flows through the coefficients. s_m is computed as the mean over the clips of the batch that have m, so
    that a rare modality does not look weak; if every clip has every modality, rho is the same. A modality that no clip
    of the batch has is not compared with others.

    On a cache, unlike in `amr train-encoders`, k_m and the noise act on the gradients of adapters, not of encoders. Of
    an encoder with convolutions they act only on parameters of three or more axes, which are the kernels, as in the
    authors' code: not on biases and normalization. Of other adapters they act on all parameters.

    At alpha 0 this is naive training. The authors' code then still adds the noise.

    The default is SGD, because Adam cancels a constant scale of the gradient. The source's learning rate of 1e-3 is for
    encoders. On CREMA-D embeddings it is enough for linear adapters and head, but an mlp adapter and a hidden layer
    still learn after 60 epochs (val accuracy .58, against .61 at 1e-2; .1 diverges). So the default is 1e-2.
    """

    summary = "the leading modality's adapter gradient is scaled down, with noise on all"
    citation = "Peng et al. 2022, sections 3.2 and 3.3"
    Options = OGMOptions
    needs_classes = True
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.1)
    needs_adapter = True
    enhances = True

    def __init__(self, options: OGMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.acts = False
        self.coefficients = torch.empty(0)  # (modalities, run), of the last batch
        self.seen: list[Tensor] = []  # the coefficients of each batch of the epoch

    @classmethod
    def notes(cls, optimizer: str) -> list[str]:
        """Warn about Adam, which undoes the method."""
        if optimizer == "sgd":
            return []
        return [f"{optimizer} cancels a constant scale of the gradient, which is what this method sets; use sgd"]

    def begin_epoch(self, epoch: int) -> None:
        """Act in epochs [start_epoch, end_epoch)."""
        o = self.options
        self.acts = o.alpha > 0 and o.start_epoch <= epoch < o.end_epoch
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits, `(run,)`; also computes the coefficients for `adjust`."""
        if self.acts:
            with torch.no_grad():
                out = unimodal_logits(model.head, z, batch.present)  # (modalities, run, batch, classes)
            ratios = score_ratios(out, batch.target, batch.present)
            self.coefficients = ogm_coefficients(ratios, self.options.alpha)
            self.seen.append(self.coefficients)
        return super().loss(model, batch, z)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Scale the gradients of adapters, and add noise."""
        if not self.acts:
            return gradients
        adjusted = dict(gradients)
        for m, k in zip(self.context.model.modalities, self.coefficients, strict=True):
            for name in modulated(gradients, m):
                g = gradients[name]
                adjusted[name] = g * k.view(-1, *[1] * (g.ndim - 1))
                if self.enhances:
                    adjusted[name] = adjusted[name] + self.context.noise.normal(*g.shape[1:]) * deviation(g)
        return adjusted

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean coefficient of each modality over the epoch; 1 if the method does not act."""
        model = self.context.model
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


def modulated(gradients: Mapping[str, Tensor], modality: str) -> list[str]:
    """Names of the gradients that the method changes: those of three or more axes if the adapter has any, else all.

    Args:
        gradients: Gradients by the names of the model's parameters, each with a leading run axis.
        modality: Name of the modality.

    >>> of_encoder = {"adapters.audio.conv": torch.zeros(1, 4, 3, 3, 3), "adapters.audio.norm": torch.zeros(1, 4)}
    >>> modulated(of_encoder, "audio")
    ['adapters.audio.conv']
    """
    names = [name for name in gradients if name.startswith(f"adapters.{modality}.")]
    kernels = [name for name in names if gradients[name].ndim >= 4]  # the run axis and at least three of its own
    return kernels or names


def deviation(gradient: Tensor) -> Tensor:
    """Standard deviation over the elements of each run, `(run, 1, ...)`; 0 for a single element."""
    flat = gradient.flatten(1)
    std = flat.std(1) if flat.shape[1] > 1 else torch.zeros_like(flat[:, 0])
    return std.view(-1, *[1] * (gradient.ndim - 1))
