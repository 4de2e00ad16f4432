"""What an encoder is. Nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amr.extract.media.sampling import FrameSampling

if TYPE_CHECKING:
    from typing import Self

    import torch
    from torch import Tensor


class Prepare(ABC):
    """Turns one clip's media into an encoder's input; small, picklable, without the model: it runs in a worker.

    Attributes:
        sampling: which frames it wants; None where it wants sound.
        sample_rate_hz: at which rate it wants the sound; None where it wants frames.
        waveform: it gives (samples,) at that rate, as many as the clip has.
    """

    sampling: FrameSampling | None = None
    sample_rate_hz: int | None = None
    waveform: bool = False

    @abstractmethod
    def __call__(self, media: np.ndarray) -> Tensor:
        """The input of one clip.

        Args:
            media: (frames, height, width, 3) uint8 RGB, or (samples,) float32 mono.
        """


class Encoder(ABC):
    """Turns prepared clips into embeddings.

    Attributes:
        modality: "audio" or "video".
        spec: the shortest spec that builds it again.
        embed_dim: length of an embedding.
        max_steps: None where a clip has one vector, (embed_dim,); else it has up to so many, (steps, embed_dim).
        preprocessing: everything that shapes the embedding besides the weights; can be written as JSON.
        weights_sha256: of the weights; empty where there are none.
        random_weights: the weights are random, because that was asked for.
        trainable: it has weights that `amr train-encoders` can train; it is a ModelEncoder then.
        prepare: what to do to a clip's media before `embed`.
    """

    modality: str
    spec: str
    embed_dim: int
    max_steps: int | None
    preprocessing: dict[str, Any]
    weights_sha256: str = ""
    random_weights: bool = False
    trainable: bool = False
    prepare: Prepare

    def to(self, device: torch.device | str) -> Self:
        """Move it to a device; nothing to move without a model."""
        return self

    @abstractmethod
    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """An embedding for each input, float32 on the CPU; no clip's depends on the others of the batch.

        Args:
            inputs: what `prepare` made of each clip.
        """


class WeightFreeEncoder(Encoder):
    """An encoder whose `prepare` does all the work, so that it is done in the workers."""

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs as they are: they are the embeddings."""
        return list(inputs)
