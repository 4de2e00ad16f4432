"""z and present as callers pass them."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer

torch.manual_seed(0)
layer = nn.Linear(8, 3)
z = {"audio": torch.randn(6, 5), "video": torch.randn(6, 3)}


def head(z):
    return layer(torch.cat([z["audio"], z["video"]], -1))


@pytest.fixture(params=[AttributionRegularizer("1:1"), Attributor().shares], ids=["R", "shares"])
def call(request):
    """The two ways to measure."""
    return request.param


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pack_padded_sequence(torch.randn(3, 4, 5), [4, 3, 2], batch_first=True), "a PackedSequence.*Pad sequences"),
        (None, "got None"),
        ([torch.randn(6, 3)], "got a list"),
        (np.ones((6, 3)), "got a ndarray"),
        (torch.ones(6, 3, dtype=torch.long), "must be floating-point numbers, got torch.int64"),
        (torch.ones(6, 3, dtype=torch.complex64), "must be floating-point numbers"),
        (torch.eye(6, 3).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(6), r"must be \(batch, ..., dim\), got \(6,\)"),
        (torch.full((6, 3), torch.nan), "must be finite, got NaN"),
        (torch.full((6, 3), torch.inf), "must be finite, got NaN or infinity"),
    ],
)
@pytest.mark.parametrize("order", [("audio", "video"), ("video", "audio")])
def test_a_value_that_is_no_encoding_is_refused_by_its_name(call, value, message, order):
    wrong = {**z, "video": value}
    with pytest.raises(ValueError, match=r"z\['video'\] .*" + message) as caught:
        call(head, {m: wrong[m] for m in order})
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.randn(2, 6, 3), "z must be a mapping from modality, or a tuple of tensors, got a Tensor"),
        ("audio", "got a str"),
        (None, "got None"),
        ({}, "z must have at least one modality, got none"),
    ],
)
def test_z_of_another_kind_is_refused(call, wrong, message):
    with pytest.raises(ValueError, match=message):
        call(head, wrong)


def test_any_mapping_will_do(call):
    class Output(OrderedDict):
        """As the outputs of transformers."""

    expected, ours = call(head, z), call(head, Output(z))
    assert torch.equal(expected, ours) if isinstance(expected, torch.Tensor) else torch.equal(expected[1], ours[1])


@pytest.mark.parametrize("shape", [(8, 3), (1, 3), (0, 3), (12, 3)])
def test_clips_that_do_not_match_are_refused(call, shape):
    with pytest.raises(ValueError, match=r"z must have the same clips .*audio \(6, 5\), video"):
        call(lambda z: layer(torch.cat([z["audio"], z["video"].expand(6, 3)], -1)), {**z, "video": torch.ones(shape)})


@pytest.mark.parametrize(
    "present",
    [
        np.array([[True, True]] * 5 + [[True, False]]),
        np.array([[1.0, 1.0]] * 5 + [[1.0, 0.0]]),
        torch.tensor([[1.0, 1.0]] * 5 + [[1.0, 0.0]]),
        torch.tensor([[1, 1]] * 5 + [[1, 0]]),
        [[True, True]] * 5 + [[True, False]],
    ],
    ids=["numpy", "numpy float", "float", "int", "list"],
)
def test_present_may_be_any_array_of_yes_and_no(present):
    wanted = torch.tensor([[True, True]] * 5 + [[True, False]])
    assert torch.equal(AttributionRegularizer("4:1")(head, z, present), AttributionRegularizer("4:1")(head, z, wanted))
    assert Attributor().shares(head, z, present)[2].tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (np.full((6, 2), 0.5), "present must be True or False|present must hold True and False"),
        (np.ones((6, 3)), r"present must be bool .*here \(6, 2\), got \(6, 3\)\. Its columns are audio, video"),
        (np.ones(6), r"got \(6,\)"),
        (np.ones((5, 2)), r"z must have the same clips in every modality and in present \(5, 2\)"),
        ("yes", "present must be bool .*got a str"),
        ({"audio": True}, "present must be bool .*got a dict"),
    ],
)
def test_other_presence_is_refused(call, present, message):
    with pytest.raises(ValueError, match=message):
        call(head, z, present)


IGNORING = {
    "one modality": lambda x: layer(torch.cat([x["audio"], z["video"]], -1)),
    "detached": lambda x: layer(torch.cat([x["audio"], x["video"].detach()], -1)),
}


@pytest.mark.parametrize("ignoring", list(IGNORING))
def test_a_head_that_ignores_a_modality_is_named(call, ignoring):
    with pytest.warns(UserWarning, match="video has no part in any decision"):
        call(IGNORING[ignoring], z)


def test_a_head_that_ignores_all_of_z_is_refused(call):
    with pytest.raises(ValueError, match="head must compute its logits from its argument z"):
        call(lambda _: head(z), z)


def test_encodings_of_zeros_are_named_unless_they_are_absent(call):
    dropped = {**z, "video": torch.zeros(6, 3)}
    with pytest.warns(UserWarning, match="video has no part.*mark it absent"):
        call(head, dropped)
    with pytest.warns(UserWarning, match="no clip has a share"):
        call(head, {m: torch.zeros_like(v) for m, v in z.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(head, z)
        call(head, dropped, torch.tensor([[True, False]] * 6))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_r_has_its_gradient_under(context):
    regularizer = AttributionRegularizer("4:1")
    (expected,) = torch.autograd.grad(regularizer(head, z), layer.weight)
    with context():
        value = regularizer(head, {m: v.clone() for m, v in z.items()})  # under inference_mode, inference tensors
        share = Attributor().shares(head, {m: v.clone() for m, v in z.items()})[1]
    assert value.requires_grad
    assert not share.requires_grad
    torch.testing.assert_close(torch.autograd.grad(value, layer.weight)[0], expected)


def test_an_empty_batch_has_r_0(call):
    value = call(head, {m: v[:0] for m, v in z.items()})
    assert (value if isinstance(value, torch.Tensor) else value[1].sum()) == 0
