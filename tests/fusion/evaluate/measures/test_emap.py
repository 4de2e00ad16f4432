from itertools import product

import numpy as np
import pytest
import torch

from amr.fusion.evaluate.measures import emap
from amr.fusion.evaluate.measures.emap import Emap, additive_logits

from ..conftest import logits_of, make_subject, parts_or_none, run_alone

DIMS = {"audio": 5, "video": 4}
THREE = {"a": 5, "b": 4, "c": 3}


def on_every_mix(subject, run):
    """Logits of a run for each choice of a clip per modality, `(clips, ..., clips, classes)`."""
    clips = [parts_or_none(subject, i) for i in range(len(subject.clips))]
    chosen = product(clips, repeat=len(subject.modalities))
    mixes = ({m: parts[m] for m, parts in zip(subject.modalities, each, strict=True)} for each in chosen)
    flat = np.array([logits_of(subject, run, parts) for parts in mixes])
    return flat.reshape(*[len(clips)] * len(subject.modalities), -1)


def draw(num_references, monkeypatch):
    """Let so many clips lend the other modalities."""
    monkeypatch.setattr(emap, "MAX_EXACT", 0)
    monkeypatch.setattr(emap, "NUM_REFERENCES", num_references)


@pytest.mark.parametrize(("head", "hidden"), [("concat", 6), ("gated", 6)])
def test_two_modalities_agree_with_a_literal_loop_over_all_pairs(head, hidden):
    subject = make_subject(DIMS, num_clips=10, head=head, hidden=hidden)
    projected = additive_logits(subject)
    for run in range(3):
        f = on_every_mix(subject, run)
        expected = f.mean(1) + f.mean(0) - f.mean((0, 1))
        np.testing.assert_allclose(projected[run], expected, atol=1e-5)
    right = Emap().per_clip(subject)[("emap",)]
    assert torch.equal(right, (projected.argmax(-1) == subject.clips.target).float())


@pytest.mark.parametrize("dims", [DIMS, THREE], ids=["two", "three"])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize(("head", "hidden"), [("concat", 0), ("sum", 6)])
def test_an_additive_head_is_its_own_projection(dims, drawn, head, hidden, monkeypatch):
    if drawn:
        draw(7, monkeypatch)
    subject = make_subject(dims, head=head, hidden=hidden)
    torch.testing.assert_close(additive_logits(subject), subject.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(Emap().per_clip(subject)[("emap",)], subject.clean.correct)  # without the loop


def test_an_additive_head_gains_exactly_nothing():
    subject = make_subject(THREE)
    per_clip = {("accuracy",): subject.clean.correct} | Emap().per_clip(subject)
    means = {name: values.double().mean(-1).numpy() for name, values in per_clip.items()}
    assert (Emap().derived(means, subject.modalities)[("emap_gap",)] == 0).all()


def test_with_fewer_references_each_mean_is_over_the_drawn_clips(monkeypatch):
    draw(4, monkeypatch)
    subject = make_subject(DIMS, num_clips=9, head="concat", hidden=6)
    drawn = torch.randperm(9, generator=emap.generator(0, "emap"))[:4].tolist()
    f = on_every_mix(subject, 1)
    expected = f[:, drawn].mean(1) + f[drawn].mean(0) - f[np.ix_(drawn, drawn)].mean((0, 1))
    np.testing.assert_allclose(additive_logits(subject)[1], expected, atol=1e-5)


def test_three_modalities_come_close_to_the_first_order_terms_over_all_triples():
    subject = make_subject(THREE, num_clips=12, head="concat", hidden=6, gaps=False)
    f = on_every_mix(subject, 0)
    expected = f.mean((1, 2)) + f.mean((0, 2)) + f.mean((0, 1)) - 2 * f.mean((0, 1, 2))
    projected = additive_logits(subject)[0].double().numpy()
    assert np.abs(projected - expected).max() < 0.2 * np.abs(f.std((0, 1, 2))).mean()
    own = subject.logits[0].double().numpy()
    assert ((projected - expected) ** 2).mean() < ((own - expected) ** 2).mean()


def test_run_i_of_a_group_is_the_run_alone_and_chunks_do_not_matter(monkeypatch):
    subject = make_subject(THREE, head="attention", hidden=8)
    group = additive_logits(subject)
    monkeypatch.setattr("amr.fusion.data.clips.CHUNK_NUMBERS", 100)
    for run in range(3):
        torch.testing.assert_close(additive_logits(run_alone(subject, run))[0], group[run], atol=1e-5, rtol=1e-5)
