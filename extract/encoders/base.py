"""Interface of encoders. Nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amr.extract.media.sampling import FrameSampling

if TYPE_CHECKING:
    from typing import Self

    import torch
    from torch import Tensor


class Prepare(ABC):
    """Function from one clip's media to an encoder's input.

    It runs in a worker, so it is small, picklable, and does not hold the model.

    Attributes:
        sampling: Frames that it needs; None if it needs sound.
        sample_rate_hz: Sample rate of the sound that it needs; None if it needs frames.
        waveform: Whether it returns `(samples,)` at that rate, as many as the clip has.
        audio_track: Index of the sound stream in a file, None for the file's default.
        folder_fps: Frames per second of a folder of images, None for the default.
    """

    sampling: FrameSampling | None = None
    sample_rate_hz: int | None = None
    waveform: bool = False
    audio_track: int | None = None
    folder_fps: float | None = None

    @abstractmethod
    def __call__(self, media: np.ndarray) -> Tensor:
        """Prepare one clip.

        Args:
            media: Frames, `(frames, height, width, 3)` uint8 RGB, or sound, `(samples,)` float32 mono.
        """


class PrepareEachFrame(Prepare):
    """Prepare that reduces each frame as it is decoded, so that full frames of a long clip are never held together."""

    sampling: FrameSampling

    @abstractmethod
    def frame(self, image: np.ndarray) -> np.ndarray:
        """Reduce one frame, `(height, width, 3)` uint8 RGB, to an array of the same shape for every frame of a clip."""

    def begin(self) -> Callable[[np.ndarray], np.ndarray]:
        """Function that reduces the frames of one clip, in their order; `frame`, unless they depend on each other."""
        return self.frame

    @abstractmethod
    def join(self, frames: np.ndarray) -> Tensor:
        """Prepare one clip from its reduced frames, `(frames, ...)`. They lie in a file if they are many."""

    def faces(self, frames: np.ndarray) -> float | None:
        """Fraction of one clip's reduced frames in which a face was found; None if none was looked for."""
        return None

    def __call__(self, media: np.ndarray) -> Tensor:
        """Prepare one clip from its full frames."""
        reduce = self.begin()
        return self.join(np.stack([reduce(image) for image in media]))


class PrepareText(Prepare):
    """Prepare of an encoder of text."""

    @abstractmethod
    def of_text(self, text: str) -> Tensor:
        """Prepare one clip's text, which is not blank."""

    def __call__(self, media: np.ndarray) -> Tensor:
        """Prepare one clip.

        Args:
            media: Text, an array of no axes.
        """
        return self.of_text(str(media))


class Encoder(ABC):
    """Function from prepared clips to embeddings.

    Attributes:
        modality: Modality, "audio", "video" or "text".
        spec: Shortest spec that builds it again.
        embed_dim: Length of an embedding.
        max_steps: Maximum number of steps of a clip, `(steps, embed_dim)`; None if it is one vector, `(embed_dim,)`.
        preprocessing: All settings besides the weights that shape the embedding, ready for JSON.
        weights_sha256: Checksum of the weights; "" if there are none.
        random_weights: Whether the weights are random, as requested.
        prepare: Function to apply to a clip's media before `embed`.
        notes: Messages for the user about what was embedded so far.
    """

    modality: str
    spec: str
    embed_dim: int
    max_steps: int | None
    preprocessing: dict[str, Any]
    weights_sha256: str = ""
    random_weights: bool = False
    prepare: Prepare
    notes: Sequence[str] = ()

    def to(self, device: torch.device | str) -> Self:
        """Move the model, if there is one, to a device."""
        return self

    @abstractmethod
    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Embed each input, float32 on the CPU. A clip's embedding does not depend on the rest of the batch.

        Args:
            inputs: Result of `prepare` for each clip.
        """


class WeightFreeEncoder(Encoder):
    """Encoder whose `prepare` does all the work, so that it is done in the workers."""

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the inputs: they already are the embeddings."""
        return list(inputs)
