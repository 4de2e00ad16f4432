from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from amr.extract.encoders import build_encoder

RATE = 16000


def tone(hz: float, seconds: float = 1.0, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def embed(spec: str, sound: np.ndarray) -> torch.Tensor:
    encoder = build_encoder(spec, "audio")
    (embedding,) = encoder.embed([encoder.prepare(sound)])
    assert embedding.dtype == torch.float32
    assert torch.isfinite(embedding).all()
    assert embedding.shape[-1] == encoder.embed_dim
    assert embedding.ndim == (1 if encoder.max_steps is None else 2)
    return embedding


def test_attributes():
    encoder = build_encoder("logmel,bands=40,steps=5", "anything")
    assert (encoder.modality, encoder.spec, encoder.embed_dim) == ("audio", "logmel,steps=5", 400)
    assert (encoder.max_steps, encoder.weights_sha256, encoder.random_weights) == (None, "", False)
    assert (encoder.prepare.sample_rate_hz, encoder.prepare.sampling) == (16000, None)
    assert encoder.preprocessing["bands"] == 40


def test_flat_concatenates_steps():
    sound = np.concatenate([tone(300), tone(2000)])
    steps = embed("logmel,keep=steps", sound)
    assert steps.shape == (10, 80)
    torch.testing.assert_close(embed("logmel", sound), steps.flatten())


def test_bands_follow_pitch_and_steps_follow_time():
    steps = embed("logmel,stat=mean,keep=steps", np.concatenate([tone(300), tone(3000)]))
    loudest = steps.argmax(1)
    assert (loudest[:5] == loudest[0]).all()
    assert (loudest[6:] == loudest[9]).all()
    assert loudest[0] < loudest[9]


def test_the_mean_over_parts_is_the_mean_over_the_clip():
    sound = np.random.default_rng(0).normal(size=RATE * 2 - 160).astype(np.float32) * 0.1  # 200 windows
    ten = embed("logmel,stat=mean,keep=steps", sound)
    one = embed("logmel,stat=mean,keep=steps,steps=1", sound)
    torch.testing.assert_close(ten.mean(0), one[0], rtol=1e-4, atol=1e-4)


def test_mean_and_deviation_over_the_windows_of_a_step():
    sound = np.random.default_rng(1).normal(size=RATE).astype(np.float32) * 0.1
    windows = embed("logmel,stat=mean,keep=steps,steps=101", sound)  # one step per window
    both = embed("logmel,stat=mean+std,keep=steps,steps=1", sound)[0]
    torch.testing.assert_close(both[:40], windows.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[40:], windows.std(0, correction=0), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 10, 399, 400, 1600])
def test_clips_shorter_than_a_window(samples):
    assert embed("logmel", tone(300)[:samples]).shape == (800,)


def test_silence_is_finite_and_steady():
    steps = embed("logmel,keep=steps", np.zeros(RATE, np.float32))
    assert (steps == steps[0]).all()


def test_no_filter_is_empty():
    noise = np.random.default_rng(2).normal(size=RATE).astype(np.float32) * 0.1
    for bands in (20, 40, 80):
        assert (embed(f"logmel,bands={bands},stat=mean,keep=steps", noise) > -10).all()


def test_prepare_can_be_sent_to_a_worker():
    prepare = build_encoder("logmel", "audio").prepare
    before = prepare(tone(300))
    again = pickle.loads(pickle.dumps(prepare))
    torch.testing.assert_close(again(tone(300)), before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("logmel:big", "logmel must be given without a model"),
        ("logmel,steps=0", "steps must be at least 1, got 0. Pass steps=10."),
        ("logmel,sample_rate=3", "sample_rate must be at least 1000, got 3. Pass sample_rate=16000."),
        ("logmel,band=3", "Did you mean bands"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "audio")
