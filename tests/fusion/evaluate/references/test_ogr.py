import numpy as np
import pytest

from amr.fusion.evaluate.references.ogr import LEAST_GENERALIZATION, Ogr

from .conftest import SEEDS, alone_logits, joint_logits, log_softmax, make_compared


def loss(logits, clips, valid=slice(None)):
    target = clips.target.numpy()[valid]
    return np.array([-log_softmax(of_run[valid])[np.arange(len(target)), target].mean() for of_run in logits])


def means_of(subject):
    found = Ogr().per_clip(subject)
    for values in found.values():
        assert values.shape == (3, len(subject.clips))
        assert (values.isnan() | (values == values[:, :1])).all()
    return {name: values[:, 0].double().numpy() for name, values in found.items()}


def test_it_is_that_of_losses_by_hand(compared):
    fold = compared.reference.fold
    means = means_of(compared)
    before, after = [], []
    for clips in (fold.train, fold.val):
        before.append(loss(joint_logits(compared.reference.initial.own, clips)[list(SEEDS)], clips))
        after.append(loss(joint_logits(compared.model, clips), clips))
    generalization = before[1] - after[1]
    overfitting = (after[1] - after[0]) - (before[1] - before[0])
    assert means["generalization", "joint"] == pytest.approx(generalization, abs=1e-5)
    assert means["overfitting", "joint"] == pytest.approx(overfitting, abs=1e-5)
    ogr = Ogr().derived(means, compared.modalities)["ogr", "joint"]
    assert ogr == pytest.approx(overfitting / np.abs(generalization), abs=1e-4)
    for i, m in enumerate(compared.modalities):
        after = [
            loss(alone_logits(compared, m, clips), clips, clips.present[:, i].numpy())
            for clips in (fold.train, fold.val)
        ]
        classifier = compared.reference.initial.alone[m].head.classifier
        weight, bias = (p.detach().double().numpy()[list(SEEDS)] for p in (classifier.weight, classifier.bias))
        before = []
        for clips in (fold.train, fold.val):
            x = clips.embeddings[m].double().numpy()
            logits = np.stack([x @ w.T + b for w, b in zip(weight, bias, strict=True)])
            before.append(loss(logits, clips, clips.present[:, i].numpy()))
        assert means["generalization", "unimodal", m] == pytest.approx(before[1] - after[1], abs=1e-5)
        expected = (after[1] - after[0]) - (before[1] - before[0])
        assert means["overfitting", "unimodal", m] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("adapter", ["none", "mlp"])
def test_heads_that_did_not_learn_are_at_their_initial_weights_and_have_no_ogr(adapter):
    subject = make_compared({"audio": 5, "video": 4}, adapter=adapter, lr=1e-12, weight_decay=0.0)
    means = means_of(subject)
    for value in means.values():
        assert value == pytest.approx(np.zeros(3), abs=1e-6)
    for value in Ogr().derived(means, subject.modalities).values():
        assert np.isnan(value).all()


def test_without_val_clips_there_is_none():
    means = means_of(make_compared({"audio": 5, "video": 4}, num_val=0))
    assert all(np.isnan(value).all() for value in means.values())


def test_it_is_a_ratio_by_the_size_of_the_change():
    means = {("overfitting", "joint"): np.array([0.3, 0.3, 0.3])}
    means["generalization", "joint"] = np.array([0.6, -0.6, LEAST_GENERALIZATION / 2])
    assert Ogr().derived(means, [])["ogr", "joint"] == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)
