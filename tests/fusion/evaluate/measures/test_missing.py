from itertools import chain, combinations
from math import factorial

import numpy as np
import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.evaluate.measures.missing import BASELINES, derived, of_baseline, per_clip
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.measure import measure

from ..conftest import answer, clip, make_subject, swapped


def means_of(subject):
    """Name to `(run,)`: the accuracies and the values derived from them."""
    per = per_clip(subject) | {("accuracy",): subject.correct(subject.clips).float()}
    means = {name: value.double().mean(-1).numpy() for name, value in per.items()}
    return means | derived(means, subject.modalities)


def literal_accuracy(subject, run, selected, baseline):
    draws = generator(0, "permutations")
    orders = [torch.randperm(len(subject.clips), generator=draws).tolist() for _ in range(10)]
    right = []
    for i in range(len(subject.clips)):
        for order in orders if baseline == "permutation" else [None]:
            parts = clip(subject, i)
            for column, m in enumerate(subject.modalities):
                if m in selected:
                    continue
                if baseline == "permutation":
                    parts[m] = clip(subject, order[i])[m]
                elif baseline == "mean" and subject.clips.present[i, column]:
                    parts[m] = subject.mean[m].double().numpy()
                else:
                    parts[m] = np.zeros_like(parts[m])
            right.append(answer(subject, run, parts) == int(subject.clips.target[i]))
    return np.mean(right)


def proper_subsets(names):
    return list(chain.from_iterable(combinations(names, size) for size in range(len(names))))


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_subset_agrees_with_a_literal_loop(subject, baseline):
    means = means_of(subject)
    for selected in proper_subsets(subject.modalities):
        name = ("missing", baseline, "+".join(selected)) if selected else ("nothing", baseline)
        for run in range(3):
            assert means[name][run] == pytest.approx(literal_accuracy(subject, run, selected, baseline), abs=1e-6), name


@pytest.mark.parametrize("baseline", BASELINES)
def test_shapley_values_agree_with_the_definition_and_sum_to_the_total_gain(subject, baseline):
    means = means_of(subject)
    names, count = subject.modalities, len(subject.modalities)

    def v(included):
        ordered = [m for m in names if m in included]
        return means[("missing", baseline, "+".join(ordered)) if ordered else ("nothing", baseline)]

    total = 0
    for m in names:
        phi = 0
        rest = [other for other in names if other != m]
        for included in [*proper_subsets(rest), tuple(rest)]:
            weight = factorial(len(included)) * factorial(count - len(included) - 1) / factorial(count)
            phi = phi + weight * (v({*included, m}) - v(included))
        np.testing.assert_allclose(means[("shapley", baseline, m)], phi, atol=1e-9)
        total = total + phi
    np.testing.assert_allclose(total, v(names) - v(()), atol=1e-9)
    shares = np.array([means[("shapley_share", baseline, m)] for m in names])
    np.testing.assert_allclose(shares.sum(0)[total > 0], 1)
    assert np.isnan(shares[:, total <= 0]).all()
    worst = min((v(included) for included in proper_subsets(names)[1:]), key=lambda value: value[0])[0]
    assert means[("full_minus_worst", baseline)][0] == pytest.approx(max(v(names)[0] - worst, 0))


def test_perceptual_scores_agree_with_those_of_a_fit(subject):
    means = means_of(subject)
    for run, measures in enumerate(measure(subject.model, subject.clips, Attributor())):
        for m in subject.modalities:
            assert means[("perceptual", m)][run] == pytest.approx(measures["perceptual"][m], abs=1e-6)


def test_the_order_of_the_modalities_does_not_matter():
    subject = make_subject({"audio": 5, "video": 4})
    means, other = means_of(subject), means_of(swapped(subject))
    for name, values in means.items():
        if name[-1] == "audio+video":
            other_name = (*name[:-1], "video+audio")
            np.testing.assert_allclose(other[other_name], values)
        else:
            np.testing.assert_allclose(other[name], values, err_msg=str(name))


@pytest.mark.parametrize("baseline", BASELINES)
def test_one_baseline_alone_is_that_part_of_all(subject, baseline):
    everything = per_clip(subject)
    part = of_baseline(subject, baseline)
    assert set(part) == {name for name in everything if name[1] == baseline}
    assert all(torch.equal(values, everything[name]) for name, values in part.items())


def test_utilization_is_the_part_of_the_accuracy_that_goes_with_the_modality(subject):
    means = means_of(subject)
    full = np.where(means[("accuracy",)] > 0, means[("accuracy",)], np.nan)
    for m in subject.modalities:
        rest = "+".join(other for other in subject.modalities if other != m)
        np.testing.assert_allclose(means["utilization", m], 1 - means["missing", "mean", rest] / full)
        if len(subject.modalities) == 2:
            np.testing.assert_allclose(means["utilization", m], 1 - means["alone", rest] / full)
