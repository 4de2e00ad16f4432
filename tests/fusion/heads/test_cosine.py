import numpy as np
import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.heads import heads
from amr.fusion.heads.cosine import CosineOptions

from .conftest import DIMS, NUM_CLASSES, all_present, build, make_z


def cosine(left, right):
    return left @ right / (np.linalg.norm(left) * np.linalg.norm(right))


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("hidden", [0, 8])
def test_it_adds_the_cosines_with_the_weights_of_each_class(num_modalities, hidden):
    head, z = build("cosine", num_modalities, hidden=hidden, options=CosineOptions(15.0)), make_z(num_modalities)
    logits = head(z, all_present(z)).detach().numpy()
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    for run, clip, c in np.ndindex(2, 7, NUM_CLASSES):
        expected = 0.0
        for i, m in enumerate(DIMS[num_modalities]):
            h = z[m][run, clip].numpy()
            if hidden:
                h = np.maximum(state[f"hidden_layers.{i}.weight"][run] @ h, 0)
            expected += 15 * cosine(h, state[f"classifiers.{i}.weight"][run, c])
        np.testing.assert_allclose(logits[run, clip, c], expected, rtol=1e-12)


@pytest.mark.parametrize("hidden", [0, 8])
def test_neither_the_length_of_z_nor_that_of_weights_counts(hidden):
    head, z = build("cosine", hidden=hidden), make_z()
    logits = head(z, all_present(z))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 3
    torch.testing.assert_close(head({"audio": 100 * z["audio"], "video": 0.01 * z["video"]}, all_present(z)), logits)


@pytest.mark.parametrize("hidden", [0, 8])
def test_an_absent_modality_adds_nothing(hidden):
    head, z = build("cosine", hidden=hidden), make_z()
    parts = head.modality_logits(z)
    logits = head(z | {"audio": torch.zeros_like(z["audio"])}, all_present(z))
    torch.testing.assert_close(logits, parts["video"])
    assert parts["video"].abs().max() <= 10


@pytest.mark.parametrize("hidden", [0, 8])
def test_gradients_are_orthogonal_to_z_and_integrated_ones_give_the_same_shares(hidden):
    head, z = build("cosine", hidden=hidden), make_z()
    present = all_present(z)
    gradients = head.input_gradient(head.fuse(z, present), torch.ones(2, 7, NUM_CLASSES, dtype=torch.float64))
    for m, gradient in gradients.items():
        torch.testing.assert_close((gradient * z[m]).sum(-1), torch.zeros(2, 7, dtype=torch.float64))
    _, expected, counted = Attributor().shares(head, z, present)
    _, share, _ = Attributor(attribution="integrated_gradients", output="logit").shares(head, z, present)
    _, logit_share, _ = Attributor(output="logit").shares(head, z, present)
    assert counted.all()
    torch.testing.assert_close(share, logit_share)
    assert (expected[..., 0] - 0.5).abs().min() > 1e-3  # no share is even by construction


def test_runs_that_share_their_clips_have_the_same_logits():
    head, z = build("cosine", hidden=0), make_z(num_runs=1)
    twice = {m: x.expand(2, -1, -1) for m, x in z.items()}
    torch.testing.assert_close(head(z, all_present(twice)), head(twice, all_present(twice)))
    features = head.fuse(z, all_present(twice))
    cotangent = torch.randn(2, 7, NUM_CLASSES, dtype=torch.float64)
    ours, expected = (head.input_gradient(f, cotangent) for f in (features, head.fuse(twice, all_present(twice))))
    for m in z:
        torch.testing.assert_close(ours[m], expected[m])


def test_scaling_is_no_part_of_the_weights():
    head = build("cosine")
    assert head.scale_modalities([1.0, 0.5])
    assert head.scales.tolist() == [10.0, 5.0]
    assert "scales" not in head.state_dict()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_above_zero_is_refused(scale):
    with pytest.raises(ValueError, match=r"--head-option scale must be a finite number above 0, got .* Pass scale=10."):
        heads["cosine"].Options(scale)
