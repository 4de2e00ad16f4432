"""Option `face=` of every encoder of frames: it sees the largest face instead of the whole frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from amr.extract.encoders.base import Encoder, PrepareEachFrame
from amr.extract.encoders.faces.detect import Cascade, Detector, ExportedDetector
from amr.extract.encoders.faces.track import SETTINGS, Track
from amr.extract.encoders.spec import Spec
from amr.extract.media.spool import Spool, blocks, mapping_of

INPUT, FACE = "input", "face"  # fields of a frame that was cut and reduced
OPTION, NO, YES = "face", "no", "yes"
BLOCK_FRAMES = 64


@dataclass(frozen=True)
class FaceOption:
    """Value of the option `face`.

    Args:
        face: no, yes for OpenCV's detector, or the file of another one.
    """

    face: str = NO

    @classmethod
    def split(cls, spec: Spec) -> tuple[FaceOption, Spec]:
        """Separate this option of a spec from the others."""
        others = {name: text for name, text in spec.options.items() if name != OPTION}
        return cls(spec.options.get(OPTION, NO)), Spec(spec.family, spec.model, others)

    def apply(self, encoder: Encoder) -> None:
        """Let an encoder see faces. Only then does the option enter its preprocessing and its spec.

        Raises:
            ValueError: The encoder takes no frames one by one, or sees faces already; or there is no such detector.
            FileNotFoundError: There is no such file.
        """
        if self.face == NO:
            return
        if not isinstance(encoder.prepare, PrepareEachFrame):
            raise ValueError(f"face must be used with an encoder of frames, got {encoder.spec}. Leave it out.")
        if isinstance(encoder.prepare, FacePrepare):
            raise ValueError(
                f"face must be given once, got it for {encoder.spec}, which sees faces already. Leave it out."
            )
        if self.face != YES and not self.face.endswith(".onnx"):
            raise ValueError(f"face must be no, yes or an .onnx file, got {self.face!r}. Type face=yes.")
        detector = Cascade() if self.face == YES else ExportedDetector(self.face)
        encoder.prepare = FacePrepare(encoder.prepare, detector)
        encoder.preprocessing = {**encoder.preprocessing, OPTION: {**detector.settings, **SETTINGS}}
        encoder.spec = str(Spec.parse(encoder.spec).with_option(OPTION, self.face))


class FacePrepare(PrepareEachFrame):
    """Prepare of an encoder's own, on the crops of a face.

    A reduced frame is a record: the encoder's input, and 1 if the face was found in it, else 0.

    Args:
        own: Prepare of the encoder.
        detector: Detector of faces.
    """

    def __init__(self, own: PrepareEachFrame, detector: Detector) -> None:
        self.own, self.detector = own, detector
        self.sampling, self.folder_fps = own.sampling, own.folder_fps

    def begin(self) -> Callable[[np.ndarray], np.ndarray]:
        """Follow the face of one clip."""
        track, reduce = Track(self.detector), self.own.begin()

        def frame(image: np.ndarray) -> np.ndarray:
            crop, is_found = track.cut(image)
            reduced = reduce(np.ascontiguousarray(crop))
            record = np.empty((), [(INPUT, reduced.dtype, reduced.shape), (FACE, np.float32)])
            record[INPUT], record[FACE] = reduced, is_found
            return record

        return frame

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Reduce one frame alone."""
        return self.begin()(image)

    def join(self, frames: np.ndarray) -> Tensor:
        """Prepare one clip from its reduced frames."""
        inputs = Spool()
        for block in blocks(frames, BLOCK_FRAMES if mapping_of(frames) is not None else max(1, len(frames))):
            inputs.append(np.ascontiguousarray(block[INPUT]))
        return self.own.join(inputs.finish())

    def faces(self, frames: np.ndarray) -> float:
        """Fraction of one clip's frames in which the face was found."""
        return float(frames[FACE].mean(dtype=np.float64))
