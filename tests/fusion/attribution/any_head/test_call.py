"""Heads of any kind: how they are called, and what they may return."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer
from amr.fusion.attribution.share import magnitudes

PER_CLIP = ("grad_x_input", "integrated_gradients", "shapley")
ATTRIBUTORS = [Attributor(attribution=name, num_points=4) for name in PER_CLIP]
every_attributor = pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=PER_CLIP)


def make_z(num_clips=6, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    return {m: torch.randn(num_clips, dim, generator=draws, dtype=dtype) for m, dim in (("audio", 5), ("video", 3))}


def joined(z):
    return torch.cat([z["audio"], z["video"]], -1)


def network(num_classes=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, num_classes)).double()


def outcome(head, parameters, attributor=None, z=None, present=None, ratio="4:1"):
    """Shares, R, and the gradient of R."""
    z, attributor = z or make_z(), attributor or Attributor()
    share = attributor.shares(head, z, present)[1]
    value = AttributionRegularizer(ratio, attributor)(head, z, present)
    return [share, value, *torch.autograd.grad(value, list(parameters))]


def assert_same(ours, theirs):
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)


class Fusion(nn.Module):
    """A module with every kind of state: BatchNorm's buffers, dropout, spectral norm's vectors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm = nn.Linear(8, 7), nn.BatchNorm1d(7)
        self.last = nn.utils.parametrizations.spectral_norm(nn.Linear(7, 3))
        self.double()

    def forward(self, z):
        return self.last(self.norm(self.first(joined(z))).relu())


# One logit


@every_attributor
def test_one_logit_is_a_binary_decision(attributor):
    net = network(1)
    binary = outcome(lambda z: net(joined(z)), net.parameters(), attributor)
    two = outcome(lambda z: functional.pad(net(joined(z)), (1, 0)), net.parameters(), attributor)  # logits (0, x)
    assert_same(binary, two)
    assert sum(float(g.abs().sum()) for g in binary[2:]) > 0


def test_the_cotangent_of_one_logit_is_its_sign():
    net, z = network(1), {m: v.requires_grad_() for m, v in make_z().items()}
    x = net(joined(z))
    gradients = torch.autograd.grad((x.sign() * x).sum(), list(z.values()))
    norms = torch.stack([(g * v).norm(dim=-1) for g, v in zip(gradients, z.values(), strict=True)], -1)
    logits, share, _ = Attributor().shares(lambda z: net(joined(z)), z)
    torch.testing.assert_close(share, (norms / norms.sum(-1, keepdim=True)).detach())
    assert torch.equal(logits, x)


@pytest.mark.parametrize("output", ["probability", "logit", "centered"])
def test_one_logit_of_zero_has_finite_gradients(output):
    layer = nn.Linear(8, 1).double()
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight.zero_()
        layer.weight[0, 0], layer.weight[0, 5] = 1, -1
    z = make_z()
    z["video"][:, 0] = z["audio"][:, 0]
    value = AttributionRegularizer("4:1", Attributor(output))(lambda z: layer(joined(z)), z)
    value.backward()
    torch.testing.assert_close(value, torch.tensor(0.6).double())
    assert torch.isfinite(layer.weight.grad).all()


def test_a_binary_head_reaches_the_ratio():
    net, z, target = network(1), make_z(64), (torch.arange(64) % 2).double()[:, None]
    optimizer, regularizer = torch.optim.Adam(net.parameters(), 1e-2), AttributionRegularizer("9:1")
    for _ in range(200):
        value = regularizer(lambda z: net(joined(z)), z)
        loss = functional.binary_cross_entropy_with_logits(net(joined(z)), target) + value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert value < 0.05


# Logits for several positions


@every_attributor
def test_logits_of_positions_are_attributed_by_the_sum_of_their_outputs(attributor):
    torch.manual_seed(2)
    out, z = nn.Linear(8, 12).double(), make_z()

    def head(z):
        return out(joined(z).tanh()).view(-1, 4, 3)  # (batch, positions, classes)

    _, share, counted = attributor.shares(head, z)
    assert counted.all()
    inputs = {m: v.clone().requires_grad_() for m, v in z.items()}
    predicted = head(z).argmax(-1)

    def summed(z):
        logits = head(z)
        c = functional.one_hot(predicted, 3).bool()
        if attributor.attribution == "grad_x_input":  # the log-odds, with a constant softmax over the others
            return (logits[c].view(-1, 4) - logits.masked_fill(c, -torch.inf).logsumexp(-1)).sum(-1)
        return logits.log_softmax(-1)[c].view(-1, 4).sum(-1)

    def steady(z):  # captum puts the points of the line into the batch
        c = functional.one_hot(predicted.repeat(len(z["audio"]) // 6, 1), 3).bool()
        return head(z).log_softmax(-1)[c].view(-1, 4).sum(-1)

    if attributor.attribution == "shapley":
        zero = {m: torch.zeros_like(v) for m, v in z.items()}
        full, none = summed(z), summed(zero)
        audio, video = summed({**zero, "audio": z["audio"]}), summed({**zero, "video": z["video"]})
        values = torch.stack([(audio - none + full - video) / 2, (video - none + full - audio) / 2], -1).abs()
    elif attributor.attribution == "grad_x_input":
        found = torch.autograd.grad(summed(inputs).sum(), list(inputs.values()))
        values = magnitudes({m: g * v for (m, v), g in zip(z.items(), found, strict=True)})
    else:
        inputs = tuple(z.values())
        theirs = IntegratedGradients(lambda a, v: steady({"audio": a, "video": v})).attribute(inputs, n_steps=4)
        values = magnitudes(dict(zip(z, theirs, strict=True)))
    torch.testing.assert_close(share, (values / values.sum(-1, keepdim=True)).detach())


def test_one_position_is_the_same_as_none_and_constant_positions_do_not_count():
    net = network()
    plain = outcome(lambda z: net(joined(z)), net.parameters())
    assert_same(plain, outcome(lambda z: net(joined(z)).unsqueeze(1), net.parameters()))
    padded = outcome(lambda z: functional.pad(net(joined(z)).unsqueeze(1), (0, 0, 0, 2)), net.parameters())
    assert_same(plain, padded)


def test_binary_decisions_may_have_positions():
    net = network(4)
    binary = outcome(lambda z: net(joined(z)).unsqueeze(-1), net.parameters())
    two = outcome(lambda z: functional.pad(net(joined(z)).unsqueeze(-1), (1, 0)), net.parameters())
    assert_same(binary, two)


# What a head may return, and how it is called


@dataclass
class Output:
    logits: Tensor
    features: Tensor | None = None


@pytest.mark.parametrize("wrap", [Output, lambda x: {"features": None, "logits": x}], ids=["object", "mapping"])
def test_outputs_with_logits_are_taken(wrap):
    net = network()
    plain = outcome(lambda z: net(joined(z)), net.parameters())
    assert_same(plain, outcome(lambda z: wrap(net(joined(z))), net.parameters()))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: (x, None), r"head must return logits, got a tuple of 2\. Return the logits alone"),
        (lambda x: {"out": x}, "head must return logits, got a mapping of out"),
        (lambda x: None, "head must return logits, got NoneType"),
        (lambda x: x.argmax(-1, keepdim=True), "head must return logits, got torch.int64"),
        (lambda x: x[:, 0], r"head must return logits \(batch, classes\), got \(6,\).*unsqueeze"),
        (lambda x: x.sum(), r"head must return logits .* of the 6 clips of z, got \(\)"),
        (lambda x: x.T, r"head must return logits .* of the 6 clips of z, got \(3, 6\)"),
        (lambda x: x[:, :0], r"head must return logits .*got \(6, 0\)"),
        (lambda x: x.detach(), "head must return logits with a graph to its argument z"),
    ],
)
def test_everything_else_is_refused_by_name(wrap, message):
    net = network()
    for call in (AttributionRegularizer("1:1"), Attributor().shares):
        with pytest.raises(ValueError, match=message) as caught:
            call(lambda z: wrap(net(joined(z))), make_z())
        assert "--" not in str(caught.value)


def test_a_head_under_no_grad_is_refused():
    net = network()
    with pytest.raises(ValueError, match="with a graph to its argument z"):
        AttributionRegularizer("1:1")(torch.no_grad()(lambda z: net(joined(z))), make_z())


class Named(nn.Module):
    """A head whose parameters are the modalities."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, audio, video):
        return self.net(torch.cat([audio, video], -1))


def test_a_head_may_be_called_in_several_ways():
    net, z = network(), make_z()
    present = torch.ones(6, 2, dtype=torch.bool)
    present[0, 1] = False
    seen = []

    def with_present(z, present):
        seen.append(present)
        return net(joined(z))

    def optional(z, *, present=None):
        seen.append(present)
        return net(joined(z))

    plain = outcome(lambda z: net(joined(z)), net.parameters(), present=present)
    for head in (with_present, optional, lambda x, p: net(joined(x)), lambda z, mask=None: net(joined(z))):
        assert_same(plain, outcome(head, net.parameters(), present=present))
    assert len(seen) == 4
    assert all(torch.equal(each, present) for each in seen)
    named = Named()
    for value in (z, tuple(z.values()), list(z.values())):
        assert_same(plain, outcome(named, named.parameters(), z=value, present=present))
    reordered = {"video": z["video"], "audio": z["audio"]}
    swapped = outcome(named, named.parameters(), z=reordered, ratio="1:4")[1]
    torch.testing.assert_close(swapped, outcome(named, named.parameters(), z=z)[1])
    with pytest.raises(ValueError, match=r"head must take z, or z and present, got a function of a, b, c\."):
        AttributionRegularizer("1:1")(lambda a, b, c: net(a), z)
    with pytest.raises(ValueError, match="head must be a function or a module, got str"):
        AttributionRegularizer("1:1")("head", z)


def test_heads_of_this_package_need_no_present():
    from amr.fusion.heads import HeadShape, heads
    from amr.fusion.run_axis.seeds import Draws

    head = heads["gated"](HeadShape({"audio": 5, "video": 3}, 3), Draws([0, 1])).double()
    z = {m: v.expand(2, -1, -1) for m, v in make_z().items()}
    value = AttributionRegularizer("4:1")(head, z)
    assert value.shape == (2,)
    torch.testing.assert_close(value, AttributionRegularizer("4:1")(head, z, torch.ones(2, 6, 2, dtype=torch.bool)))


# What a call must leave as it was


def test_measuring_and_r_leave_buffers_and_mode_of_a_module():
    head, z = Fusion(), make_z()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    for mode in (True, False):
        head.train(mode)
        assert head.norm.training is mode
        for attributor in ATTRIBUTORS:
            attributor.shares(head, z)
            AttributionRegularizer("1:1", attributor)(head, z).backward()
        assert head.norm.training is mode
        assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_copied_buffers_do_not_change_the_gradient():
    ours, theirs = Fusion(), Fusion()
    assert_same(outcome(ours, ours.parameters()), outcome(lambda z: theirs(z), theirs.parameters()))
    assert theirs.norm.num_batches_tracked == 2
    assert ours.norm.num_batches_tracked == 0


def test_wrappers_without_replaceable_buffers_still_work():
    head = Fusion()
    value = AttributionRegularizer("1:1")(nn.DataParallel(head), make_z())
    torch.testing.assert_close(value, AttributionRegularizer("1:1")(Fusion(), make_z()))


# Operations without a second derivative


def attention(x, linear, kernel):
    q, k, v = linear(x).chunk(3, dim=-1)
    if kernel == "fused":
        return functional.scaled_dot_product_attention(q, k, v)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def test_fused_attention_equals_attention_by_hand():
    torch.manual_seed(0)
    linear, out = nn.Linear(8, 24), nn.Linear(8, 3)
    z = {"audio": torch.randn(4, 5, 8), "video": torch.randn(4, 3, 8)}
    results = [
        outcome(
            lambda z, kernel=kernel: out(attention(torch.cat([*z.values()], 1), linear, kernel).mean(1)),
            [*linear.parameters(), *out.parameters()],
            z=z,
        )
        for kernel in ("fused", "by hand")
    ]
    assert_same(*results)


@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_layer_trains(training):
    torch.manual_seed(0)
    layer, out = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.Linear(8, 3)
    layer.train(training)
    z = {"audio": torch.randn(4, 5, 8), "video": torch.randn(4, 3, 8)}
    value = AttributionRegularizer("1:1")(lambda z: out(layer(torch.cat([*z.values()], 1)).mean(1)), z)
    value.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_compiled_heads_equal_uncompiled_ones():
    net, z = network(), make_z()
    compiled = torch.compile(net, backend="aot_eager")
    compiled(joined(z))
    plain = outcome(lambda z: net(joined(z)), net.parameters())
    assert_same(plain, outcome(lambda z: compiled(joined(z)), net.parameters()))
    head = Fusion()
    module = outcome(head, head.parameters())
    assert_same(module, outcome(torch.compile(head, backend="aot_eager"), head.parameters()))


def test_a_compiled_training_step_says_what_to_do():
    net, regularizer = network(), AttributionRegularizer("1:1")
    step = torch.compile(lambda z: regularizer(lambda x: net(joined(x)), z), backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"second derivative.*call R outside of compiled functions"):
        step(make_z())
