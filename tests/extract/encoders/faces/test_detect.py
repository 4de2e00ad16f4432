from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amr.extract.encoders.faces import detect
from amr.extract.encoders.faces.boxes import Box
from amr.extract.encoders.faces.detect import Cascade, ExportedDetector
from amr.extract.media.decode import decode
from amr.extract.media.sampling import FrameSampling

from ..conftest import is_there

NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    is_there("cv2", "pip install 'amr-fusion[faces]'")
    return pickle.loads(pickle.dumps(Cascade()))


def detector_network(networks: Any, path: Path, boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> None:
    """A network that finds the same boxes in every picture; scores rise with its mean, from those given for black."""
    nodes = [
        networks.node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        networks.node("Add", ["mean", "one"], ["brightness"]),  # black is -0.992
        networks.node("Sub", ["given", "brightness"], ["scores"]),
        networks.node("Identity", ["fixed"], ["boxes"]),
    ]
    constants = [
        networks.constant("one", np.array([127 / 128], np.float32)),
        networks.constant("given", np.float32(scores)[None]),
        networks.constant("fixed", np.float32(boxes)[None]),
    ]
    outputs = [("scores", [1, len(boxes), 2]), ("boxes", [1, len(boxes), 4])]
    networks.save(path, nodes, [("x", [1, 3, *size])], outputs, constants)


def test_faces_of_real_people_are_found_and_lie_where_they_are(cascade, test_data):
    """GRID and CREMA-D show one face in the middle, in every frame."""
    clips = [*sorted((test_data / "grid" / "clips").glob("*.mp4"))[::250], *(test_data / "cremad").glob("*/*.flv")][:6]
    sampling = FrameSampling(num_frames=3)
    for clip in clips:
        for image in decode(clip, samplings=[sampling]).frames[sampling]:
            height, width = image.shape[:2]
            (box,) = cascade(image)
            assert abs((box.left + box.right) / 2 - width / 2) < 0.15 * width
            assert 0.2 * height < box.bottom - box.top < 0.9 * height


def test_a_face_is_found_in_any_size_of_the_frame(cascade, test_data):
    clip = min((test_data / "cremad").glob("*/*.flv"))
    sampling = FrameSampling(num_frames=1)
    (image,) = decode(clip, samplings=[sampling]).frames[sampling]
    (box,) = cascade(image)
    (larger,) = cascade(image.repeat(3, axis=0).repeat(3, axis=1))
    assert box.overlap(Box(larger.left / 3, larger.top / 3, larger.right / 3, larger.bottom / 3)) > 0.8


@pytest.mark.parametrize("shape", [(240, 320), (1, 1), (3, 900), (30, 24)])
def test_no_face_is_found_where_there_is_none(cascade, shape):
    assert cascade(np.zeros((*shape, 3), np.uint8)) == []
    assert cascade(NOISE[: shape[0], : shape[1]]) == []


def test_opencv_without_cascades_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(detect, "folder_of", lambda *_: tmp_path)
    with pytest.raises(ValueError, match=r"face=yes must have the cascades of OpenCV 4, .*amr-fusion\[faces"):
        Cascade()


def test_boxes_of_an_exported_detector(networks, tmp_path):
    boxes = np.array([[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5], [0.02, 0, 0.52, 0.5], [0, 0.5, 0.2, 0.6], [0.5, 0, 0.5, 1]])
    scores = np.array([[0, 0.9], [0, 0.8], [0, 0.95], [0, 0.5], [0, 1]])
    detector_network(networks, tmp_path / "d.onnx", boxes, scores, (30, 40))
    detector = pickle.loads(pickle.dumps(ExportedDetector(str(tmp_path / "d.onnx"))))
    found = detector(np.zeros((100, 200, 3), np.uint8))
    # the second overlaps the third, of a higher score; the fourth has too low a score; the last is empty
    np.testing.assert_allclose([each._sides for each in found], [[4, 0, 104, 50], [100, 50, 200, 100]], atol=1e-4)
    assert detector(np.full((100, 200, 3), 255, np.uint8)) == []
    assert detector.settings["sha256"] == detector.file.sha256


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([1, 3, "h", "w"], {"boxes": [1, 9, 4], "scores": [1, 9, 2]}),
        ([1, 3, 8, 8], {"boxes": [1, 9, 4], "labels": [1, 9, 2]}),
        ([1, 3, 8, 8], {"boxes": [1, 9, 5], "scores": [1, 9, 2]}),
        ([1, 8, 8, 3], {"boxes": [1, 9, 4], "scores": [1, 9, 2]}),
    ],
)
def test_other_layouts_are_refused(networks, tmp_path, inputs, outputs):
    nodes = [networks.node("Identity", ["k" + name], [name]) for name in outputs]
    constants = [networks.constant("k" + name, np.zeros(shape, np.float32)) for name, shape in outputs.items()]
    nodes.append(networks.node("Relu", ["x"], ["unused"]))
    networks.save(tmp_path / "d.onnx", nodes, [("x", inputs)], list(outputs.items()), constants)
    with pytest.raises(ValueError, match=r"face must be a detector with an input \(1, 3, height, width\) and the out"):
        ExportedDetector(str(tmp_path / "d.onnx"))
