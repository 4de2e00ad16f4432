"""PMR: alpha 0 is naive training, and for two modalities the loss is the paper's."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from amr.fusion.data.clips import Clips
from amr.fusion.methods.pmr import PMROptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, with_gaps


def test_alpha_0_is_naive_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0), Member(3, HALF, 0.3)]
    settings = {"optimizer": "sgd", "lr": 0.1}
    ours, naive = (
        fit_group(name, members, train, val, o, **settings) for name, o in (("pmr", {"alpha": 0.0}), ("naive", None))
    )
    assert_same(ours.model.state_dict(), naive.model.state_dict())


def uneven(num_clips):
    """Clips whose video shows less than their audio."""
    clips = make_clips(num_clips)
    noise = 3 * torch.randn(num_clips, 6, generator=torch.Generator().manual_seed(7))
    return Clips({**clips.embeddings, "video": clips.embeddings["video"] + noise}, clips.present, clips.target)


def paper(z, target, has, centers, alpha, mu):
    """Loss beside the joint one, of two modalities in one run, by the paper's beta and gamma."""
    q = [(-torch.cdist(z[i][has[i]], centers[i])).softmax(-1) for i in range(2)]
    right = [q[i][torch.arange(len(q[i])), target[has[i]]] for i in range(2)]
    rho = (right[0].mean() / right[1].mean()).detach()
    beta, gamma = (1 / rho - 1).clamp(0, 1), (rho - 1).clamp(0, 1)
    entropy = [-(each * each.log()).sum(-1).mean() for each in q]
    pulled = beta * -right[0].log().mean() + gamma * -right[1].log().mean()
    return alpha * pulled - mu * (gamma * entropy[0] + beta * entropy[1])


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_modalities_the_loss_is_the_paper_s_in_float64(swapped):
    clips = with_gaps(uneven(30))
    if swapped:
        embeddings = dict(reversed(clips.embeddings.items()))
        clips = Clips(embeddings, clips.present.flip(-1), clips.target)
    method, model = build("pmr", clips, clips, options={"alpha": 3.0, "entropy": 0.5, "entropy_epochs": 1})
    method.begin_epoch(1)
    batch = batch_of(clips)
    z = model.encode(batch)
    loss = method.loss(model, batch, z)
    for run in range(len(SEEDS)):
        present, target = batch.present[run], batch.target[run]
        values = [value[run].double() for value in z.values()]
        has = [present[:, i] for i in range(2)]
        centers = [
            torch.stack([v[h & (target == k)].mean(0) for k in range(3)]) for v, h in zip(values, has, strict=True)
        ]
        joint = cross_entropy(model.head(z, batch.present)[run].double(), target)
        expected = joint + paper(values, target, has, [c.detach() for c in centers], 3.0, 0.5)
        torch.testing.assert_close(loss[run].double(), expected, rtol=1e-5, atol=1e-6)
        weights = {m: float(method.epoch_values()[f"weight_{m}"][run]) for m in z}
        assert weights["audio"] == 0
        assert weights["video"] > 0.01
    method.begin_epoch(2)
    assert method.entropy == 0


def test_it_reaches_adapters_of_what_is_behind_and_nothing_else():
    clips = uneven(30)
    method, model = build("pmr", clips, clips, seeds=(0,))
    plain, same = build("naive", clips, clips, seeds=(0,))
    method.begin_epoch(1)
    batch = batch_of(clips, 1)
    (_, ours), (_, naive) = gradients(method, model, batch), gradients(plain, same, batch)
    behind = [m for m, weight in method.epoch_values().items() if weight > 0]
    assert len(behind) == 1
    for name, g in ours.items():
        pulled = name.startswith(f"adapters.{behind[0].removeprefix('weight_')}.")
        assert torch.allclose(g, naive[name], rtol=1e-4, atol=1e-6) != pulled, name


def test_momentum_keeps_prototypes_and_a_restored_method_goes_on_alike():
    clips = make_clips(30)
    method, model = build("pmr", clips, clips, options={"momentum": 0.5})
    method.begin_epoch(1)
    first = method.state()
    for parameter in model.parameters():
        parameter.data.mul_(2)
    method.begin_epoch(2)
    new, _ = method._measured()
    assert_same(method.prototypes, {m: (first[m] + new[m]) / 2 for m in first}, rtol=1e-6, atol=1e-6)
    other, resumed = build("pmr", clips, clips, options={"momentum": 0.5})
    resumed.load_state_dict(model.state_dict())
    other.load(first)
    other.begin_epoch(2)
    assert_same(other.prototypes, method.prototypes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number, 0 or more"),
        ({"entropy": float("nan")}, "entropy must be a finite number, 0 or more"),
        ({"entropy_epochs": -1}, "entropy_epochs must be 0 or more"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        PMROptions(**options)
