from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.encoders import build_encoder
from amr.extract.encoders.crop import Crop
from amr.extract.media.spool import TooLarge

sides = st.integers(1, 40)
parts = st.lists(st.floats(0, 1, width=16), min_size=2, max_size=2, unique=True).map(sorted)


@given(sides, sides, parts, parts)
def test_every_part_has_a_pixel(height, width, across, down):
    crop = Crop.parse(f"{across[0]}:{down[0]}:{across[1]}:{down[1]}")
    frames = np.zeros((2, height, width, 3), np.uint8)
    part = crop.cut(frames)
    assert part.base is frames
    assert (len(part), part.shape[3]) == (2, 3)
    for length, side, (low, high) in zip(part.shape[1:3], (height, width), (down, across), strict=True):
        assert 1 <= length <= side
        assert abs(length - (high - low) * side) <= 1.5


def test_none_is_the_whole_frame():
    frames = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    np.testing.assert_array_equal(Crop.parse("none").cut(frames), frames)
    np.testing.assert_array_equal(Crop.parse("0.5:0:1:0.5").cut(frames), frames[:, :1, 2:])


@pytest.mark.parametrize("text", ["", "1:0:0:1", "0:0:1", "0:0:1:1:1", "a:b:c:d", "0:0:nan:1", "-1:0:1:1", "0:0:1:2"])
def test_wrong_crops(text):
    with pytest.raises(ValueError, match="crop must be left:top:right:bottom"):
        Crop.parse(text)


@pytest.mark.parametrize("spec", ["timm:test_vit,weights=random", "torchvision:mc3_18,weights=random"])
def test_lines_are_refused_before_they_are_resized(spec):
    def frame(height, width, crop="none"):
        image = np.zeros((height, width, 3), np.uint8)
        return build_encoder(f"{spec},crop={crop}", "video").prepare.frame(image)

    for sides in ((1, 101), (202, 2)):
        with pytest.raises(TooLarge, match=f"at most 100 times as long as it is wide, got {sides[1]} x {sides[0]} "):
            frame(*sides)
    frame(1, 100)
    frame(1, 200, crop="0:0:0.5:1")
