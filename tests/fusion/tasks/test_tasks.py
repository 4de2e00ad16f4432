"""Tasks: losses, decisions, scores and what is attributed, against PyTorch, scikit-learn and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score
from torch.nn import functional

from amr.fusion.attribution import AttributionRegularizer, Attributor, shapley_values
from amr.fusion.choices import SCORES, TASKS
from amr.fusion.tasks import tasks
from amr.fusion.tasks.metrics import label_average_precision_values
from amr.fusion.tasks.multiclass import MULTICLASS
from amr.fusion.tasks.multilabel import MULTILABEL
from amr.fusion.tasks.regression import REGRESSION, REGRESSION_L1


def example(task, num_clips=40, seed=0):
    """Outputs and targets with ties and a label that no clip has."""
    draws = np.random.default_rng(seed)
    outputs = torch.from_numpy(np.round(draws.normal(size=(num_clips, 1 if task == "regression" else 5)), 1))
    if task == "multiclass":
        return outputs, torch.from_numpy(draws.integers(4, size=num_clips))
    if task == "multilabel":
        target = torch.from_numpy((draws.random((num_clips, 5)) < [0.3, 0.5, 0.1, 0.0, 0.9]).astype(float))
        return outputs, target
    return outputs, torch.from_numpy(draws.normal(size=num_clips).round(1))


def test_the_names_are_those_of_the_option():
    assert tuple(tasks) == TASKS
    for name, task in tasks.items():
        assert task.name == name
        assert task.score is SCORES[name]
        assert set(task.score.measures) <= set(task.measures(*example(name)))


def test_losses_are_those_of_pytorch():
    outputs, target = example("multiclass")
    torch.testing.assert_close(MULTICLASS.loss(outputs, target), functional.cross_entropy(outputs, target))
    weights = MULTICLASS.balancing_weights(target, 5)
    ours = MULTICLASS.weighted(weights.double()).loss(outputs, target)
    torch.testing.assert_close(ours, functional.cross_entropy(outputs, target, weight=weights.double()))
    outputs, labels = example("multilabel")
    theirs = functional.binary_cross_entropy_with_logits(outputs, labels)
    torch.testing.assert_close(MULTILABEL.loss(outputs, labels), theirs)
    weights = MULTILABEL.balancing_weights(labels, 5)
    ours = MULTILABEL.weighted(weights).loss(outputs, labels)
    torch.testing.assert_close(ours, functional.binary_cross_entropy_with_logits(outputs, labels, pos_weight=weights))
    outputs, numbers = example("regression")
    torch.testing.assert_close(REGRESSION.loss(outputs, numbers), functional.mse_loss(outputs[:, 0], numbers))
    torch.testing.assert_close(REGRESSION_L1.loss(outputs, numbers), functional.l1_loss(outputs[:, 0], numbers))


def test_balanced_classes_have_the_same_part_of_the_loss():
    _, target = example("multiclass")
    weights = MULTICLASS.balancing_weights(target, 5)
    parts = torch.bincount(target, weights[target].double(), 5)
    assert parts[:4].allclose(torch.full((4,), 10 / 4 * 4 * 40 / 50).double())  # n / classes each
    assert weights[4] == 0


def test_scores_are_those_of_scikit_learn():
    outputs, target = example("multiclass")
    found = MULTICLASS.measures(outputs, target)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, outputs.argmax(-1)))
    outputs, labels = example("multilabel")
    found, counted = MULTILABEL.measures(outputs, labels), labels.any(0)
    theirs = average_precision_score(labels[:, counted], outputs[:, counted], average="macro")
    assert found["map"] == pytest.approx(theirs)
    assert found["num_classes_without_clips"] == 1
    chosen = (outputs > 0).double()
    assert found["f1"] == pytest.approx(f1_score(labels, chosen, average="macro", zero_division=0))
    assert found["accuracy"] == pytest.approx(float((chosen == labels).all(-1).double().mean()))
    outputs, numbers = example("regression")
    found = REGRESSION.measures(outputs, numbers)
    assert found["mae"] == pytest.approx(float((outputs[:, 0] - numbers).abs().mean()))
    assert found["pearson"] == pytest.approx(pearsonr(outputs[:, 0], numbers).statistic)
    signed = numbers != 0
    signs = [(x[signed] > 0).numpy() for x in (numbers, outputs[:, 0])]
    assert found["acc2"] == pytest.approx(np.mean(np.equal(*signs)))
    assert found["f1"] == pytest.approx(f1_score(*signs, average="weighted"))
    assert found["acc7"] == pytest.approx(
        float((outputs[:, 0].clamp(-3, 3).round() == numbers.round()).double().mean())
    )


def test_sentiment_scores_are_of_targets_with_that_scale():
    found = REGRESSION.measures(torch.tensor([[1.0], [9.0]]), torch.tensor([2.0, 8.0]))
    assert (found["acc7"], found["acc2"], found["f1"]) == (None, None, None)
    assert REGRESSION.measures(torch.tensor([[1.0], [1.0]]), torch.tensor([1.0, 2.0]))["pearson"] is None


@pytest.mark.parametrize("task", TASKS)
def test_the_mean_of_the_values_is_the_gain_also_of_several_runs(task):
    outputs, target = example(task)
    runs = torch.stack([outputs, outputs.flip(0), outputs * 0.1])
    gains, values = tasks[task].gain(runs, target), tasks[task].values(runs, target)
    assert values.shape == (3, 40)
    torch.testing.assert_close(values.mean(-1), gains.to(values))
    for run, gain in zip(runs, gains, strict=True):
        measures = tasks[task].measures(run, target)
        assert SCORES[task].gain(measures[SCORES[task].name]) == pytest.approx(float(gain))


def test_values_of_average_precision_are_its_derivative_by_clip_weights():
    outputs, labels = example("multilabel")
    counted = labels.any(0).numpy()

    def weighted(weights):
        each = [
            average_precision_score(labels[:, c], outputs[:, c], sample_weight=weights) for c in np.flatnonzero(counted)
        ]
        return np.mean(each)

    values = label_average_precision_values(outputs, labels).numpy()
    step, ones = 1e-6, np.ones(40)
    for i in (0, 7, 39):
        moved = ones + step * np.eye(40)[i]
        derivative = (weighted(moved) - weighted(ones)) / step
        assert values[i] == pytest.approx(weighted(ones) + 40 * derivative, abs=1e-4)
    draws = np.random.default_rng(1)
    many = draws.multinomial(400, np.full(400, 1 / 400), size=3)
    outputs, labels = example("multilabel", 400)
    counted = labels.any(0).numpy()
    values = label_average_precision_values(outputs, labels).numpy()
    for weights in many:  # a resample moves the score by some .03
        assert weights @ values / 400 == pytest.approx(weighted(weights), abs=0.01)


def test_what_is_attributed():
    outputs = torch.tensor([[1.0, -2.0, 0.5], [-1.0, -0.2, -3.0]])
    assert MULTILABEL.cotangent(outputs, "probability").tolist() == [[1, 0, 1], [0, 1, 0]]
    decided = MULTILABEL.decided_outputs(outputs)
    assert MULTILABEL.attributed_value(outputs, decided, "probability").tolist() == pytest.approx([1.5, -0.2])
    assert REGRESSION.cotangent(outputs[:, :1], "probability").tolist() == [[1], [1]]
    others = torch.tensor([[0.0, -2.0, 2.0], [1.0, 1.0, 1.0]])
    expected = [
        np.mean([jensenshannon([1 - p, p], [1 - q, q]) ** 2 for p, q in zip(*pair, strict=True)])
        for pair in zip(outputs.sigmoid().numpy(), others.sigmoid().numpy(), strict=True)
    ]
    assert MULTILABEL.divergence(outputs, others).tolist() == pytest.approx(expected, abs=1e-6)
    assert REGRESSION.divergence(outputs[:, :1], others[:, :1]).tolist() == [1, 4]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
@pytest.mark.parametrize("attribution", ["grad_x_input", "integrated_gradients", "shapley", "permutation"])
def test_shares_of_a_linear_head_are_those_by_hand(task, attribution):
    draws = torch.Generator().manual_seed(0)
    z = {m: torch.randn(6, dim, generator=draws, dtype=torch.float64) for m, dim in (("a", 3), ("b", 2))}
    weight = torch.randn(5, 1 if task == "regression" else 4, generator=draws, dtype=torch.float64, requires_grad=True)
    parts = {"a": weight[:3], "b": weight[3:]}

    def head(z):
        return sum(z[m] @ parts[m] for m in z)

    attributor = Attributor(attribution=attribution, task=task)
    partners = torch.arange(6).roll(1)
    logits, share, counted = attributor.shares(head, z, partners=partners)
    decided = tasks[task].decided_outputs(logits)
    if attribution == "permutation":
        others = [head({**z, m: z[m][partners]}) for m in z]
        sizes = [tasks[task].divergence(logits, other) for other in others]
    elif attribution == "shapley":
        sizes = [(z[m] @ parts[m] * decided).sum(-1).abs() for m in z]
    else:
        sizes = [(decided @ parts[m].T * z[m]).norm(dim=-1) for m in z]
    expected = torch.stack(sizes, -1).detach()
    if attribution != "permutation":
        expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(share, expected)
    assert counted.all()
    AttributionRegularizer("1:1", attributor)(head, z).backward()
    assert weight.grad.abs().sum() > 0


def test_shapley_values_sum_to_the_attributed_value():
    z = {"a": torch.randn(4, 2), "b": torch.randn(4, 3)}
    weight = {"a": torch.randn(2, 3), "b": torch.randn(3, 3)}
    logits, phi = shapley_values(
        lambda z, present: sum(z[m] @ weight[m] for m in z).tanh(),
        z,
        torch.ones(4, 2, dtype=torch.bool),
        task=MULTILABEL,
    )
    value = MULTILABEL.attributed_value(logits, MULTILABEL.decided_outputs(logits), "probability")
    torch.testing.assert_close(phi.sum(-1), value)


def test_decisions_in_words_are_those_of_decide():
    names = ("a", "b", "c", "d", "e")
    outputs, _ = example("multiclass")
    for row, best in zip(outputs, MULTICLASS.decide(outputs), strict=True):
        decision = MULTICLASS.decision(MULTICLASS.readable(row), names)
        assert decision.text == names[best]
        assert decision.probability == decision.probabilities[decision.text] == pytest.approx(row.softmax(-1).max())
    outputs, _ = example("multilabel")  # some outputs are exactly 0: a probability of one half is not above it
    assert (outputs == 0).any()
    for row, decided in zip(outputs, MULTILABEL.decide(outputs), strict=True):
        decision = MULTILABEL.decision(MULTILABEL.readable(row), names)
        assert decision.labels == tuple(name for name, is_in in zip(names, decided, strict=True) if is_in)
        assert decision.text == ";".join(decision.labels)
        assert decision.probability is None
        np.testing.assert_allclose([*decision.probabilities.values()], torch.special.expit(row))
    decision = REGRESSION.decision(REGRESSION.readable(torch.tensor([1.23456789])), ("score",))
    assert (decision.text, decision.value) == ("1.23457", pytest.approx(1.23456789))


def test_what_is_true_is_named_and_unknown_targets_are_not():
    assert MULTICLASS.truth(np.int64(1), ("a", "b")).text == "b"
    assert MULTICLASS.truth(np.int64(-1), ("a", "b")) is None
    assert MULTILABEL.truth(np.array([1.0, 0.0, 1.0]), ("a", "b", "c")).labels == ("a", "c")
    assert MULTILABEL.truth(np.zeros(2), ("a", "b")).text == ""
    assert MULTILABEL.truth(np.full(2, np.nan), ("a", "b")) is None
    assert REGRESSION.truth(np.float32(-0.57), ("score",)).value == -0.57  # not -0.5699999928474426
    assert REGRESSION.truth(np.float32("nan"), ("score",)) is None


def test_outputs_that_a_task_does_not_have_are_refused():
    with pytest.raises(ValueError, match="output must be probability or logit for multilabel, got centered"):
        Attributor(output="centered", task="multilabel")
    with pytest.raises(ValueError, match="Did you mean regression"):
        Attributor(task="regresion")
