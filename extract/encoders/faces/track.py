"""The largest face of a clip, followed from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from amr.extract.encoders.faces.boxes import Box
from amr.extract.encoders.faces.detect import Detector

LEAST_OVERLAP = 0.1  # of a face with itself in the next frame
PATIENCE = 1  # frames in which only other faces are seen, before the largest of them is followed
STEP = 0.5  # of the box towards the face in each frame
MARGIN = 0.25  # of the box's width and height, on each side
SETTINGS: dict[str, Any] = {
    "least_overlap": LEAST_OVERLAP,
    "patience": PATIENCE,
    "step": STEP,
    "margin": MARGIN,
}


class Track:
    """Crops of one clip's frames, which come one by one in their order.

    The first face is the largest. In each later frame it is the face that overlaps it most, and the box moves half-way
    there. Without such a face the box stays where it is; if there are other faces twice in a row, as after a cut, the
    largest of them is followed from there on. Frames before the first face stay whole.

    Args:
        detector: Detector of faces.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._face: Box | None = None  # as last detected
        self._box: Box | None = None  # as last used, without its margin
        self._num_others = 0

    def cut(self, image: np.ndarray) -> tuple[np.ndarray, bool]:
        """Crop of the next frame, `(height, width, 3)`, and whether the face was found in it."""
        faces = self._detector(image)
        is_found = self._follow(faces)
        return (image if self._box is None else self._box.widened(MARGIN).cut(image)), is_found

    def _follow(self, faces: list[Box]) -> bool:
        if not faces:
            return False
        if self._face is not None and self._box is not None:
            nearest = max(faces, key=self._face.overlap)
            if self._face.overlap(nearest) >= LEAST_OVERLAP:
                self._face, self._box, self._num_others = nearest, self._box.towards(nearest, STEP), 0
                return True
            self._num_others += 1
            if self._num_others <= PATIENCE:
                return False
        self._face = self._box = max(faces, key=lambda face: face.area)
        self._num_others = 0
        return True
