import pytest
import torch
from captum.attr import ShapleyValues
from torch import nn

from amr.fusion.attribution.attributor import Attributor, attributions
from amr.fusion.attribution.gradients import output_value
from amr.fusion.attribution.integrated import integrated_gradients
from amr.fusion.attribution.regularizer import AttributionRegularizer
from amr.fusion.attribution.shapley import shapley_values
from amr.fusion.choices import OUTPUTS

from .conftest import DIMS, make, scalar


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("dims", [DIMS, {"a": 2, "b": 3, "c": 4}])
def test_shapley_values_agree_with_captum_and_are_complete(output, dims):
    head, z, present = make(dims=dims)
    logits, ours = shapley_values(head, z, present, output)
    predicted = logits[0].argmax(-1, keepdim=True)
    masks = tuple(torch.full((1, dim), i) for i, dim in enumerate(dims.values()))
    # all permutations: captum's ShapleyValues is exact too
    theirs = ShapleyValues(scalar(head, present, predicted, output)).attribute(
        tuple(v[0] for v in z.values()), feature_mask=masks
    )
    for i, their in enumerate(theirs):
        torch.testing.assert_close(ours[0, :, i], their[:, 0], rtol=1e-5, atol=1e-5, check_dtype=False)
    none = head({m: torch.zeros_like(v) for m, v in z.items()}, present & False)
    gain = output_value(logits, predicted[None], output) - output_value(none, predicted[None], output)
    torch.testing.assert_close(ours.sum(-1), gain)


@pytest.mark.parametrize("attribution", list(attributions))
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("pooling", ["l1", "l2"])
def test_every_attribution_gives_shares_and_trains(attribution, output, pooling):
    if output != "probability" and not attributions[attribution].uses_output:
        pytest.skip("it has no other output")
    head, z, present = make("gated", runs=2)
    attributor = Attributor(output, pooling, attribution, num_points=4)
    partners = torch.arange(7).roll(1).expand(2, -1)
    _, share, counted = attributor.shares(head, z, present, partners=partners)
    assert not share.requires_grad
    assert counted.all()
    if not attributor.uses_partners:
        torch.testing.assert_close(share.sum(-1), torch.ones(2, 7, dtype=torch.float64))
    _, share, _ = attributor.shares(head, z, present, partners=partners, create_graph=True)
    gradients = torch.autograd.grad(share[..., 0].mean(), list(head.parameters()), materialize_grads=True)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("attribution", ["integrated_gradients", "shapley"])
def test_the_mean_baseline_is_that_of_the_clips_that_have_the_modality(attribution):
    head, z, present = make()
    present[0, :3, 1] = False
    z["video"][0, :3] = 0
    mean = {"audio": z["audio"].mean(1, keepdim=True), "video": z["video"][:, 3:].mean(1, keepdim=True)}
    _, share, counted = Attributor(attribution=attribution, baseline="mean", num_points=16).shares(head, z, present)
    assert counted[0].tolist() == [False] * 3 + [True] * 4
    if attribution == "shapley":
        _, phi = shapley_values(head, z, present, "probability", mean)
        expected = phi.abs() / phi.abs().sum(-1, keepdim=True)
    else:
        _, alpha = integrated_gradients(lambda x: head(x, present), z, "probability", mean, num_points=16)
        norms = torch.stack([a.norm(dim=-1) for a in alpha.values()], -1)
        expected = norms / norms.sum(-1, keepdim=True)
    torch.testing.assert_close(share[0, 3:], expected[0, 3:])


def test_runs_that_share_clips_get_the_same_shares_as_with_their_own():
    head, z, present = make("gated", runs=4)
    shared = {m: v[:2] for m, v in z.items()}
    repeated = {m: v[:2].repeat_interleave(2, 0) for m, v in z.items()}
    for attribution in list(attributions):
        attributor = Attributor(attribution=attribution, num_points=3)
        partners = torch.arange(7).roll(1).expand(4, -1)
        ours, theirs = (attributor.shares(head, v, present, partners=partners)[1] for v in (shared, repeated))
        torch.testing.assert_close(ours, theirs)


def test_the_regularizer_trains_any_head_and_never_the_encoder():
    torch.manual_seed(0)
    encoders = nn.ModuleDict({"audio": nn.Linear(6, 5), "video": nn.Linear(6, 5)})
    head = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))
    regularizer = AttributionRegularizer("9:1")
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    x = torch.randn(64, 6)
    for _ in range(150):
        z = {m: encoder(x) for m, encoder in encoders.items()}
        loss = regularizer(lambda z: head(torch.cat(list(z.values()), -1)), z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert all(p.grad is None for p in encoders.parameters())


def test_the_ratio_must_fit_z():
    regularizer = AttributionRegularizer((0.5, 0.5))
    with pytest.raises(ValueError, match="one part for each of a, b, c"):
        regularizer(lambda z: z["a"], {m: torch.randn(2, 3) for m in "abc"})
    with pytest.raises(ValueError, match="Did you mean shapley"):
        Attributor(attribution="shaply")


def test_a_ratio_may_name_its_modalities():
    draws = torch.Generator().manual_seed(0)
    z = {"audio": torch.randn(6, 3, generator=draws), "video": torch.randn(6, 2, generator=draws)}
    layer = torch.nn.Linear(5, 4)

    def head(z):
        return layer(torch.cat([z["audio"], z["video"]], -1))

    by_order = AttributionRegularizer("3:1")(head, z)
    for named in ("video=1:audio=3", {"video": 1, "audio": 3}):
        assert torch.equal(AttributionRegularizer(named)(head, z), by_order)
    for wrong in ("audio=3:text=1", {"audio": 1, "video": 1, "text": 1}):
        with pytest.raises(ValueError, match=r"ratio must name the modalities of z \(audio, video\)"):
            AttributionRegularizer(wrong)(head, z)


def test_z_may_be_a_tuple_which_the_head_takes_as_arguments():
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, generator=draws), torch.randn(6, 2, generator=draws)
    layer = torch.nn.Linear(5, 4)
    regularizer = AttributionRegularizer("3:1")
    ours = regularizer(lambda a, v: layer(torch.cat([a, v], -1)), z)
    theirs = regularizer(lambda z: layer(torch.cat([z["a"], z["v"]], -1)), {"a": z[0], "v": z[1]})
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="ratio must have one part for each of"):
        regularizer(lambda a, b, c: layer(torch.cat([a, b], -1)), (*z, z[0]))
