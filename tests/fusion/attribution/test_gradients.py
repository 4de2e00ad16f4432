import pytest
import torch
from captum.attr import InputXGradient
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.gradients import grad_x_input, output_cotangent
from amr.fusion.attribution.share import magnitudes, mean_share, shares
from amr.fusion.choices import OUTPUTS
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis.seeds import Draws

ALL_PRESENT = torch.ones(2, 7, 2, dtype=torch.bool)


def make_head(hidden=0, runs=2, dims=None, num_classes=4, name="concat"):
    dims = dims or {"audio": 5, "video": 3}
    head = heads[name](HeadShape(dims, num_classes, hidden), Draws(range(runs))).double()
    generator = torch.Generator().manual_seed(1)
    z = {m: torch.randn(runs, 7, dim, generator=generator, dtype=torch.float64) for m, dim in dims.items()}
    return head, z


def attributed_output(logits, output):
    """The attributed output as in the paper, without log-odds."""
    c = logits.argmax(-1, keepdim=True)
    if output == "probability":
        return logits.softmax(-1).gather(-1, c).squeeze(-1)
    if output == "logit":
        return logits.gather(-1, c).squeeze(-1)
    return (logits - logits.mean(-1, keepdim=True)).gather(-1, c).squeeze(-1)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", [0, 6])
def test_shares_are_those_of_the_paper_s_formula(output, hidden):
    head, z = make_head(hidden)
    z = {m: value.requires_grad_() for m, value in z.items()}
    scalar = attributed_output(head(z, ALL_PRESENT), output)
    gradients = torch.autograd.grad(scalar.sum(), list(z.values()))
    norms = torch.stack([(g * v).pow(2).sum(-1).sqrt() for g, v in zip(gradients, z.values(), strict=True)], -1)
    _, share, counted = Attributor(output).shares(head, z, torch.ones(2, 7, 2, dtype=torch.bool))
    assert counted.all()
    torch.testing.assert_close(share, norms / norms.sum(-1, keepdim=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
def test_attributions_agree_with_captum(output):
    head, z = make_head(hidden=6, runs=1)
    ours = grad_x_input(head({m: v.requires_grad_() for m, v in z.items()}, ALL_PRESENT[:1]), z, output)

    def scalar(audio, video):
        logits = head({"audio": audio[None], "video": video[None]}, ALL_PRESENT[:1])[0]
        c = logits.argmax(-1, keepdim=True)
        if output == "probability":  # the log-odds: ours drops the factor p (1 - p)
            others = logits.masked_fill(torch.zeros_like(logits, dtype=torch.bool).scatter(-1, c, True), -torch.inf)
            return logits.gather(-1, c).squeeze(-1) - others.logsumexp(-1)
        return attributed_output(logits, output)

    theirs = InputXGradient(scalar).attribute((z["audio"][0], z["video"][0]))
    for our, their in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(our[0], their, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", [0, 6])
def test_the_closed_form_and_its_gradients_equal_autograd(output, hidden):
    head, z = make_head(hidden)
    present = torch.ones(2, 7, 2, dtype=torch.bool)
    results = []
    for function in (head, lambda z, present: head(z, present)):  # a plain function has no closed form
        logits, share, _ = Attributor(output).shares(function, z, present, create_graph=True)
        loss = (share[..., 0] - 0.3).abs().mean() + 0 * logits.sum()
        gradients = torch.autograd.grad(loss, list(head.parameters()), materialize_grads=True)
        results.append((logits, share, *gradients))
    for closed, double_backward in zip(*results, strict=True):
        torch.testing.assert_close(closed, double_backward, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(-20, 20))
@settings(max_examples=25, deadline=None)
def test_adding_one_vector_to_all_classes_changes_only_the_share_of_the_logit(seed, size):
    head, z = make_head(runs=1)
    present = torch.ones(1, 7, 2, dtype=torch.bool)
    before = {output: Attributor(output).shares(head, z, present)[:2] for output in OUTPUTS}
    shift = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size
    with torch.no_grad():
        head.classifier.weight += shift
    after = {output: Attributor(output).shares(head, z, present)[:2] for output in OUTPUTS}
    torch.testing.assert_close(before["logit"][0].softmax(-1), after["logit"][0].softmax(-1))
    for output in ("probability", "centered"):
        torch.testing.assert_close(before[output][1], after[output][1], rtol=1e-6, atol=1e-8)
    if abs(size) > 1:
        assert (before["logit"][1] - after["logit"][1]).abs().max() > 1e-3


def test_a_certain_head_keeps_its_share_in_float32():
    head, z = make_head(runs=1)
    with torch.no_grad():
        head.classifier.weight *= 40  # probabilities round to 1: the gradient of the probability itself is 0
    present = torch.ones(1, 7, 2, dtype=torch.bool)
    logits, exact, _ = Attributor().shares(head, z, present)
    assert (logits.softmax(-1).amax(-1).float() == 1).any()
    _, single, counted = Attributor().shares(head.float(), {m: v.float() for m, v in z.items()}, present)
    assert counted.all()
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)


def test_the_attribution_of_a_linear_head_has_an_explicit_formula():
    head, z = make_head(runs=1)
    logits = head(z, ALL_PRESENT[:1])[0]
    weight = head.classifier.weight[0]
    joined = torch.cat([z["audio"], z["video"]], -1)[0]
    for i in range(len(logits)):
        c = int(logits[i].argmax())
        others = [k for k in range(4) if k != c]
        q = torch.softmax(logits[i, others], 0)
        alpha = (weight[c] - sum(q[j] * weight[k] for j, k in enumerate(others))) * joined[i]
        expected = torch.stack([alpha[:5].norm(), alpha[5:].norm()])
        share = Attributor().shares(head, z, torch.ones(1, 7, 2, dtype=torch.bool))[1][0, i]
        torch.testing.assert_close(share, expected / expected.sum())


def test_swapping_modalities_swaps_shares():
    head, z = make_head(dims={"audio": 5, "video": 5})
    swapped, _ = make_head(dims={"audio": 5, "video": 5})
    with torch.no_grad():
        swapped.classifier.weight.copy_(head.classifier.weight.roll(5, -1))
    present = torch.ones(2, 7, 2, dtype=torch.bool)
    share = Attributor().shares(head, z, present)[1]
    other = Attributor().shares(swapped, {"audio": z["video"], "video": z["audio"]}, present)[1]
    torch.testing.assert_close(share, other.flip(-1))


def test_clips_without_shares_are_left_out_and_counted():
    magnitude = torch.tensor([[3.0, 1.0], [0.0, 0.0], [2.0, 2.0], [5.0, 0.0]])
    present = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    share, counted = shares(magnitude, present)
    assert counted.tolist() == [True, False, False, True]
    torch.testing.assert_close(mean_share(share, counted), torch.tensor([(0.75 + 1) / 2, 0.125]))


def test_gradients_at_zero_are_zero_not_nan():
    z = torch.zeros(3, 4, requires_grad=True)
    magnitude = magnitudes({"audio": z, "video": torch.ones(3, 2)})
    shares(magnitude)[0].sum().backward()
    assert torch.equal(z.grad, torch.zeros(3, 4))


@pytest.mark.parametrize("pooling", ["l1", "l2"])
def test_pooling_includes_steps(pooling):
    alpha = torch.randn(2, 5, 3, 4)  # (run, clips, steps, dim)
    expected = alpha.abs().sum((-1, -2)) if pooling == "l1" else alpha.pow(2).sum((-1, -2)).sqrt()
    torch.testing.assert_close(magnitudes({"audio": alpha}, pooling, clip_axis=1)[..., 0], expected)


def test_the_cotangent_of_two_classes_is_the_difference_of_logits():
    torch.testing.assert_close(output_cotangent(torch.tensor([0.2, 0.9])), torch.tensor([-1.0, 1.0]))
