"""MMPareto (Wei and Hu 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import mmpareto_gradient, modality_losses
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.own_classifiers import OwnClassifiers, unimodal_outputs
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class MMParetoOptions:
    """Settings of MMPareto.

    Args:
        gamma: Factor of the adapters' gradient; adamw and adamax cancel it.
        own: Whether each modality's loss is that of a linear classifier of its own on z; else, of its part of the
            head's logits.
    """

    gamma: float = 1.5
    own: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "gamma", above=0)


@methods.register("mmpareto")
class MMPareto(Method):
    """Each adapter steps where neither the joint nor its uni-modal loss gets worse, and not less far (Wei and Hu 2024).

        a, b = gradients of L and of L_m with respect to all parameters of adapter m
        w    = 1/2 each if <a, b> >= 0, else the weights of the shortest vector between a and b, from .001 to .999
        g    = 2 w_a a + 2 w_b b
        g   <- gamma max(1, |a + b| / |g|) g

    L_m is the mean loss of W_m z^m + b_m over the clips that have m. These classifiers are trained with plain gradients
    and then discarded, as in the authors' code; the head feels L alone. With `own=false`, L_m is that of the uni-modal
    logits of the head (`unimodal_logits`), which then feels L_m, too. Where nothing conflicts, this is `multi-loss`
    with adapters at gamma times its learning rate.

    Norms are over a whole adapter, as in the paper; the authors' code enlarges each tensor by itself. Their SGD has lr
    2e-3 for encoders; here it is that of `ogm`. Adam cancels gamma and the length of g, so the default is SGD.
    Their code chooses the epoch by test clips. In BalanceBenchmark the weights of a conflict are lost.

    On a cache, unlike in `amr train-encoders`, it is about adapters, not encoders.
    """

    summary = "each adapter steps along what serves both the joint and its modality's loss"
    citation = "Wei and Hu 2024, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance"
    Options = MMParetoOptions
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    needs_adapter = True
    for_any_task = ("own=true",)

    def __init__(self, options: MMParetoOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.own = OwnClassifiers(context) if options.own else None
        self.steps: dict[str, Tensor] = {}  # gradients of the adapters' parameters, for `adjust`
        self.seen: list[Tensor] = []  # whether there was a conflict in each batch of the epoch, (modalities, run)

    @classmethod
    def notes(cls, options: MMParetoOptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about Adam, which undoes a part of the method."""
        if optimizer == "sgd":
            return []
        return [f"{optimizer} cancels the length of the gradient, which this method sets; use sgd"]

    @classmethod
    def trains_parts(cls, options: MMParetoOptions) -> bool:
        """Whether no classifiers of their own do."""
        return not options.own

    def parameters(self) -> list[Tensor]:
        """Weights of the modalities' own classifiers."""
        return [] if self.own is None else list(self.own.parameters())

    def begin_epoch(self, epoch: int) -> None:
        """Forget the conflicts of the last epoch."""
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss plus those of the modalities, `(run,)`; also computes the adapters' gradients for `adjust`."""
        joint = super().loss(model, batch, z)
        out = unimodal_outputs(self.own, model, batch, z)
        each = modality_losses(out, batch.target, batch.present, self.context.task)  # (modalities, run)
        self.steps, conflicts = {}, []
        for m, unimodal in zip(model.modalities, each, strict=True):
            parameters = dict(model.adapters[m].named_parameters(f"adapters.{m}"))
            a, b = (_flat_gradient(loss, list(parameters.values())) for loss in (joint, unimodal))
            conflicts.append((a * b).sum(-1) < 0)
            sizes = [value[0].numel() for value in parameters.values()]
            parts = mmpareto_gradient(a, b, self.options.gamma).split(sizes, dim=-1)
            self.steps |= {k: g.view_as(v) for (k, v), g in zip(parameters.items(), parts, strict=True)}
        self.seen.append(torch.stack(conflicts).to(joint.dtype))
        return joint + each.sum(0)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Put in the adapters' gradients."""
        return {**gradients, **self.steps}

    def epoch_values(self) -> dict[str, Tensor]:
        """Share of the epoch's batches in which the two gradients of each adapter conflict."""
        means = torch.stack(self.seen).mean(0)
        return {f"conflict_{m}": mean for m, mean in zip(self.context.model.modalities, means, strict=True)}


def _flat_gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """Gradient of the loss of each run with respect to all parameters of an adapter, `(run, parameters)`."""
    gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten(1) for g in gradients], dim=1)
