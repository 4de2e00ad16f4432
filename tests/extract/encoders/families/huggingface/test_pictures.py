"""Frames and pieces of video: as the library's own documentation computes them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from amr.extract.encoders.model import ModelEncoder

from .conftest import assert_close, frames

# model_type -> the summary of a picture, and the tokens of its patches, in the library's output
PICTURES = {
    "vit": (lambda out: out.last_hidden_state[:, 0], 1),
    "deit": (lambda out: out.last_hidden_state[:, 0], 2),
    "dinov2": (lambda out: out.pooler_output, 1),
    "dinov2_with_registers": (lambda out: out.pooler_output, 5),
    "dinov3_vit": (lambda out: out.pooler_output, 1),
    "clip": (lambda out: out.pooler_output, 1),
    "clip_vision_model": (lambda out: out.pooler_output, 1),
    "siglip": (lambda out: out.pooler_output, 0),
    "siglip_vision_model": (lambda out: out.pooler_output, 0),
}
VIDEO = {
    "videomae": (None, 0),
    "timesformer": (lambda out: out.last_hidden_state[:, 0], 1),
    "xclip": (lambda out: out.pooler_output, None),
}


def library_output(folder, pixels, **arguments):
    """Output of the library's forward pass."""
    model = AutoModel.from_pretrained(folder).eval()
    run = getattr(model, "get_image_features", None) or getattr(model, "get_video_features", None) or model
    with torch.inference_mode():
        return run(pixel_values=pixels, **arguments)


def pictures_of(folder, images):
    processor = AutoImageProcessor.from_pretrained(folder)
    return processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", PICTURES)
def test_each_pooling_of_pictures_equals_the_librarys_output(saved, built, name):
    images = frames()
    out = library_output(saved(name), pictures_of(saved(name), images))
    summary, num_special = PICTURES[name]
    patches = out.last_hidden_state[:, num_special:]
    expected = {
        "": summary(out).mean(0),
        ",pool=cls": summary(out).mean(0),
        ",pool=mean": patches.mean((0, 1)),
        ",pool=max": patches.amax((0, 1)),
        ",pool=steps,frames=6": summary(out),
    }
    for options, values in expected.items():
        encoder = built(name, "video", options)
        prepared = encoder.prepare(images)
        (found,) = encoder.embed([prepared])
        assert_close(found, values)
        assert encoder.embed_dim == values.shape[-1]
        assert encoder.max_steps == (6 if "steps" in options else None)


@pytest.mark.parametrize("name", ["vit", "clip", "siglip", "timesformer"])
def test_a_layer_is_the_librarys_hidden_state(saved, built, name):
    images = frames(4)
    pixels = pictures_of(saved(name), images)
    shape = (1, 4, 3, 32, 32) if name in VIDEO else (4, 3, 32, 32)
    out = library_output(saved(name), pixels.reshape(shape), output_hidden_states=True)
    encoder = built(name, "video", ",layer=1,pool=mean")
    num_special = {**PICTURES, **VIDEO}[name][1]
    (found,) = encoder.embed([encoder.prepare(images)])
    assert_close(found, out.hidden_states[1][:, num_special:].mean((0, 1)))


@pytest.mark.parametrize("name", VIDEO)
def test_each_pooling_of_video_equals_the_librarys_output(saved, built, name):
    images = frames(4)
    processor = AutoImageProcessor.from_pretrained(saved(name))
    pixels = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    out = library_output(saved(name), pixels.reshape(1, 4, 3, 32, 32))
    summary, num_special = VIDEO[name]
    expected = {}
    if summary is not None:
        expected |= {"": summary(out)[0], ",pool=cls": summary(out)[0], ",pool=steps": summary(out)}
    if num_special is not None:
        patches = out.last_hidden_state[0, num_special:]
        expected |= {",pool=mean": patches.mean(0), ",pool=max": patches.amax(0)}
    for options, values in expected.items():
        encoder = built(name, "video", options)
        (found,) = encoder.embed([encoder.prepare(images)])
        assert_close(found, values)


def test_a_rate_cuts_a_clip_into_pieces_padded_with_the_last_frame(built):
    encoder = built("videomae", "video", ",rate=2,pool=steps")
    images = frames(6)
    whole, rest = encoder.embed([encoder.prepare(images)])[0]
    padded = np.concatenate([images[4:], images[5:], images[5:]])
    assert_close(rest, encoder.embed([encoder.prepare(padded)])[0][0])
    assert_close(whole, encoder.embed([encoder.prepare(images[:4])])[0][0])
    mean = built("videomae", "video", ",rate=2")
    assert_close(mean.embed([mean.prepare(images)])[0], torch.stack([whole, rest]).mean(0))


@pytest.mark.parametrize("name", ["clip", "dinov2", "timesformer"])
def test_batch_mates_have_no_influence_and_prepare_goes_to_a_worker(built, name):
    encoder = built(name, "video", ",rate=1")
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    assert len(pickle.dumps(encoder.prepare)) < 50_000
    inputs = [prepare(frames(number, seed)) for seed, number in enumerate((1, 7, 3))]
    for each, found in zip(inputs, encoder.embed(inputs), strict=True):
        assert_close(found, encoder.embed([each])[0])


def test_the_network_that_is_trained_agrees_with_embed(built):
    encoder = built("vit", "video", ",frames=3")
    assert isinstance(encoder, ModelEncoder)
    inputs = torch.stack([encoder.prepare(frames(3, seed)) for seed in (0, 1)])
    with torch.inference_mode():
        assert_close(encoder.network()(inputs), torch.stack(encoder.embed(list(inputs))))


def test_a_crop_goes_to_the_processor(built):
    images = frames(2)
    cropped = built("vit", "video", ",frames=2,crop=0:0:0.5:0.5")
    whole = built("vit", "video", ",frames=2")
    assert torch.equal(cropped.prepare(images), whole.prepare(images[:, :20, :30]))
    assert cropped.preprocessing["crop"] == "0:0:0.5:0.5"
