"""The GPU that is not there refuses what a GPU refuses."""

import pytest
import torch
from torch import nn

from .conftest import HAS_GPU
from .fake import FakeTensor

pytestmark = pytest.mark.skipif(HAS_GPU, reason="there is a GPU")


def test_tensors_say_that_they_are_on_the_gpu_and_compute_as_the_cpu(gpu):
    x = torch.arange(6.0, device="cuda").view(2, 3)
    assert x.is_cuda
    assert isinstance(x, FakeTensor)
    assert (x @ x.mT).cpu().tolist() == [[5.0, 14.0], [14.0, 50.0]]
    assert x[[1]].tolist() == [[3.0, 4.0, 5.0]]
    assert x[x > 2].tolist() == [3.0, 4.0, 5.0]
    x[0].zero_()
    assert x.sum().item() == 12


def test_devices_do_not_mix(gpu):
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        here + there
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([here, there])
    with pytest.raises(RuntimeError, match="indices should be"):
        here[there.long()]
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()
    assert (there * torch.tensor(2.0)).tolist() == [2, 2, 2]


def test_gradients_and_modules_are_on_the_gpu(gpu):
    layer = nn.Linear(3, 2).to("cuda")
    assert all(parameter.is_cuda for parameter in layer.parameters())
    loss = layer(torch.ones(4, 3, device="cuda")).square().sum()
    for gradient in torch.autograd.grad(loss, [*layer.parameters()], create_graph=True):
        assert gradient.is_cuda


@pytest.mark.parametrize(
    "work",
    [
        lambda x, host: x.sum().item(),
        lambda x, host: x.cpu(),
        lambda x, host: bool((x > 0).any()),
        lambda x, host: x[x > 0],
        lambda x, host: x.nonzero(),
        lambda x, host: host.to("cuda"),
        lambda x, host: torch.tensor([1.0, 2.0], device="cuda"),
        lambda x, host: x[torch.tensor([0, 1])],
        lambda x, host: torch.where(x > 0, x, host[0]),
    ],
)
def test_what_the_host_waits_for_is_noted(gpu, work):
    x, host = torch.ones(3, device="cuda"), torch.ones(3)
    work(x, host)
    assert gpu.fake.waits == []
    with gpu.fake.watching():
        work(x, host)
    assert gpu.fake.waits != []


def test_what_it_does_not_wait_for_is_not(gpu):
    x, host = torch.ones(3, device="cuda"), torch.ones(3)
    with gpu.never_waits():
        host.pin_memory().to("cuda", non_blocking=True).add_(x * 2).masked_fill(x > 0, 0)
        x[torch.arange(2, device="cuda")].softmax(-1)
