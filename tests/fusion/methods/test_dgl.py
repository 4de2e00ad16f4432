"""DGL: no gradient of L reaches adapters, none of L_m the head, and each is the right one."""

from dataclasses import replace

import pytest
import torch

from amr.fusion.balance import dgl_loss, modality_losses, unimodal_logits
from amr.fusion.methods.dgl import DGLOptions

from ..conftest import make_clips
from .conftest import batch_of, build, gradients, with_gaps

HEADS = [("concat", 0), ("concat", 4), ("gated", 4), ("attention", 8)]


def both_losses(model, batch):
    """L and the sum of L_m with their whole graph."""
    z = model.encode(batch)
    task_loss = torch.nn.functional.cross_entropy(
        model.head(z, batch.present).movedim(-1, 1), batch.target, reduction="none"
    ).mean(-1)
    return task_loss, modality_losses(unimodal_logits(model.head, z, batch.present), batch.target, batch.present).sum(0)


@pytest.mark.parametrize(("head", "hidden"), HEADS)
def test_the_head_feels_the_joint_loss_and_adapters_their_own_alone(head, hidden):
    clips = with_gaps(make_clips(30))
    method, model = build("dgl", clips, options={"alpha": 3.0}, head=head, hidden=hidden)
    model.double()
    batch = batch_of(clips)
    batch = replace(batch, embeddings={m: e.double() for m, e in batch.embeddings.items()})
    loss, found = gradients(method, model, batch)
    joint, own = both_losses(model, batch)
    torch.testing.assert_close(loss, (joint + 3 * own).detach())
    names, parameters = zip(*model.named_parameters(), strict=True)
    of_joint, of_own = (
        torch.autograd.grad(each.sum(), parameters, retain_graph=True, materialize_grads=True) for each in (joint, own)
    )
    for name, by_joint, by_own in zip(names, of_joint, of_own, strict=True):
        adapter = name.startswith("adapters.")
        torch.testing.assert_close(found[name], 3 * by_own if adapter else by_joint, rtol=1e-9, atol=1e-12)
        if adapter:
            assert by_joint.any()  # what was cut


def test_of_a_linear_head_an_adapter_s_gradient_does_not_depend_on_the_other_modality():
    clips = make_clips(30)
    method, model = build("dgl", clips)
    batch = batch_of(clips)
    other = replace(batch, embeddings={**batch.embeddings, "video": torch.randn_like(batch.embeddings["video"])})
    first, second = (gradients(method, model, each)[1] for each in (batch, other))
    for name in first:
        same = torch.allclose(first[name], second[name], rtol=1e-5, atol=1e-7)
        assert same == name.startswith("adapters.audio."), name


def test_z_without_a_graph_trains_the_head_alone_and_no_gradient_mode_gives_the_value():
    clips = make_clips(30)
    _, model = build("dgl", clips)
    batch = batch_of(clips)
    z = {m: value.detach() for m, value in model.encode(batch).items()}
    loss = dgl_loss(model.head, z, batch.target, batch.present)
    assert all(g.any() for g in torch.autograd.grad(loss.sum(), list(model.head.parameters())))
    with torch.no_grad():
        torch.testing.assert_close(dgl_loss(model.head, z, batch.target), loss.detach())


@pytest.mark.parametrize(("clips", "steps"), [(5, 7), (2, 2)])
def test_z_with_steps_needs_no_present(clips, steps):
    z = {"audio": torch.ones(clips, steps, 3), "video": torch.ones(clips, 3)}
    target = torch.arange(clips) % 3

    def head(z, present):
        assert present.shape == (clips, 2)
        return z["audio"].sum(-2) - z["video"]

    expected = dgl_loss(head, z, target, torch.ones(clips, 2, dtype=torch.bool))
    torch.testing.assert_close(dgl_loss(head, z, target), expected)
    assert expected.ndim == 0


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_an_alpha_that_trains_no_adapter_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number above 0"):
        DGLOptions(alpha)
