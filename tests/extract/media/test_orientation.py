"""Display matrices, against a loop over pixels."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from av.sidedata.sidedata import Type

from amr.extract.media.orientation import upright

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (height, width, channels)
TURNS = [(a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)]
TURNS += [(0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)]


def frame_with(a: int, b: int, c: int, d: int) -> SimpleNamespace:
    one = 1 << 16
    matrix = np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], np.int32)
    return SimpleNamespace(side_data={Type.DISPLAYMATRIX: matrix.tobytes()})


@pytest.mark.parametrize("turn", TURNS)
def test_every_turn_and_mirror_moves_each_pixel_as_the_matrix_says(turn):
    a, b, c, d = turn
    height, width = IMAGE.shape[:2]
    moved = {(a * x + c * y, b * x + d * y): IMAGE[y, x] for y in range(height) for x in range(width)}
    left, top = (min(place[axis] for place in moved) for axis in (0, 1))
    shown = upright(IMAGE, frame_with(*turn))
    for (x, y), pixel in moved.items():
        np.testing.assert_array_equal(shown[y - top, x - left], pixel)


def test_a_frame_without_a_matrix_stays_as_it_is():
    assert upright(IMAGE, SimpleNamespace(side_data={})) is IMAGE
    assert upright(IMAGE, SimpleNamespace(side_data={Type.DISPLAYMATRIX: b"short"})) is IMAGE


class UnnamedData:
    """A frame that PyAV cannot list the side data of."""

    rotation = 90

    @property
    def side_data(self) -> dict[Type, bytes]:
        raise ValueError("34 is not a valid Type")


def test_a_frame_with_data_unknown_to_pyav_is_still_turned():
    np.testing.assert_array_equal(upright(IMAGE, UnnamedData()), np.rot90(IMAGE))
