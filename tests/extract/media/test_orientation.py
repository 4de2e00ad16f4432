"""Display matrices, against a loop over pixels; files that hold one, against what other programs show."""

import gc
import itertools
import struct
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from amr.extract.media import orientation
from amr.extract.media.decode import decode
from amr.extract.media.orientation import upright
from amr.extract.media.sampling import FrameSampling

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (height, width, channels)
TURNS = [(a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)]
TURNS += [(0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)]


@pytest.fixture(autouse=True)
def data_of_stand_ins(monkeypatch):
    read = orientation.SideDataContainer
    stand_in = lambda frame: frame.side_data if isinstance(frame, SimpleNamespace) else read(frame)  # noqa: E731
    monkeypatch.setattr(orientation, "SideDataContainer", stand_in)


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


ONE = FrameSampling(num_frames=1)
CORNERS = np.zeros((48, 64, 3), np.uint8)  # every turn and mirror of it differs
CORNERS[:24, :32], CORNERS[:24, 32:], CORNERS[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_a_frame_is_freed_without_a_collection_of_garbage():
    frame = av.VideoFrame.from_ndarray(CORNERS, format="rgb24")
    upright(CORNERS, frame)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(each) is av.VideoFrame for each in gc.get_objects())
        del frame
        assert sum(type(each) is av.VideoFrame for each in gc.get_objects()) == before - 1
    finally:
        gc.enable()


def turned(a: int, b: int, c: int, d: int) -> np.ndarray:
    return upright(CORNERS, frame_with(a, b, c, d))


@pytest.mark.parametrize("turn", TURNS)
def test_the_matrix_of_a_movie_is_applied(tmp_path: Path, turn):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        frame = av.VideoFrame.from_ndarray(CORNERS, format="rgb24")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 8 + 36  # version 0: the matrix of the track
    one = 1 << 16
    assert struct.unpack_from(">9i", content, at) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    a, b, c, d = (one * each for each in turn)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frames = decode(path, samplings=[ONE]).frames[ONE]
    assert frames[0].shape == turned(*turn).shape
    assert np.abs(frames[0].astype(int) - turned(*turn)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_of_a_photograph_is_applied(tmp_path: Path, orientation):
    pillow = pytest.importorskip("PIL.Image")
    image = pillow.fromarray(CORNERS)
    exif = image.getexif()
    exif[0x112] = orientation
    path = tmp_path / "image.jpg"
    image.save(path, exif=exif)
    expected = np.asarray(pytest.importorskip("PIL.ImageOps").exif_transpose(pillow.open(path)).convert("RGB"))
    frames = decode(path, samplings=[ONE]).frames[ONE]
    assert frames[0].shape == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 12
