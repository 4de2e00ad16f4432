from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from amr.fusion.data.clips import Clips
from amr.fusion.evaluate import perturb
from amr.fusion.evaluate.measures.calibration import Calibration
from amr.fusion.evaluate.measures.noise import LEVELS, derived, level_name, per_clip
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.evaluate.scores import Scores, score
from amr.fusion.model import predict_logits
from amr.fusion.run_axis.seeds import generator, normal_chunks

from ..conftest import answer, clip, make_subject


def test_the_curve_agrees_with_a_literal_loop(subject):
    per = per_clip(subject)
    for column, m in enumerate(subject.modalities):
        draws = generator(0, f"noise {m}")
        unit = [torch.randn(subject.clips.embeddings[m].shape, generator=draws) for _ in range(3)]
        for level in LEVELS[1:]:
            for run in range(3):
                right = []
                for i in range(len(subject.clips)):
                    parts = clip(subject, i)
                    for noise in unit:
                        added = level * (noise[i] * subject.std[m]).double().numpy()
                        moved = parts | {m: parts[m] + added * bool(subject.clips.present[i, column])}
                        right.append(answer(subject, run, moved) == int(subject.clips.target[i]))
                assert float(per[level_name(m, level)][run].mean()) == pytest.approx(np.mean(right), abs=1e-6)
        np.testing.assert_allclose(subject.under_noise(m).most.correct.mean(-1), per[level_name(m, 1.0)])


@pytest.mark.parametrize("steps", [False, True])
def test_noise_is_drawn_chunk_by_chunk_to_the_bit_as_at_once(monkeypatch, steps):
    subject = make_subject({"audio": 5, "video": 5}, head="attention" if steps else "concat")
    audio = subject.clips.embeddings["audio"]
    if steps:
        audio = audio[:, None] * torch.tensor([1.0, 2.0, 3.0])[:, None]
        audio[::4, 2:] = 0
    clips = replace(subject.clips, embeddings={**subject.clips.embeddings, "audio": audio})
    subject = replace(subject, clips=clips)
    monkeypatch.setattr("amr.fusion.data.clips.CHUNK_NUMBERS", 400)
    assert len(clips.chunks(subject.num_runs)) > 2
    draws, found = generator(0, "noise audio"), list(subject._under_each_draw("audio"))
    valid = (audio != 0).any(-1, keepdim=True) if steps else clips.present[:, :1]
    for under in found:
        noise = torch.randn(audio.shape, generator=draws) * subject.std["audio"]
        for level in LEVELS[1:]:
            moved = audio + torch.where(valid, level * noise, 0.0)
            whole = replace(clips, embeddings={**clips.embeddings, "audio": moved})
            expected = score(predict_logits(subject.model, whole), clips.target)
            if level < LEVELS[-1]:
                assert torch.equal(under.correct[level], expected.correct)
            else:
                assert all(torch.equal(getattr(under.most, f.name), getattr(expected, f.name)) for f in fields(Scores))
    assert len(found) == subject.noise_draws


def test_noise_is_drawn_once_for_all_measures_and_levels(subject, monkeypatch):
    drawn = []
    monkeypatch.setattr(perturb, "normal_chunks", lambda *given: drawn.append(given) or normal_chunks(*given))
    per_clip(subject)
    Calibration().per_clip(subject)
    Calibration().reliability(subject)
    assert len(drawn) == len(subject.modalities) * subject.noise_draws


def test_noise_scales_with_the_train_deviation(subject):
    """Embeddings ten times as large, and a head that divides by ten: the same answers."""
    wide = Clips({m: 10 * e for m, e in subject.clips.embeddings.items()}, subject.clips.present, subject.clips.target)
    model = subject.model
    scaled = Subject(model, wide, subject.mean, {m: 10 * std for m, std in subject.std.items()}, 0, subject.noise_draws)
    before = per_clip(subject)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        model.load_state_dict(state | {"head.classifier.weight": state["head.classifier.weight"] / 10})
        after = per_clip(scaled)
    finally:
        model.load_state_dict(state)
    for name, values in before.items():
        np.testing.assert_allclose(after[name].mean(), values.mean(), atol=0.02)


def test_robustness_is_the_area_under_the_relative_curve():
    means = {("accuracy",): np.array([0.8, 0.0])}
    means |= {level_name("audio", level): np.array([0.8 - 0.4 * level, 0.0]) for level in LEVELS[1:]}
    result = derived(means, ["audio"])
    assert result["robustness", "audio"][0] == pytest.approx(0.75)
    assert np.isnan(result["robustness", "audio"][1])  # nothing was right, so nothing can be lost
    assert result[level_name("audio", 0.0)][0] == 0.8
