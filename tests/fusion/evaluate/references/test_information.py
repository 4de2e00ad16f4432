import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from amr.fusion.evaluate.references.information import Information, temperature

from .conftest import alone_logits, joint_logits, log_softmax, make_compared


def nll(logits, target):
    return -log_softmax(logits)[np.arange(len(target)), target].mean()


def best_temperature(logits, target):
    found = minimize_scalar(
        lambda log_t: nll(logits / np.exp(log_t), target),
        bounds=np.log([0.1, 10]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return np.exp(found.x)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_the_temperature_minimizes_the_nll(seed, scale):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, 40)
    logits = scale * (np.eye(4)[target] + rng.normal(size=(2, 40, 4)))
    found = temperature(torch.tensor(logits), torch.tensor(target)).numpy()
    for run in range(2):
        assert (
            nll(logits[run] / found[run], target)
            <= nll(logits[run] / best_temperature(logits[run], target), target) + 1e-9
        )
        assert 0.1 - 1e-9 <= found[run] <= 10 + 1e-9


def test_information_is_entropy_minus_nll_in_bits(compared):
    fold = compared.reference.fold
    complete, complete_val = (clips.present.all(-1).numpy() for clips in (fold.test, fold.val))
    target, val_target = fold.test.target.numpy()[complete], fold.val.target.numpy()[complete_val]
    p = np.bincount(target) / len(target)
    entropy = -(p * np.log2(p)).sum()
    values = Information().per_clip(compared)
    means = {name: np.nanmean(value.numpy(), axis=1) for name, value in values.items()}
    assert means["information", "label"] == pytest.approx([entropy] * 3)
    assert (np.isnan(values["information", "joint"].numpy()) == ~complete).all()

    def expected(logits_of):
        logits, of_val = logits_of(fold.test)[:, complete], logits_of(fold.val)[:, complete_val]
        return [
            entropy - nll(of_run / best_temperature(val_of_run, val_target), target) / np.log(2)
            for of_run, val_of_run in zip(logits, of_val, strict=True)
        ]

    joint = np.array(expected(lambda clips: joint_logits(compared.model, clips)))
    alone = np.array([expected(lambda clips, m=m: alone_logits(compared, m, clips)) for m in compared.modalities])
    assert means["information", "joint"] == pytest.approx(joint, abs=1e-5)
    derived = Information().derived(means, compared.modalities)
    for i, m in enumerate(compared.modalities):
        assert means["information", "unimodal", m] == pytest.approx(alone[i], abs=1e-5)
    found = np.maximum(alone, 0)  # a head that is worse than guessing has found nothing
    assert derived["information", "redundancy"] == pytest.approx(found.min(0), abs=1e-5)
    assert derived["information", "synergy"] == pytest.approx(joint - found.max(0), abs=1e-5)
    for i, m in enumerate(compared.modalities):
        assert derived["information", "unique", m] == pytest.approx(found[i] - found.min(0), abs=1e-5)


def test_the_parts_of_two_modalities_add_up_to_the_information_of_the_head():
    compared = make_compared({"audio": 5, "video": 4})
    means = {name: np.nanmean(value.numpy(), axis=1) for name, value in Information().per_clip(compared).items()}
    parts = Information().derived(means, compared.modalities)
    assert sum(parts.values()) == pytest.approx(means["information", "joint"])


def test_without_val_clips_the_temperature_is_one():
    assert temperature(torch.zeros(2, 0, 3), torch.zeros(0, dtype=torch.long)).tolist() == [1, 1]
    subject = make_compared({"audio": 5, "video": 4}, num_val=0, gaps=False)
    target = subject.clips.target.numpy()
    joint = Information().per_clip(subject)["information", "joint"].double().numpy().mean(1)
    p = np.bincount(target) / len(target)
    for run, logits in enumerate(joint_logits(subject.model, subject.clips)):
        assert joint[run] == pytest.approx(-(p * np.log2(p)).sum() - nll(logits, target) / np.log(2), abs=1e-5)


def test_a_head_that_knows_nothing_has_no_information_and_one_that_knows_all_has_the_entropy():
    subject = make_compared({"audio": 5, "video": 4}, gaps=False)
    clips = subject.clips
    with torch.no_grad():
        for parameter in subject.reference.model.head.classifiers["video"].parameters():
            parameter.zero_()  # even classes: -log2 of 1/3, the class frequencies of these clips
    values = Information().per_clip(subject)
    frequencies = np.bincount(clips.target.numpy()) / len(clips)
    expected = -(frequencies * np.log2(frequencies)).sum() - np.log2(3)
    assert values["information", "unimodal", "video"].mean(1).numpy() == pytest.approx([expected] * 3, abs=1e-6)
    assert abs(expected) < 1e-3
