from string import ascii_lowercase

import numpy as np
import pytest
import torch

from amr.fusion.attribution.shapley import subset_logits
from amr.fusion.heads import HeadShape, head_options, heads
from amr.fusion.heads.tensor import TensorOptions
from amr.fusion.run_axis.seeds import Draws

from .conftest import NUM_CLASSES, all_present, build, make_z

WITHOUT_ROOM = [f"m{i}" for i in range(17)]


def outer(head, z, present, run, clip):
    """Outer product of all [r_m, 1] of a clip, by einsum."""
    state = {name: value[run].numpy() for name, value in head.state_dict().items()}
    factors = []
    for i, m in enumerate(z):
        reduced = state[f"projections.{i}.weight"] @ z[m][run, clip].numpy() + state[f"projections.{i}.bias"]
        factors.append(np.append(reduced * present[run, clip, i].item(), 1.0))
    axes = ascii_lowercase[: len(z)]
    return np.einsum(f"{','.join(axes)}->{axes}", *factors)


@pytest.mark.parametrize(("num_modalities", "reduced_dim"), [(1, 5), (2, 4), (3, 2), (6, 1), (6, 0)])
@pytest.mark.parametrize("hidden", [0, 8])
def test_it_is_linear_in_the_outer_product(num_modalities, reduced_dim, hidden):
    head = build("tensor", num_modalities, hidden=hidden, options=TensorOptions(reduced_dim))
    z = make_z(num_modalities)
    present = all_present(z)
    present[:, :3, 0] = False
    logits = head(z, present).detach().numpy()  # absent z are not zero here
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    for run, clip in np.ndindex(2, 7):
        features = outer(head, z, present, run, clip).ravel()
        if hidden:
            features = np.maximum(state["fusion.weight"][run] @ features + state["fusion.bias"][run], 0)
        expected = state["classifier.weight"][run] @ features + state["classifier.bias"][run]
        np.testing.assert_allclose(logits[run, clip], expected, rtol=1e-10, atol=1e-12)


def test_each_subset_of_the_modalities_has_products_of_its_own():
    """With W of 0 but for products of audio and text, the other subsets say nothing."""
    head, z = build("tensor", 3, hidden=0, options=TensorOptions(2)), make_z(3)
    with torch.no_grad():
        kept = torch.zeros(3, 3, 3)
        kept[:2, :2, 2] = 1  # the last entry of a factor is the 1
        head.classifier.weight.mul_(kept.flatten())
        head.classifier.bias.zero_()
    for subset, logits in enumerate(subset_logits(head, z, all_present(z))):
        assert (logits == 0).all() == (subset & 0b110 != 0b110)  # the first modality is the highest bit


def test_a_sample_of_its_sizes():
    built = heads["tensor"](HeadShape(dict.fromkeys("abcdef", 300), NUM_CLASSES), Draws([0]))
    assert built.num_features == 4**6
    assert [layer.weight.shape[1] for layer in built.projections] == [3] * 6


@pytest.mark.parametrize(
    ("modalities", "options", "message"),
    [
        (["a", "b"], TensorOptions(1024), r"reduced_dim must be at most 255 for 2 modalities, .*, got 1024. Leave"),
        (list("abcdef"), TensorOptions(10), r"reduced_dim must be at most 5 for 6 modalities, .*, got 10"),
        (WITHOUT_ROOM, TensorOptions(), r"--head tensor must have at most 16 modalities, got 17. .* bilinear"),
    ],
)
def test_a_tensor_that_does_not_fit_memory_is_refused(modalities, options, message):
    with pytest.raises(ValueError, match=message):
        heads["tensor"].check(0, modalities, options)
    heads["tensor"].check(0, modalities[:16], TensorOptions())


def test_its_size_is_an_option_of_the_command_line():
    assert head_options("tensor", ["reduced_dim=5"]) == TensorOptions(5)
    with pytest.raises(ValueError, match="--head-option reduced_dim must be a whole number, got 'many'"):
        head_options("tensor", ["reduced_dim=many"])


def test_a_size_below_1_is_refused():
    with pytest.raises(ValueError, match=r"--head-option reduced_dim must be 1 or more, got -1. Leave it out"):
        TensorOptions(-1)
