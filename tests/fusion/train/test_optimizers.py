from __future__ import annotations

import pytest
import torch

from amr.fusion.train.optimizers import OPTIMIZERS

CLASSES = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adamax": (torch.optim.Adamax, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 5, 7), (3, 7), (1,))]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_equals_the_class_of_torch(name, weight_decay):
    kind, options = CLASSES[name]
    ours, theirs = parameters(), parameters()
    optimizer = OPTIMIZERS[name](ours, 0.1, weight_decay)
    reference = kind(theirs, lr=0.1, weight_decay=weight_decay, **options)
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for our, their in zip(ours, theirs, strict=True):
            our.grad = torch.randn(our.shape, generator=generator) * (step % 5)
            their.grad = our.grad.clone()
        if step == 10:
            optimizer.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = 0.03
        if step == 15:  # a resumed training goes on as before, also from a checkpoint of the class
            state = (optimizer if weight_decay else reference).state_dict()
            optimizer = OPTIMIZERS[name](ours, 1.0, weight_decay)
            optimizer.load_state_dict(state)
        optimizer.step()
        reference.step()
        for our, their in zip(ours, theirs, strict=True):
            assert torch.equal(our, their)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_momentum_is_that_of_torch(momentum):
    ours, theirs = parameters(), parameters()
    optimizer = OPTIMIZERS["sgd"](ours, 0.1, 0.01, momentum)
    reference = torch.optim.SGD(theirs, lr=0.1, weight_decay=0.01, momentum=momentum)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for our, their in zip(ours, theirs, strict=True):
            our.grad = torch.randn(our.shape, generator=generator)
            their.grad = our.grad.clone()
        optimizer.step()
        reference.step()
        for our, their in zip(ours, theirs, strict=True):
            assert torch.equal(our, their)
