"""Speech on waveforms, and windows of spectrograms: as the library's own documentation computes them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from amr.extract.encoders.families.huggingface.sound import PrepareWaveform, normalized
from amr.extract.media.spool import Spool

from .conftest import assert_close, sound

SPEECH = ("wav2vec2", "hubert", "wavlm")


def library_output(folder, values, **arguments):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(values, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    inputs.pop("attention_mask", None)
    model = AutoModel.from_pretrained(folder).eval()
    run = getattr(model, "get_audio_features", None) or (model.encoder if "Whisper" in type(model).__name__ else model)
    with torch.inference_mode():
        return run(**inputs, **arguments)


@pytest.mark.parametrize("name", SPEECH)
def test_each_pooling_of_speech_equals_the_librarys_output(saved, built, name):
    values = sound(4000)
    steps = library_output(saved(name), values).last_hidden_state[0]
    expected = {"": steps.mean(0), ",pool=max": steps.amax(0), ",pool=steps": steps}
    for options, wanted in expected.items():
        encoder = built(name, "audio", options)
        assert_close(encoder.embed([encoder.prepare(values)])[0], wanted)
    layer = built(name, "audio", ",layer=1")
    hidden = library_output(saved(name), values, output_hidden_states=True).hidden_states[1][0]
    assert_close(layer.embed([layer.prepare(values)])[0], hidden.mean(0))


@pytest.mark.parametrize("name", SPEECH)
def test_sounds_of_other_lengths_have_no_influence(built, name):
    encoder = built(name, "audio")
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    inputs = [prepare(sound(length, seed)) for seed, length in enumerate((900, 4000, 5, 900, 2600))]
    for each, found in zip(inputs, encoder.embed(inputs), strict=True):
        assert_close(found, encoder.embed([each])[0])


@pytest.mark.parametrize("pool", ["mean", "max", "steps"])
def test_long_speech_goes_in_pieces_whose_steps_follow_each_other(built, pool):
    encoder = built("wav2vec2", "audio", f",pool={pool},max_steps=7")
    prepared = encoder.prepare(sound(30_000))
    encoder.most_samples = 8000
    (found,) = encoder.embed([prepared])
    pieces = [encoder.features(part[None])[0] for part in prepared.split(7500)]
    steps = torch.cat(pieces)
    expected = {
        "mean": steps.mean(0),
        "max": steps.amax(0),
        "steps": torch.nn.functional.adaptive_avg_pool1d(steps.T, 7).T,
    }
    assert_close(found, expected[pool])
    assert [encoder.num_steps(7500)] * 4 == [len(piece) for piece in pieces]


def test_sound_in_a_file_is_normalized_as_by_the_extractor(saved):
    extractor = AutoFeatureExtractor.from_pretrained(saved("wav2vec2"))
    values = sound(5000) + 0.3
    expected = extractor(values, sampling_rate=16000, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(normalized(values, 1e-7).finish(), expected, rtol=1e-4, atol=1e-5)
    spool = Spool()
    for part in np.split(np.tile(values, 4000), 40):  # beyond what is kept in memory
        spool.append(part)
    found = PrepareWaveform(extractor, 400)(spool.finish())
    np.testing.assert_allclose(found[:5000].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["audio-spectrogram-transformer", "clap"])
def test_each_pooling_of_windows_equals_the_librarys_output(saved, built, name):
    values = sound(6000)
    out = library_output(saved(name), values)
    expected = {"": out.pooler_output[0], ",pool=cls": out.pooler_output[0], ",pool=steps": out.pooler_output}
    if name != "clap":
        patches = out.last_hidden_state[0, 2:]
        expected |= {",pool=mean": patches.mean(0), ",pool=max": patches.amax(0)}
    for options, wanted in expected.items():
        encoder = built(name, "audio", options)
        found = encoder.embed([encoder.prepare(values)])[0]
        assert_close(found, wanted)
        assert encoder.embed_dim == wanted.shape[-1]


@pytest.mark.parametrize("name", ["audio-spectrogram-transformer", "clap", "whisper"])
def test_long_sound_loses_nothing_and_other_clips_have_no_influence(built, name):
    encoder = built(name, "audio", ",pool=steps")
    rate = encoder.prepare.sample_rate_hz
    long, short, tiny = sound(int(2.5 * rate), 1), sound(rate // 3, 2), sound(7, 3)
    inputs = [encoder.prepare(each) for each in (long, short, tiny)]
    found = encoder.embed(inputs)
    for each, embedding in zip(inputs, found, strict=True):
        assert_close(embedding, encoder.embed([each])[0])
        assert embedding.isfinite().all()
    changed = long.copy()
    changed[-rate // 10 :] *= -2
    (other,) = encoder.embed([encoder.prepare(changed)])
    assert not torch.allclose(other[-1], found[0][-1])


def test_whisper_pools_the_steps_of_the_sound_alone(saved, built):
    values = sound(6400)  # 0.4 of a window of a second, 20 of its 50 steps
    steps = library_output(saved("whisper"), values).last_hidden_state[0]
    assert steps.shape == (50, 16)
    for options, wanted in (("", steps[:20].mean(0)), (",pool=max", steps[:20].amax(0)), (",pool=steps", steps[:20])):
        encoder = built("whisper", "audio", options)
        assert_close(encoder.embed([encoder.prepare(values)])[0], wanted)
    long = sound(16000 + 6400)
    second = library_output(saved("whisper"), long[16000:]).last_hidden_state[0, :20]
    first = library_output(saved("whisper"), long[:16000]).last_hidden_state[0]
    encoder = built("whisper", "audio")
    assert_close(encoder.embed([encoder.prepare(long)])[0], torch.cat([first, second]).mean(0))


def test_one_clip_to_the_extractor_of_a_model_that_fuses_scales_is_marked_as_longer(saved, built, monkeypatch):
    """The library marks one random clip of a batch; alone, that is the clip itself."""
    encoder = built("clap", "audio")
    seen = []
    run = encoder.model.model.get_audio_features
    monkeypatch.setattr(encoder.model.model, "get_audio_features", lambda **x: seen.append(x["is_longer"]) or run(**x))
    for is_fused in (False, True):
        encoder.is_fused = is_fused
        encoder.embed([encoder.prepare(sound(4000))])
        assert seen[-1].tolist() == [[is_fused]]
