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
from amr.fusion.train.recipe import Member, Recipe, ratios


class OptimizerStep:
    """One optimizer step of every run: task + amr_weight * R, or R by an optimizer of its own."""

    def __init__(
        self,
        recipe: Recipe,
        members: Sequence[Member],
        model: FusionModel,
        loss: LossFunction,
        method: Method | None = None,
    ) -> None:
        device = next(model.parameters()).device
        self.recipe, self.model, self.loss, self.method = recipe, model, loss, method
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [*model.parameters(), *(method.parameters() if method is not None else [])]
        self.head_parameters = list(model.head.parameters())
        self.optimizer = _optimizer(recipe, self.parameters, recipe.lr, recipe.weight_decay)
        weights = [member.weight for member in members]
        self.amr = any(weight > 0 for weight in weights)
        self.weight = torch.tensor(weights, device=device)  # (run,)
        self.ratio = ratios(members, model)
        self.separate = self.amr and recipe.amr_optimizer == "separate"
        self.optimizers = {self.optimizer: recipe.lr}
        if self.separate:
            if len(set(weights)) > 1:
                raise ValueError(f"amr_weight must be one for all members with a separate optimizer, got {weights}.")
            # Adam would cancel a weight on the loss, so the weight scales the learning rate
            self.amr_optimizer = _optimizer(recipe, self.head_parameters, recipe.lr * weights[0], 0.0)
            self.optimizers[self.amr_optimizer] = recipe.lr * weights[0]

    def set_lr(self, epoch: int) -> None:
        """The step decay."""
        if self.recipe.lr_step is not None:
            every, factor = self.recipe.lr_step
            for optimizer, lr in self.optimizers.items():
                optimizer.param_groups[0]["lr"] = lr * factor ** ((epoch - 1) // every)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch; the loss and R of each run, `(2, run)`."""
        z = self.model.encode(batch)
        joint = self.method is not None and self.method.joint
        if self.method is not None and joint and self.amr and not self.model.adapters:
            # z is a constant here, so that the forward pass of the attribution serves the task, too
            logits, share, counted = self._shares(batch, z)
            return self._pulled(self.method.joint_loss(logits, batch), share, counted)
        if self.method is not None and joint:
            loss = self.method.joint_loss(self.model.head(z, batch.present), batch)
        else:
            loss = self.loss(self.model, batch, {m: of_runs(value, len(self.weight)) for m, value in z.items()})
        if not self.amr:
            self._descend(self.optimizer, self.parameters, loss.sum())
            return torch.stack([loss.detach(), torch.zeros_like(loss)])
        _, share, counted = self._shares(batch, z)
        return self._pulled(loss, share, counted)

    def _shares(self, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self.recipe.attributor.shares(self.model.head, z, batch.present, create_graph=True)

    def _pulled(self, loss: Tensor, share: Tensor, counted: Tensor) -> Tensor:
        distance = regularization(share, counted, self.ratio)
        if self.separate:
            pull = torch.autograd.grad(distance.sum(), self.head_parameters, retain_graph=True, materialize_grads=True)
            self._descend(self.optimizer, self.parameters, loss.sum())
            self._assign(self.head_parameters, pull)
            self.amr_optimizer.step()
        else:
            self._descend(self.optimizer, self.parameters, (loss + self.weight * distance).sum())
        return torch.stack([loss.detach(), distance.detach()])

    def _descend(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], total: Tensor) -> None:
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
        if self.method is not None:
            adjusted = self.method.adjust(dict(zip(self.names, gradients, strict=False)))
            gradients = (*(adjusted[name] for name in self.names), *gradients[len(self.names) :])
        if self.recipe.method.clip_norm is not None:
            # apart, so that R, which takes part in the head's norm, does not reach adapters through it
            num_adapters = sum(name.startswith("adapters.") for name in self.names)  # they come first
            most = self.recipe.method.clip_norm
            gradients = (*_clipped(gradients[:num_adapters], most), *_clipped(gradients[num_adapters:], most))
        self._assign(parameters, gradients)
        optimizer.step()

    @staticmethod
    def _assign(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused AdamW reads gradients by the layout of parameters


def _clipped(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients with each run's L2 norm over all of them at most `most`."""
    if len(gradients) == 0:
        return []
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)  # (run,)
    scale = (most / norms.clamp_min(1e-12)).clamp_max(1)
    return [g * scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients]


def _optimizer(recipe: Recipe, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
    on_gpu = parameters[0].is_cuda  # what a recorded step needs, and only a GPU has
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, weight_decay=weight_decay, capturable=on_gpu)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True, capturable=on_gpu)
