"""Operations without a derivative: what the error says."""

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from amr.fusion.attribution.any_head.derivatives import check_second_derivative
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer

torch.manual_seed(0)
mix, out = nn.Linear(4, 4), nn.Linear(9, 3)
z = {"audio": torch.randn(2, 3, 4), "video": torch.randn(2, 3, 4)}


class Once(torch.autograd.Function):
    """The square, differentiable once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def sampled(z):
    places = mix(z["video"]).tanh()[:, :, None, :2].expand(-1, -1, 3, -1)
    return functional.grid_sample(mix(z["audio"])[:, None], places, align_corners=False)


WITHOUT = {
    "cdist": lambda z: torch.cdist(mix(z["audio"]), mix(z["video"])),
    "grid_sample": sampled,
    "once_differentiable": lambda z: Once.apply(mix(z["audio"]) @ mix(z["video"]).mT),
}


@pytest.mark.parametrize("name", list(WITHOUT))
def test_r_says_that_a_second_derivative_is_missing(name):
    def head(z):
        return out(WITHOUT[name](z).flatten(1))

    with pytest.raises(RuntimeError, match=r"head must have a second derivative.*Shapley shares, which need none"):
        AttributionRegularizer("1:1")(head, z)
    Attributor().shares(head, z)  # measuring needs the first only
    AttributionRegularizer("1:1", Attributor(attribution="shapley"))(head, z).backward()


def test_a_new_head_is_checked_although_another_was_fine():
    regularizer = AttributionRegularizer("1:1")
    regularizer(lambda z: out(torch.cat([*z.values()], -1).flatten(1)[:, :9]), z)
    with pytest.raises(RuntimeError, match="second derivative"):
        regularizer(lambda z: out(WITHOUT["cdist"](z).flatten(1)), z)


def test_reentrant_checkpoints_are_named():
    net = nn.Linear(8, 3)

    def head(z, reentrant):
        return checkpoint(net, torch.cat([*z.values()], -1).mean(1), use_reentrant=reentrant)

    with pytest.raises(RuntimeError, match=r"head must be differentiable in z.*Pass use_reentrant=False"):
        AttributionRegularizer("1:1")(lambda z: head(z, True), z)
    AttributionRegularizer("1:1")(lambda z: head(z, False), z).backward()


class Cudnn(torch.autograd.Function):
    """The identity, whose derivative fails as that of cuDNN's recurrent layers."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("the derivative for '_cudnn_rnn_backward' is not implemented")


def test_recurrent_layers_of_cudnn_are_named():
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"second derivative.*torch\.backends\.cudnn\.flags\(enabled=False\)"):
        check_second_derivative(Cudnn.apply(x).sum(), [x])


def test_errors_of_the_head_itself_stay_as_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        AttributionRegularizer("1:1")(lambda z: out(z["audio"]), z)
