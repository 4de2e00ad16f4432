from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from amr.extract.encoders.faces import track
from amr.extract.encoders.faces.boxes import Box
from amr.extract.encoders.faces.detect import Detector
from amr.extract.encoders.faces.track import Track

IMAGE = np.stack(np.broadcast_arrays(np.arange(100)[:, None], np.arange(100), 0), axis=-1).astype(np.uint8)
SMALL, LARGE = Box(10, 10, 20, 20), Box(40, 40, 60, 60)


class Scripted(Detector):
    """The faces of each frame, in turn."""

    def __init__(self, frames: Iterable[list[Box]]) -> None:
        self.settings = {"detector": "scripted"}
        self.frames = iter(frames)

    def __call__(self, image: np.ndarray) -> list[Box]:
        return next(self.frames)


def follow(*frames: list[Box]) -> list[tuple[tuple[int, int, int, int], bool]]:
    """Pixels of each crop, and whether the face was found."""
    tracked = Track(Scripted(frames))
    found = []
    for _ in frames:
        crop, is_found = tracked.cut(IMAGE)
        rows, columns = crop[:, 0, 0].tolist(), crop[0, :, 1].tolist()
        found.append(((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), is_found))
    return found


WHOLE = (0, 0, 100, 100)
AROUND_LARGE = (35, 35, 65, 65)  # with a quarter of the width on each side


def test_the_largest_face_is_followed():
    assert follow([SMALL, LARGE], [LARGE, SMALL]) == [(AROUND_LARGE, True)] * 2


def test_the_same_face_is_followed_even_if_another_becomes_larger():
    other = Box(0, 0, 35, 35)
    assert follow([SMALL, LARGE], [other, LARGE]) == [(AROUND_LARGE, True)] * 2


def test_the_box_moves_half_way_to_the_face():
    moved = Box(44, 44, 64, 64)
    assert follow([LARGE], [moved], [moved]) == [
        (AROUND_LARGE, True),
        ((37, 37, 67, 67), True),
        ((38, 38, 68, 68), True),
    ]


def test_without_a_face_the_last_box_stays_and_before_the_first_the_frame_is_whole():
    assert follow([], [LARGE], [], []) == [(WHOLE, False), (AROUND_LARGE, True), *[(AROUND_LARGE, False)] * 2]
    assert follow([], []) == [(WHOLE, False)] * 2


def test_one_frame_with_another_face_alone_changes_nothing_and_two_begin_anew():
    assert follow([LARGE], [SMALL], [LARGE]) == [(AROUND_LARGE, True), (AROUND_LARGE, False), (AROUND_LARGE, True)]
    around_small = (7, 7, 22, 22)
    assert track.PATIENCE == 1
    found = follow([LARGE], [SMALL], [SMALL], [SMALL])
    assert [each for _, each in found] == [True, False, True, True]
    assert found[1][0] == AROUND_LARGE
    assert np.abs(np.subtract(found[2][0], around_small)).max() <= 1
