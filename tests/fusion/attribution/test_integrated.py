import pytest
import torch
from captum.attr import IntegratedGradients

from amr.fusion.attribution.gradients import output_value
from amr.fusion.attribution.integrated import integrated_gradients
from amr.fusion.choices import OUTPUTS

from .conftest import make, scalar


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", ["concat", "gated"])
def test_integrated_gradients_agree_with_captum_and_are_complete(output, name):
    head, z, present = make(name)
    logits, ours = integrated_gradients(lambda x: head(x, present), z, output, num_points=50)
    predicted = logits[0].argmax(-1, keepdim=True)
    theirs = IntegratedGradients(scalar(head, present, predicted, output)).attribute(
        tuple(v[0] for v in z.values()), n_steps=50
    )
    for our, their in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(our[0], their, rtol=1e-5, atol=1e-5)
    at_zero = head({m: torch.zeros_like(v) for m, v in z.items()}, present)
    gain = output_value(logits, predicted[None], output) - output_value(at_zero, predicted[None], output)
    _, fine = integrated_gradients(lambda x: head(x, present), z, output, num_points=1000)  # ReLU has kinks on the line
    torch.testing.assert_close(sum(a.sum(-1) for a in fine.values()), gain, rtol=1e-3, atol=1e-3)
