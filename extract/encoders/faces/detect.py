"""Detectors of faces: cascades that OpenCV brings, or a network of the user's own. They run in the workers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from amr.extract.encoders.faces.boxes import Box
from amr.extract.encoders.optional.exported_file import ExportedFile, read_exported
from amr.extract.encoders.optional.exported_network import Network
from amr.extract.encoders.optional.extras import folder_of, imported

CASCADE = "haarcascade_frontalface_alt2.xml"
SIDE = 320  # to which the longer side of a larger frame is reduced before faces are looked for
SCALE_STEP, NEIGHBORS, LEAST_SIDE = 1.1, 5, 24  # of the cascade's search
WHAT = "face"  # option, for errors


class Detector(ABC):
    """Function from a frame to boxes around its faces. It is sent to workers, which load what it needs.

    Attributes:
        settings: All that shapes its result, ready for JSON.
    """

    settings: dict[str, Any]

    @abstractmethod
    def __call__(self, image: np.ndarray) -> list[Box]:
        """Boxes of the faces in a frame, `(height, width, 3)` uint8 RGB."""


class Cascade(Detector):
    """OpenCV's cascade for frontal faces (Viola & Jones 2001; trained by Lienhart et al. 2003).

    Raises:
        ValueError: OpenCV is not installed, or is version 5, which brings no cascades.
    """

    def __init__(self) -> None:
        self.path = folder_of("cv2", "faces", "face=yes") / "data" / CASCADE
        if not self.path.is_file():
            raise ValueError(
                f"face=yes must have the cascades of OpenCV 4, got no file {str(self.path)!r}. "
                "Install them: pip install 'amr-fusion[faces]'."
            )
        self.settings = {
            "detector": CASCADE,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "side": SIDE,
            "scale_step": SCALE_STEP,
            "neighbors": NEIGHBORS,
            "least_side": LEAST_SIDE,
        }

    def __call__(self, image: np.ndarray) -> list[Box]:
        """Boxes of the faces in a frame."""
        height, width = image.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        gray = self._opencv.cvtColor(np.ascontiguousarray(image), self._opencv.COLOR_RGB2GRAY)
        if scale < 1:
            size = (max(1, round(scale * width)), max(1, round(scale * height)))
            gray = self._opencv.resize(gray, size, interpolation=self._opencv.INTER_AREA)
        least = (LEAST_SIDE, LEAST_SIDE)
        found = self._cascade.detectMultiScale(self._opencv.equalizeHist(gray), SCALE_STEP, NEIGHBORS, minSize=least)
        boxes = np.asarray(found).reshape(-1, 4) / scale
        return [Box(x, y, x + w, y + h) for x, y, w, h in boxes.tolist()]

    @cached_property
    def _opencv(self) -> Any:
        opencv = imported("cv2", "faces", "face=yes")
        opencv.setNumThreads(1)  # every worker has one core
        return opencv

    @cached_property
    def _cascade(self) -> Any:
        return self._opencv.CascadeClassifier(str(self.path))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "settings": self.settings}


MEAN, SCALE = 127.0, 128.0  # pixels become (value - 127) / 128
LEAST_SCORE, MOST_OVERLAP = 0.7, 0.3
BOXES, SCORES = "boxes", "scores"


class ExportedDetector(Detector):
    """A network in a file (ONNX), laid out like UltraFace's.

    Its input is one picture, `(1, 3, height, width)` of a fixed size, RGB, (value - 127) / 128. Its outputs are
    `boxes`, `(1, candidates, 4)`: left, top, right, bottom as fractions of the picture; and `scores`,
    `(1, candidates, 2)`: probabilities of background and of a face.

    Args:
        text: Path of the file, relative to the current folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no network, or is laid out otherwise.
    """

    def __init__(self, text: str) -> None:
        self.file: ExportedFile = read_exported(text, WHAT)
        network = Network(self.file, WHAT, 1)
        port = network.only_input()
        outputs = {each.name: each for each in network.outputs}
        shape = port.shape
        fits = len(shape) == 4 and shape[0] in (1, None) and shape[1] == 3 and None not in shape[2:]
        fits = fits and {BOXES, SCORES} <= outputs.keys()
        fits = fits and outputs[BOXES].shape[-1] in (4, None) and outputs[SCORES].shape[-1] in (2, None)
        if not fits:
            raise ValueError(
                f"{WHAT} must be a detector with an input (1, 3, height, width) and the outputs {BOXES} "
                f"(1, candidates, 4) and {SCORES} (1, candidates, 2), got the input {port} and the outputs "
                f"{', '.join(map(str, outputs.values()))}. Export it so, or type face=yes."
            )
        self.size = (int(shape[2] or 0), int(shape[3] or 0))
        self.settings = {
            "detector": "onnx",
            "sha256": self.file.sha256,
            "least_score": LEAST_SCORE,
            "most_overlap": MOST_OVERLAP,
        }

    def __call__(self, image: np.ndarray) -> list[Box]:
        """Boxes of the faces in a frame, without those that overlap one of a higher score."""
        rows, columns = self.size
        picture = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR), np.float32)
        found = self._network.run(((picture - MEAN) / SCALE).transpose(2, 0, 1)[None], [BOXES, SCORES])
        scores = found[SCORES].reshape(-1, 2)[:, 1]
        height, width = image.shape[:2]
        sides = found[BOXES].reshape(-1, 4) * (width, height, width, height)
        faces: list[Box] = []
        for index in np.argsort(-scores, kind="stable"):
            if not scores[index] >= LEAST_SCORE:
                break
            box = Box(*map(float, sides[index]))
            if box.area > 0 and all(box.overlap(other) <= MOST_OVERLAP for other in faces):
                faces.append(box)
        return faces

    @cached_property
    def _network(self) -> Network:
        return Network(self.file, WHAT, 1)  # every worker has one core

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "size": self.size, "settings": self.settings}
