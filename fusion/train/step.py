"""One optimizer step of a group of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from amr.fusion.attribution.regularizer import regularization
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import LossFunction, Method
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.train.embedding_noise import EmbeddingNoise, EncodingNoise
from amr.fusion.train.optimizers import OPTIMIZERS, Optimizer
from amr.fusion.train.recipe import Member, Recipe, ratios


class OptimizerStep:
    """One optimizer step of every run: on task + amr_weight * R, or on R with an optimizer of its own.

    Args:
        recipe: Settings common to all runs.
        members: Settings of each run.
        model: Their models.
        loss: Task loss, used if there is no `method`.
        method: Training method.
        noise: Noise on the embeddings of each batch; None for none.
        beside: Parameters that are trained beside the model if there is no `method`, each with a leading run axis.
    """

    def __init__(
        self,
        recipe: Recipe,
        members: Sequence[Member],
        model: FusionModel,
        loss: LossFunction,
        method: Method | None = None,
        noise: EmbeddingNoise | EncodingNoise | None = None,
        beside: Sequence[Tensor] = (),
    ) -> None:
        device = next(model.parameters()).device
        self.recipe, self.model, self.loss, self.method, self.noise = recipe, model, loss, method, noise
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [*model.parameters(), *(method.parameters() if method is not None else beside)]
        self.head_parameters = list(model.head.parameters())
        kind, momentum = OPTIMIZERS[recipe.optimizer], recipe.momentum
        self.optimizer = kind(self.parameters, recipe.lr, recipe.weight_decay, momentum)
        weights = [member.weight for member in members]
        self.amr = any(weight > 0 for weight in weights)
        self.weight = torch.tensor(weights, device=device)  # (run,)
        self.ratio = ratios(members, model)
        uses_partners = self.amr and recipe.attributor.uses_partners
        self.partners = Noise([m.seed for m in members], device, "partners") if uses_partners else None
        self.separate = self.amr and recipe.amr_optimizer == "separate"
        self.optimizers = {self.optimizer: recipe.lr}
        if self.separate:
            if len(set(weights)) > 1:
                raise ValueError(
                    f"amr_weight must be the same for all members with amr_optimizer separate, got {weights}. "
                    "Pass one weight, or amr_optimizer shared."
                )
            # Adam would cancel a weight on the loss, so the weight scales the learning rate
            self.amr_optimizer = kind(self.head_parameters, recipe.lr * weights[0], 0.0, momentum)
            self.optimizers[self.amr_optimizer] = recipe.lr * weights[0]

    def set_lr(self, epoch: int) -> None:
        """Apply the step decay of the learning rate."""
        if self.recipe.lr_step is not None:
            every, factor = self.recipe.lr_step
            for optimizer, lr in self.optimizers.items():
                optimizer.param_groups[0]["lr"] = lr * factor ** ((epoch - 1) // every)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch; returns the loss and R of each run, `(2, run)`, as a mean over the method's turns."""
        batch, z = (batch, self.model.encode(batch)) if self.noise is None else self.noise.encode(self.model, batch)
        if self.method is None or self.method.num_turns == 1:
            return self._turn(batch, z)
        results = []
        for turn in range(self.method.num_turns):
            self.method.begin_turn(turn)
            results.append(self._turn(batch, z))
        return torch.stack(results).mean(0)

    def _turn(self, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """One optimizer step on encoded clips."""
        shares: tuple[Tensor, Tensor] | None = None
        if self.method is not None and self.method.joint and self.amr and not self.model.adapters:
            # without adapters z is a constant, and one forward pass serves both terms (benchmarks/speed_paths.py)
            logits, share, counted = self._attribute(batch, z)
            loss, shares = self.method.joint_loss(logits, batch), (share, counted)
        else:
            loss = self._task_loss(batch, z)
            if self.amr:
                _, share, counted = self._attribute(batch, z)
                shares = share, counted
        distance = torch.zeros_like(loss) if shares is None else self._distance(*shares)
        self._update(loss, distance)
        return torch.stack([loss.detach(), distance.detach()])

    def _attribute(self, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, shares and the clips with a defined share, with their graph."""
        model = self.model
        partners = None if self.partners is None else self.partners.shuffles(batch.present.shape[1])
        return self.recipe.attributor.shares(
            model.head, z, batch.present, mean=model.mean, partners=partners, create_graph=True
        )

    def _distance(self, share: Tensor, counted: Tensor) -> Tensor:
        recipe = self.recipe
        of_sums = recipe.attributor.uses_partners
        return regularization(share, counted, self.ratio, level=recipe.amr_level, of_sums=of_sums)

    def _task_loss(self, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        if self.method is not None and self.method.joint:
            return self.method.joint_loss(self.model.head(z, batch.present), batch)
        return self.loss(self.model, batch, {m: of_runs(value, len(self.weight)) for m, value in z.items()})

    def _update(self, loss: Tensor, distance: Tensor) -> None:
        """One step of each optimizer, from the loss and R of each run, `(run,)`."""
        if not self.amr:
            self._descend(self.optimizer, self.parameters, loss.sum())
        elif self.separate:
            pull = torch.autograd.grad(distance.sum(), self.head_parameters, retain_graph=True, materialize_grads=True)
            self._descend(self.optimizer, self.parameters, loss.sum())
            # what the method leaves out of the step has no gradient, and R does not touch it either
            pairs = zip(self.head_parameters, pull, strict=True)
            self._assign(self.head_parameters, [None if parameter.grad is None else g for parameter, g in pairs])
            self.amr_optimizer.step()
        else:
            self._descend(self.optimizer, self.parameters, (loss + self.weight * distance).sum())

    def _descend(self, optimizer: Optimizer, parameters: Sequence[Tensor], total: Tensor) -> None:
        gradients: Sequence[Tensor | None]
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
        if self.method is not None:
            adjusted = self.method.adjust(dict(zip(self.names, gradients, strict=False)))
            gradients = (*(adjusted.get(name) for name in self.names), *gradients[len(self.names) :])
        most = (self.recipe.method if self.method is None else self.method).clip_norm
        if most is not None:
            # separately: R is part of the head's norm and must not reach the adapters through it
            num_adapters = sum(name.startswith("adapters.") for name in self.names)  # they come first
            gradients = (*_clipped(gradients[:num_adapters], most), *_clipped(gradients[num_adapters:], most))
        self._assign(parameters, gradients)
        optimizer.step()

    @staticmethod
    def _assign(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # fused AdamW reads gradients by the layout of parameters
            parameter.grad = None if gradient is None else gradient.contiguous()


def _clipped(gradients: Sequence[Tensor | None], most: float) -> list[Tensor | None]:
    """Gradients scaled so that each run's L2 norm over all of them is at most `most`."""
    given = [g for g in gradients if g is not None]
    if len(given) == 0:
        return [*gradients]
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in given]).norm(dim=0)  # (run,)
    scale = (most / norms.clamp_min(1e-12)).clamp_max(1)
    return [None if g is None else g * scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
