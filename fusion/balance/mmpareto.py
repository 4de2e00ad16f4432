"""MMPareto (Wei and Hu 2024): a step of an encoder that serves both the joint and the uni-modal loss."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_WEIGHT = 1e-3  # of either gradient in a conflict, as in the authors' code
NOISE = 100  # units of rounding: what remains of opposite gradients is noise, which may not become a step


def mmpareto_weights(joint: Tensor, unimodal: Tensor) -> Tensor:
    """Weights of the two gradients of an encoder, `(2, ...)`, which sum to 1 (Wei and Hu 2024).

    1/2 each unless they conflict, <a, b> < 0; then those of the shortest vector between them, the min-norm point

        w_a = (|b|^2 - <a, b>) / |a - b|^2,    from .001 to .999

    Args:
        joint: Gradient a of the joint loss with respect to all parameters of the encoder, `(..., parameters)`.
        unimodal: Gradient b of the uni-modal loss with respect to the same.

    >>> mmpareto_weights(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])).round(decimals=3)
    tensor([0.4000, 0.6000])
    >>> mmpareto_weights(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """
    product = (joint * unimodal).sum(-1)
    distance = (joint - unimodal).square().sum(-1)
    of_joint = (unimodal.square().sum(-1) - product) / distance.clamp_min(torch.finfo(distance.dtype).tiny)
    of_joint = torch.where(product < 0, of_joint.clamp(LEAST_WEIGHT, 1 - LEAST_WEIGHT), 0.5)
    return torch.stack([of_joint, 1 - of_joint])


def mmpareto_gradient(joint: Tensor, unimodal: Tensor, gamma: float = 1.5) -> Tensor:
    """Gradient with which an encoder steps, `(..., parameters)` (Wei and Hu 2024).

    g = 2 w_a a + 2 w_b b, enlarged to the length of a + b if it is shorter, times gamma. 0 if a and b are opposite.

    Args:
        joint: Gradient a of the joint loss with respect to all parameters of the encoder, `(..., parameters)`.
        unimodal: Gradient b of the uni-modal loss with respect to the same.
        gamma: Factor of its length, for the noise of larger steps.

    >>> mmpareto_gradient(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), gamma=1.0)
    tensor([3., 1.])
    """
    w_joint, w_unimodal = mmpareto_weights(joint, unimodal).unsqueeze(-1)
    gradient = 2 * w_joint * joint + 2 * w_unimodal * unimodal
    length, usual, of_a, of_b = (
        torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (gradient, joint + unimodal, joint, unimodal)
    )
    info = torch.finfo(length.dtype)
    is_noise = length <= NOISE * info.eps * (of_a + of_b)
    return (gamma * gradient * (usual / length.clamp_min(info.tiny)).clamp_min(1)).masked_fill(is_noise, 0)
