"""Checks of every registered measure, those of other people's files included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.measures import measures, measures_for
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.report.tables import measure_words
from amr.fusion.run_axis.seeds import generator

from ..conftest import make_subject, run_alone

every_measure = pytest.mark.parametrize("name", list(measures))
DIMS = {"audio": 5, "video": 4}


def all_per_clip(subject):
    return {k: v for measure in measures_for(len(subject.modalities)) for k, v in measure.per_clip(subject).items()}


def means_of(subject):
    per = all_per_clip(subject)
    return {name: value.double().nanmean(1).numpy() for name, value in per.items()}


@every_measure
def test_it_says_what_it_is_and_pages_have_words_for_it(name):
    measure = measures[name]
    assert measure.summary
    assert "\n" not in measure.summary
    assert measure.words
    subject = make_subject(DIMS)
    for flat in measure().per_clip(subject):
        assert "_" not in measure_words(".".join(flat)).replace("grad_x_input", "")


@every_measure
def test_values_are_one_per_run_and_clip(name):
    for dims in (DIMS, {"audio": 5}, {"a": 3, "b": 4, "c": 2}):
        subject = make_subject(dims)
        if len(dims) < measures[name].least_modalities:
            continue
        for flat, values in measures[name]().per_clip(subject).items():
            assert all(isinstance(part, str) and "." not in part for part in flat[:-1])
            assert values.shape == (3, 30)
            assert values.device.type == "cpu"
        for confidence, correct in measures[name]().reliability(subject).values():
            assert confidence.shape == correct.shape
            assert confidence.shape[:2] == (3, 30)


@every_measure
def test_values_of_steps_are_one_per_run_and_clip(name):
    subject = make_subject(DIMS, head="attention", hidden=8)
    num_steps = torch.randint(1, 7, (30, 1), generator=generator(0, "steps"))
    steps = (torch.arange(6) < num_steps).unsqueeze(-1).float()
    clips = Clips(
        {m: e.unsqueeze(1) * steps for m, e in subject.clips.embeddings.items()},
        subject.clips.present,
        subject.clips.target,
    )
    subject = Subject(subject.model, clips, *train_statistics(clips), seed=0, noise_draws=2)
    for values in measures[name]().per_clip(subject).values():
        assert values.shape == (3, 30)
        assert values.nanmean().isfinite()


@every_measure
def test_run_i_of_a_group_is_the_run_alone(name):
    subject = make_subject(DIMS)
    group = measures[name]().per_clip(subject)
    for run in range(3):
        for flat, values in measures[name]().per_clip(run_alone(subject, run)).items():
            torch.testing.assert_close(values[0], group[flat][run], equal_nan=True)


@every_measure
def test_what_is_derived_has_one_value_per_run(name):
    subject = make_subject(DIMS)
    for flat, values in measures[name]().derived(means_of(subject), subject.modalities).items():
        assert isinstance(flat, tuple)
        assert np.asarray(values).shape == (3,)


def test_no_two_measures_have_a_name_in_common():
    subject = make_subject(DIMS)
    means = means_of(subject)
    names = []
    for m in measures_for(2):
        names += {*m.per_clip(subject), *m.derived(means, subject.modalities), *m.reliability(subject)}
    assert len(names) == len(set(names))
