"""D&R: encoders go back by the formula of the paper, at its times, and nothing else does."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler

from amr.fusion.balance import cluster, purity, relearning_weight
from amr.fusion.data.clips import Clips
from amr.fusion.methods.dnr import DNROptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, build, fit_group, with_gaps


def noisy(num_clips, seed):
    """Clips whose classes barely show, so that k-means has something to get wrong."""
    clips = make_clips(num_clips, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    embeddings = {m: e + 2 * torch.randn(e.shape, generator=noise) for m, e in clips.embeddings.items()}
    return Clips(embeddings, clips.present, clips.target)


def moved(model):
    """A model of other weights than its first ones, as after some epochs."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"times": 0}])
def test_without_relearning_it_is_naive_training_bit_for_bit(options):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0), Member(3, HALF, 0.3)]
    settings = {"optimizer": "sgd", "lr": 0.1}
    ours, naive = (
        fit_group(name, members, train, val, o, **settings) for name, o in (("dnr", options), ("naive", None))
    )
    assert_same(ours.model.state_dict(), naive.model.state_dict())


def gap_in_float64(z, target, num_classes):
    """Gap of purity, with scikit-learn's own scaling, from z and targets of train and val."""
    found = []
    for values, classes in zip(z, target, strict=True):
        scaled = MinMaxScaler((-1, 1)).fit_transform(values.double().numpy())
        clusters = KMeans(num_classes, n_init=4, random_state=0).fit_predict(scaled)
        right = [np.bincount(classes[clusters == k]).max() for k in np.unique(clusters)]
        found.append(sum(right) / len(classes))
    return abs(found[0] - found[1])


@pytest.mark.parametrize("swapped", [False, True])
def test_encoders_go_back_by_the_formula_of_the_paper_in_float64(swapped):
    train, val = with_gaps(noisy(60, 2)), with_gaps(noisy(30, 3))
    if swapped:
        train, val = (Clips(dict(reversed(c.embeddings.items())), c.present.flip(-1), c.target) for c in (train, val))
    method, model = build("dnr", train, val, options={"every": 0.25}, epochs=8)
    first, before = {n: v.clone() for n, v in model.state_dict().items()}, moved(model)
    z = [model.encode(clips.slice(0, len(clips), len(SEEDS))) for clips in (train, val)]
    method.begin_epoch(3)
    values = method.epoch_values()
    assert all((values[f"relearned_{m}"] > 0.05).any() for m in model.modalities)
    for i, m in enumerate(model.modalities):
        has = [clips.present[:, i] for clips in (train, val)]
        for run in range(len(SEEDS)):
            of_both = [each[m][run, own].detach() for each, own in zip(z, has, strict=True)]
            targets = [clips.target[own].numpy() for clips, own in zip((train, val), has, strict=True)]
            w = np.tanh(3 * gap_in_float64(of_both, targets, 3))
            assert float(values[f"relearned_{m}"][run]) == pytest.approx(w, abs=1e-6)
            for name in (name for name in before if name.startswith(f"adapters.{m}.")):
                expected = w * first[name][run].double() + (1 - w) * before[name][run].double()
                torch.testing.assert_close(model.state_dict()[name][run].double(), expected, rtol=1e-5, atol=1e-6)
    for name, value in model.state_dict().items():
        assert name.startswith("adapters.") or torch.equal(value, before[name]), name


def test_they_go_back_three_times_and_then_learn_in_peace():
    method, model = build("dnr", noisy(60, 2), noisy(30, 3), epochs=90)
    went = []
    for epoch in range(1, 91):
        before = moved(model)
        method.begin_epoch(epoch)
        if not all(torch.equal(value, before[name]) for name, value in model.state_dict().items()):
            went.append(epoch)
    assert went == [21, 41, 61]  # after 20, 40 and 60 of 90, as in the source
    assert build("dnr", epochs=10)[0].every == 2


def test_a_modality_without_val_clips_stays_as_it_is():
    train, val = noisy(60, 2), noisy(30, 3)
    val.present[:, 1] = False
    method, model = build("dnr", train, val, epochs=9)
    before = moved(model)
    method.begin_epoch(3)
    values = method.epoch_values()
    assert (values["relearned_audio"] > 0).any()
    assert (values["relearned_video"] == 0).all()
    assert torch.equal(model.state_dict()["adapters.video.weight"], before["adapters.video.weight"])


def test_it_needs_val_clips_if_it_ever_acts():
    with pytest.raises(ValueError, match="--method dnr must have val clips, on which"):
        build("dnr", val=make_clips(0), epochs=9)
    build("dnr", val=make_clips(0), epochs=1)
    build("dnr", val=make_clips(0), options={"times": 0}, epochs=9)


def test_purity_and_clusters_of_extreme_clips():
    assert purity(torch.empty(2, 0, dtype=torch.long), torch.empty(2, 0, dtype=torch.long)).tolist() == [0, 0]
    same = torch.ones(4, 3)
    assert cluster(same, 2).tolist() == [0, 0, 0, 0]
    assert cluster(same[:0], 2).tolist() == []
    several = purity(torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([[0, 1, 1], [0, 1, 1]]))
    torch.testing.assert_close(several, torch.tensor([2 / 3, 1.0]))
    gap = torch.tensor([0.2, 0.9])
    assert torch.equal(relearning_weight(gap, gap.flip(0)), relearning_weight(gap.flip(0), gap))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "strength must be a finite number, 0 or more"),
        ({"strength": float("nan")}, "strength must be a finite number, 0 or more"),
        ({"every": 0.0}, "every must be above 0, at most 1"),
        ({"times": -1}, "times must be 0 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        DNROptions(**options)
