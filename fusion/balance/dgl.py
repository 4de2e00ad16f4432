"""Disentangled gradient learning (Wei et al. 2025): the head learns from the joint loss, encoders from their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.fusion.attribution.base import HeadFunction
from amr.fusion.balance.outputs import modality_losses, unimodal_logits
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS


def dgl_loss(
    head: HeadFunction,
    z: Mapping[str, Tensor],
    target: Tensor,
    present: Tensor | None = None,
    alpha: float = 1.0,
    task: Task = MULTICLASS,
) -> Tensor:
    """L + alpha sum_m L_m, `(...)`, in which z is a constant for L and the head is a constant for L_m.

    L is the loss of the joint logits, L_m that of the part of modality m (`unimodal_logits`). So the head gets the
    gradient of L alone, and what encodes z gets that of alpha sum_m L_m alone.

    Args:
        head: Function of z and present that returns logits, `(..., clips, classes)`.
        z: Modality to its encoding, `(..., clips, dim)` or with steps, with its graph.
        target: Classes, `(..., clips)`, or the targets of another task.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.
        alpha: Factor of the gradient of z.
        task: What is predicted.

    >>> weight = torch.eye(2, requires_grad=True)
    >>> z = {"audio": torch.zeros(1, 2, requires_grad=True), "video": torch.tensor([[99.0, 0.0]], requires_grad=True)}
    >>> loss = dgl_loss(lambda z, present: (z["audio"] + z["video"]) @ weight, z, torch.tensor([0]))
    >>> loss.round(decimals=3)  # L is 0, and so is that of video
    tensor(0.6930, grad_fn=<RoundBackward1>)
    >>> [f"{gradient.norm():.3f}" for gradient in torch.autograd.grad(loss, [*z.values(), weight])]
    ['0.707', '0.000', '0.000']
    """
    if present is None:
        clips = target.shape[: target.ndim - task.num_label_axes]
        present = torch.ones(*clips, len(z), dtype=torch.bool, device=target.device)
    constant = {m: value.detach() for m, value in z.items()}
    joint = task.loss(head(constant, present), target)
    leaves = {m: value.clone().requires_grad_() for m, value in constant.items()}
    with torch.enable_grad():
        own = modality_losses(unimodal_logits(head, leaves, present), target, present, task).sum(0)  # (...)
        at_z = torch.autograd.grad(own.sum(), list(leaves.values()), materialize_grads=True)
    through_z = torch.zeros_like(joint)  # value 0; its gradient is that of `own`, with the head a constant
    for gradient, value, fixed in zip(at_z, z.values(), constant.values(), strict=True):
        through_z = through_z + (gradient * (value - fixed)).flatten(joint.ndim).sum(-1)
    return joint + alpha * (own.detach() + through_z)
