"""Folders of images as clips."""

from pathlib import Path

import av
import numpy as np
import pytest

from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling

ALL = FrameSampling(rate_hz=10)


def write_images(folder: Path, numbers: list[int]) -> Path:
    """Uniform images whose value is ten times their number, named without leading zeros."""
    folder.mkdir()
    for number in numbers:
        image = np.full((8, 12, 3), 10 * number, np.uint8)
        with av.open(str(folder / f"frame{number}.png"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 12, 8, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return folder


def values(folder: Path, sampling: FrameSampling = ALL, **interval: float) -> list[int]:
    decoded = decode(folder, samplings=[sampling], frame_rate_hz=10, **interval)
    assert decoded.failures == {}
    assert (decoded.frames[sampling] == decoded.frames[sampling][:, :1, :1, :1]).all()
    return decoded.frames[sampling][:, 0, 0, 0].tolist()


def test_frames_are_in_the_natural_order_of_their_names(tmp_path):
    folder = write_images(tmp_path / "clip", [10, 2, 1, 9])
    assert values(folder) == [10, 20, 90, 100]
    assert values(folder, FrameSampling(num_frames=2)) == [20, 100]


def test_an_interval_counts_from_the_first_frame(tmp_path):
    folder = write_images(tmp_path / "clip", list(range(10)))
    assert values(folder, start_seconds=0.3, end_seconds=0.6) == [30, 40, 50]
    late = decode(folder, samplings=[ALL], frame_rate_hz=10, start_seconds=5.0)
    assert late.failures == {"video": "there are no pictures in the clip's interval"}


def test_a_damaged_image_repeats_the_one_before(tmp_path):
    folder = write_images(tmp_path / "clip", [1, 2, 3])
    (folder / "frame2.png").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".frame0.png").write_bytes(b"hidden")
    assert values(folder) == [10, 10, 30]


def test_a_folder_without_images_is_a_failure(tmp_path):
    (tmp_path / "empty").mkdir()
    decoded = decode(tmp_path / "empty", samplings=[ALL], sample_rates_hz=[16000])
    assert set(decoded.failures) == {"audio", "video"}
    assert "it has no images" in decoded.failures["video"]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_wrong_frame_rate_is_refused(tmp_path, rate):
    with pytest.raises(ValueError, match="frame_rate_hz must be above 0 and finite"):
        decode(tmp_path, samplings=[ALL], frame_rate_hz=rate)
