from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.fusion.end_to_end.augment import Augment, AugmentConfig

MODALITIES = {"audio": "audio", "speech": "audio", "video": "video"}
SHAPES = {
    "frames": ("video", (1, 6, 3, 2, 10, 14)),
    "pieces": ("video", (1, 6, 2, 3, 4, 10, 14)),
    "pictures of sound": ("audio", (2, 3, 2, 1, 10, 14)),
    "waveforms": ("speech", (2, 3, 200)),
}
STRONG = {"time_mask": 0.5, "frequency_mask": 0.4, "shift": 0.3, "flip": True}


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
    assert augment(time_mask=0.5, frequency_mask=0.5)(name, x) is x
    name, x = clips("pictures of sound")
    assert augment(flip=True)(name, x) is x
    name, x = clips("waveforms")
    assert augment(frequency_mask=0.5, shift=0.5, flip=True)(name, x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_seed_and_a_state_reproduce_the_draws(kind, dtype):
    name, x = clips(kind)
    x = (x / 1000).to(dtype)
    copy = x.clone()
    one, two = augment(**STRONG), augment(**STRONG)
    first = one(name, x)
    assert torch.equal(first, two(name, x))
    assert first.dtype == dtype
    assert first.shape == x.shape
    assert torch.equal(x, copy)
    state = one.state()
    later = one(name, x)
    assert not torch.equal(later, first)
    two.set_state(state)
    assert torch.equal(two(name, x), later)
    assert not torch.equal(augment(seed=1, **STRONG)(name, x), first)


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
        assert not augment(**STRONG)(name, torch.zeros_like(x)).any()


def test_wrong_options_and_shapes_are_refused():
    for strengths in ({"time_mask": 1.5}, {"frequency_mask": -0.1}, {"shift": float("nan")}):
        option = next(iter(strengths)).replace("_", "-")
        with pytest.raises(ValueError, match=f"--{option} must be from 0 to 1, got"):
            AugmentConfig(**strengths)
    with pytest.raises(ValueError, match="video must be pictures, pieces of video or waveforms"):
        augment(flip=True)("video", torch.zeros(1, 2, 5))
