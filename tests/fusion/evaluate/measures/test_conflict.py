from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.conflict import NUM_DRAWS, derived, of_another_class, per_clip, prefix
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.run_axis.seeds import generator

from ..conftest import answer, clip, make_subject


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30).filter(lambda classes: len(set(classes)) > 1))
def test_the_other_clip_is_of_another_class(classes):
    target = torch.tensor(classes)
    other = of_another_class(target, generator(0, "test"))
    assert (target[other] != target).all()


def test_clips_of_other_classes_are_equally_likely():
    target = torch.tensor([0, 1, 0, 2])
    draws = generator(0, "test")
    counts = torch.zeros(4, 4)
    for _ in range(3000):
        counts[torch.arange(4), of_another_class(target, draws)] += 1
    expected = torch.tensor([[0, 0.5, 0, 0.5], [1 / 3, 0, 1 / 3, 1 / 3], [0, 0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3, 0]])
    torch.testing.assert_close(counts / 3000, expected, atol=0.04, rtol=0)


def test_the_followed_modality_agrees_with_a_literal_loop(subject):
    result = per_clip(subject)
    for pair in combinations(subject.modalities, 2):
        columns = [subject.modalities.index(m) for m in pair]
        rows = subject.clips.present[:, columns].all(-1).nonzero().flatten().tolist()
        target = subject.clips.target[rows]
        draws = generator(0, "conflict")
        partners = [of_another_class(target, draws).tolist() for _ in range(NUM_DRAWS)]
        name = prefix(pair, subject.modalities)
        for run in range(3):
            counts = dict.fromkeys((*pair, "neither"), 0)
            for position, i in enumerate(rows):
                for partner in partners:
                    j = rows[partner[position]]
                    parts = {m: np.zeros_like(e) for m, e in clip(subject, i).items()}
                    parts |= {pair[0]: clip(subject, i)[pair[0]], pair[1]: clip(subject, j)[pair[1]]}
                    given_answer = answer(subject, run, parts)
                    followed = {int(subject.clips.target[i]): pair[0], int(subject.clips.target[j]): pair[1]}
                    counts[followed.get(given_answer, "neither")] += 1
            for modality, count in counts.items():
                values = result[(*name, modality)][run].numpy()
                assert np.nanmean(values) == pytest.approx(count / len(rows) / NUM_DRAWS, abs=1e-6)
                assert (~np.isnan(values)).nonzero()[0].tolist() == rows


def test_one_class_is_no_conflict():
    subject = make_subject({"audio": 5, "video": 4})
    clips = Clips(subject.clips.embeddings, subject.clips.present, torch.zeros_like(subject.clips.target))
    result = per_clip(Subject(subject.model, clips, subject.mean, subject.std))
    assert all(values.isnan().all() for values in result.values())


def test_balance_is_one_if_both_are_followed_equally_and_zero_if_only_one_is():
    means = {("conflict", "a"): np.array([0.3, 0.6, 0.0]), ("conflict", "b"): np.array([0.3, 0.0, 0.0])}
    balance = derived(means, ["a", "b"])["conflict", "balance"]
    np.testing.assert_allclose(balance, [1, 0, np.nan])
