from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from amr.fusion.end_to_end.augment import Augment, AugmentConfig

MODALITIES = {"audio": "audio", "speech": "audio", "video": "video"}
SHAPES = {
    "frames": ("video", (1, 6, 3, 2, 10, 14)),
    "pieces": ("video", (1, 6, 2, 3, 4, 10, 14)),
    "pictures of sound": ("audio", (2, 3, 2, 1, 10, 14)),
    "waveforms": ("speech", (2, 3, 200)),
}
STRONG = {"time_mask": 0.5, "frequency_mask": 0.4, "shift": 0.3, "flip": True, "resized_crop": True}
CROPPED = STRONG | {"time_crop": 0.5}


def clips(kind: str, dtype: torch.dtype = torch.float32) -> tuple[str, torch.Tensor]:
    """Distinct values, so that each shows its source."""
    name, shape = SHAPES[kind]
    count = torch.Size(shape).numel()
    return name, (1 + torch.randperm(count, generator=torch.Generator().manual_seed(0))).view(shape).to(dtype)


def augment(seed: int = 0, **strengths) -> Augment:
    return Augment(AugmentConfig(**strengths), MODALITIES, seed)


@pytest.mark.parametrize("kind", SHAPES)
def test_no_strength_draws_nothing(kind):
    name, x = clips(kind)
    nothing = augment()
    before = nothing.state()
    assert nothing(name, x) is x
    assert torch.equal(nothing.state(), before)


def test_options_of_other_modalities_change_nothing():
    name, x = clips("frames")
    assert augment(time_mask=0.5, frequency_mask=0.5, time_crop=0.5)(name, x) is x
    name, x = clips("pictures of sound")
    assert augment(flip=True, resized_crop=True)(name, x) is x
    name, x = clips("waveforms")
    assert augment(frequency_mask=0.5, shift=0.5, flip=True, resized_crop=True)(name, x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_seed_and_a_state_reproduce_the_draws(kind, dtype):
    name, x = clips(kind)
    x = (x / 1000).to(dtype)
    copy = x.clone()
    one, two = augment(**CROPPED), augment(**CROPPED)
    before = torch.get_rng_state()
    first = one(name, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, two(name, x))
    assert first.dtype == dtype
    is_video = MODALITIES[name] == "video"
    assert first.shape == (x.shape if is_video else (*x.shape[:-1], x.shape[-1] // 2))
    assert torch.equal(x, copy)
    state = one.state()
    later = one(name, x)
    assert not torch.equal(later, first)
    two.set_state(state)
    assert torch.equal(two(name, x), later)
    assert not torch.equal(augment(seed=1, **CROPPED)(name, x), first)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), fraction=st.floats(0.01, 1))
def test_masks_are_strips_of_bounded_width_filled_with_the_mean(seed, fraction):
    name, x = clips("pictures of sound")
    mean = x.mean((-2, -1), keepdim=True).expand_as(x)
    for which, axis in (("time_mask", -1), ("frequency_mask", -2)):
        out = augment(seed, **{which: fraction})(name, x)
        masked = out != x
        strips = masked.all(-2 if axis == -1 else -1).int()  # of each channel of each picture
        assert torch.equal(masked.any(-2 if axis == -1 else -1).int(), strips)
        assert torch.equal(out[masked], mean[masked])
        assert strips.sum(-1).max() <= fraction * x.shape[axis]
        assert (strips.diff(dim=-1) == 1).sum(-1).max() <= 1
    name, x = clips("waveforms")
    out = augment(seed, time_mask=fraction)(name, x)
    silent = (out != x).int()
    assert torch.equal(out == 0, out != x)
    assert silent.sum(-1).max() <= fraction * x.shape[-1]
    assert (silent.diff(dim=-1) == 1).sum(-1).max() <= 1


def test_a_mask_leaves_the_padding_of_a_waveform():
    x = torch.ones(1, 50, 100)
    x[..., 60:] = torch.nan
    out = augment(time_mask=0.5)("speech", x)
    assert torch.equal(out.isnan(), x.isnan())
    assert (out == 0).any()


def test_a_mask_can_have_any_width_up_to_the_maximum():
    x = torch.ones(1, 2000, 10)
    lengths = (augment(time_mask=0.5)("speech", x) == 0).sum(-1)
    assert lengths.unique().tolist() == [0, 1, 2, 3, 4, 5]
    starts = (augment(time_mask=0.5)("speech", x) == 0).int().argmax(-1)[lengths == 5]
    assert starts.unique().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["frames", "pieces"])
def test_mirroring_twice_is_the_identity_and_frames_are_mirrored_together(kind):
    name, x = clips(kind)
    mirror = augment(flip=True)
    state = mirror.state()
    once = mirror(name, x)
    mirrored = [not torch.equal(a, b) for a, b in zip(once[0], x[0], strict=True)]
    assert any(mirrored)
    assert not all(mirrored)
    for clip, is_mirrored in enumerate(mirrored):
        assert torch.equal(once[0, clip], x[0, clip].flip(-1) if is_mirrored else x[0, clip])
    mirror.set_state(state)
    assert torch.equal(mirror(name, once), x)


@pytest.mark.parametrize("kind", ["frames", "pieces"])
def test_a_crop_moves_all_frames_of_a_clip_together_and_repeats_edges(kind):
    name, x = clips(kind)
    height, width = x.shape[-2:]
    out = augment(shift=0.3)(name, x)
    padded = torch.nn.functional.pad(x.flatten(0, -4), (4, 4, 3, 3), mode="replicate").view(
        *x.shape[:-2], height + 6, width + 8
    )
    moves = set()
    for clip in range(x.shape[1]):
        fits = [
            (down, right)
            for down in range(7)
            for right in range(9)
            if torch.equal(out[0, clip], padded[0, clip][..., down : down + height, right : right + width])
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) > 1


def stream(seed: int) -> torch.Tensor:
    """State of the augmentation's stream, as a state of PyTorch's global one."""
    return augment(seed).state()


@pytest.mark.parametrize("kind", ["frames", "pieces", "stacked frames"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_resized_crop_is_that_of_torchvision_the_same_for_all_frames_of_a_clip(kind, seed, height, width):
    shape = {"frames": (2, 3, 4, 3), "pieces": (1, 4, 2, 3, 5), "stacked frames": (1, 4, 1, 6)}[kind]
    x = torch.rand(*shape, height, width, generator=torch.Generator().manual_seed(seed))
    out = augment(seed, resized_crop=True)("video", x)
    transform = RandomResizedCrop((height, width), antialias=True)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(stream(seed))
        expected = torch.stack([transform(clip.flatten(0, -4)) for clip in x.flatten(0, 1)])
    torch.testing.assert_close(out, expected.view(x.shape), rtol=0, atol=1e-6)


def test_resized_crops_are_boxes_of_torchvision_s_distribution():
    """The areas are uniform and the log aspect ratios, too; at either end, boxes that do not fit are drawn again."""
    x = torch.zeros(1, 4000, 1, 1, 200, 200)
    boxes = torch.tensor(augment(resized_crop=True)._boxes(x[0]), dtype=torch.float64)
    torch.manual_seed(1)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(x[0, 0], [0.08, 1], [3 / 4, 4 / 3]) for _ in range(4000)], dtype=torch.float64
    )
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        ours, other = boxes.quantile(quantile, 0), theirs.quantile(quantile, 0)
        assert (ours - other).abs().max() < 10  # pixels; the standard error is below 2
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height).max() <= 200
    assert (left + width).max() <= 200
    assert (height * width / 200**2).min() > 0.078
    ratio = width / height
    assert 0.74 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.35


def test_a_resized_crop_of_given_boxes(monkeypatch):
    """Each clip has its own box; padding, which is NaN, stays where a clip has fewer frames."""
    boxes = [(0, 0, 10, 14), (2, 3, 5, 4), (9, 13, 1, 1)]
    monkeypatch.setattr(RandomResizedCrop, "get_params", staticmethod(lambda *_: boxes[next(turns)]))
    x = torch.rand(1, 3, 2, 3, 10, 14)
    x[0, 1, 1] = torch.nan
    turns = iter(range(3))
    out = augment(resized_crop=True)("video", x)
    for clip, box in enumerate(boxes):
        expected = functional.resized_crop(x[0, clip], *box, [10, 14])
        torch.testing.assert_close(out[0, clip], expected, equal_nan=True)
    assert torch.equal(out[0, 0], x[0, 0])
    assert torch.equal(out.isnan(), x.isnan())
    assert torch.equal(out[0, 2], x[0, 2, :, :, 9:, 13:].expand(-1, -1, 10, 14))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), fraction=st.floats(0.01, 0.99))
def test_a_time_crop_of_a_picture_is_a_run_of_its_columns(seed, fraction):
    name, x = clips("pictures of sound")
    out = augment(seed, time_crop=fraction)(name, x)
    width = max(1, round(fraction * 14))
    assert out.shape == (*x.shape[:-1], width)
    for clip, cropped in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        fits = [at for at in range(15 - width) if torch.equal(cropped, clip[..., at : at + width])]
        assert len(fits) == 1  # the same columns in every row and picture


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), fraction=st.floats(0.01, 0.99), lengths=st.lists(st.integers(1, 50), min_size=3))
def test_a_time_crop_of_a_waveform_is_a_part_of_its_own_length(seed, fraction, lengths):
    num = torch.tensor(lengths)[:, None]
    x = torch.arange(50.0).expand(1, len(lengths), 50).masked_fill(torch.arange(50) >= num, torch.nan)
    out = augment(seed, time_crop=fraction)("speech", x)
    assert out.shape[2] == max(1, round(fraction * 50))
    for length, cropped in zip(lengths, out[0], strict=True):
        kept = cropped[~cropped.isnan()]
        assert torch.equal(kept, cropped[: len(kept)])  # padding is at the end
        assert len(kept) == max(1, round(fraction * length))
        assert torch.equal(kept, kept[0] + torch.arange(len(kept)))
        assert kept[-1] < length


def test_a_time_crop_can_start_anywhere():
    x = torch.arange(10.0).expand(1, 2000, 10)
    assert augment(time_crop=0.6)("speech", x)[..., 0].unique().tolist() == [0, 1, 2, 3, 4]
    pictures = x.view(1, 2000, 1, 1, 1, 10)
    assert augment(time_crop=0.6)("audio", pictures)[..., 0].unique().tolist() == [0, 1, 2, 3, 4]


def test_sound_is_cropped_then_shifted_then_masked():
    """The mask is a part of the time that is left, and its mean is that of what is left."""
    name, x = clips("pictures of sound")
    strengths = {"time_crop": 0.5, "shift": 0.4, "time_mask": 1.0}
    out = augment(**strengths)(name, x)
    step = augment(time_crop=0.5)
    expected = step(name, x)
    for strength in ({"shift": 0.4}, {"time_mask": 1.0}):
        following = augment(**strength)
        following.set_state(step.state())
        expected, step = following(name, expected), following
    assert torch.equal(out, expected)
    masked = (out == out.mean((-2, -1), keepdim=True)).all(-2)
    assert out.shape[-1] == masked.shape[-1] == 7
    name, x = clips("waveforms")
    lengths = (augment(time_crop=0.1, time_mask=1.0)(name, x.expand(2, -1, -1)) == 0).sum(-1)
    assert lengths.max() <= 20


def test_sound_rolls_in_time():
    name, x = clips("pictures of sound")
    out = augment(shift=0.3)(name, x)
    moves = []
    for run in range(2):
        for clip in range(3):
            fits = [by for by in range(-4, 5) if torch.equal(out[run, clip], x[run, clip].roll(by, -1))]
            assert len(fits) == 1
            moves += fits
    assert len(set(moves)) > 1


def test_absent_clips_stay_zero():
    for kind in SHAPES:
        name, x = clips(kind)
        assert not augment(**CROPPED)(name, torch.zeros_like(x)).any()


def test_wrong_options_and_shapes_are_refused():
    for strengths in ({"time_mask": 1.5}, {"frequency_mask": -0.1}, {"shift": float("nan")}):
        option = next(iter(strengths)).replace("_", "-")
        with pytest.raises(ValueError, match=f"--{option} must be from 0 to 1, got"):
            AugmentConfig(**strengths)
    with pytest.raises(ValueError, match="video must be pictures, pieces of video or waveforms"):
        augment(flip=True)("video", torch.zeros(1, 2, 5))
