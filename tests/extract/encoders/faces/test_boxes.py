from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.encoders.faces.boxes import Box

sides = st.integers(1, 40)
numbers = st.floats(-60, 60, allow_nan=False)


@given(sides, sides, st.tuples(numbers, numbers, numbers, numbers))
def test_every_cut_is_inside_and_has_a_pixel(height, width, corners):
    left, top, right, bottom = corners
    image = np.arange(height * width * 3).reshape(height, width, 3)
    cut = Box(left, top, right, bottom).cut(image)
    assert np.isin(cut, image).all()
    assert cut.shape[:2] == (min(max(1, round(bottom - top)), height), min(max(1, round(right - left)), width))


def test_a_box_beyond_an_edge_is_moved_inside():
    image = np.arange(10)[:, None] * np.ones((10, 10, 3), int)
    np.testing.assert_array_equal(Box(2, -3, 6, 1).cut(image), image[:4, 2:6])
    np.testing.assert_array_equal(Box(2, 8, 6, 12).cut(image), image[6:, 2:6])


@given(st.tuples(numbers, numbers, numbers, numbers), st.tuples(numbers, numbers, numbers, numbers))
def test_overlap_is_symmetric_and_that_of_drawn_boxes(one, other):
    a, b = (Box(*map(round, (min(x, z), min(y, w), max(x, z), max(y, w)))) for x, y, z, w in (one, other))
    assert a.overlap(b) == pytest.approx(b.overlap(a))
    drawn = np.zeros((2, 121, 121), bool)
    for canvas, box in zip(drawn, (a, b), strict=True):
        canvas[round(box.top) + 60 : round(box.bottom) + 60, round(box.left) + 60 : round(box.right) + 60] = True
    expected = (drawn[0] & drawn[1]).sum() / max(1, (drawn[0] | drawn[1]).sum())
    assert a.overlap(b) == pytest.approx(expected)


def test_margins_and_steps():
    assert Box(0, 0, 4, 8).widened(0.25) == Box(-1, -2, 5, 10)
    assert Box(0, 0, 4, 8).towards(Box(2, 2, 6, 10), 0.5) == Box(1, 1, 5, 9)
