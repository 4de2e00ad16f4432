"""What an encoder is, which families there are, and how one is built from its spec.

Nothing here imports torch: a family's module is imported when one of its encoders is built.
"""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from amr.data_manifests.registry import Registry
from amr.extract.encoders.spec import Spec
from amr.extract.sampling import FrameSampling

if TYPE_CHECKING:
    from typing import Self

    import torch
    from torch import Tensor


class Prepare(ABC):
    """Turns one clip's media into an encoder's input; small, picklable, without the model: it runs in a worker.

    Attributes:
        sampling: which frames it wants; None where it wants sound.
        sample_rate_hz: at which rate it wants the sound; None where it wants frames.
    """

    sampling: FrameSampling | None = None
    sample_rate_hz: int | None = None

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
        prepare: what to do to a clip's media before `embed`.
    """

    modality: str
    spec: str
    embed_dim: int
    max_steps: int | None
    preprocessing: dict[str, Any]
    weights_sha256: str = ""
    random_weights: bool = False
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


@dataclass(frozen=True)
class EncoderInfo:
    """A line of `amr encoders`.

    Args:
        spec: what to type; `<model>` stands for any model of the family.
        modality: "audio", "video", or both with a stroke between.
        embed_dim: None where it is known only once the model is built.
        summary: what it is.
    """

    spec: str
    modality: str
    embed_dim: int | None
    summary: str


@dataclass(frozen=True)
class Family:
    """A kind of encoder.

    Args:
        module: where `build(spec, name) -> Encoder` and `list_models() -> Iterable[EncoderInfo]` are.
        overview: what `amr encoders` says of it without a pattern; None: every model it lists.
    """

    module: str
    overview: EncoderInfo | None = None

    @property
    def build(self) -> Callable[[Spec, str], Encoder]:
        """Builds one of its encoders, for an embedding of that name."""
        return import_module(self.module).build

    @property
    def list_models(self) -> Callable[[], Iterable[EncoderInfo]]:
        """Every encoder it has."""
        return import_module(self.module).list_models


families: Registry[Family] = Registry("encoder family")
families.register("logmel")(
    Family(
        "amr.extract.encoders.logmel",
        EncoderInfo("logmel", "audio", 400, "log-mel bands over 10 parts of the clip; no weights"),
    )
)
families.register("frames")(
    Family(
        "amr.extract.encoders.frames",
        EncoderInfo("frames", "video", 2560, "10 small grey frames; no weights"),
    )
)


def build_encoder(spec: str, name: str) -> Encoder:
    """The encoder that a spec describes.

    Args:
        spec: `family[:model][,option=value]...`.
        name: of the embedding; "audio" or "video" decides for families that serve both.

    Raises:
        ValueError: an unknown family, model or option, or a wrong value.
        FileNotFoundError: its weights are not there and cannot be fetched.
    """
    parsed = Spec.parse(spec)
    return families[parsed.family].build(parsed, name)


def list_encoders(pattern: str | None = None) -> list[EncoderInfo]:
    """What there is to encode with.

    Args:
        pattern: part of a name, or a pattern with `*`; None: the families, and the models of the small ones.
    """
    found: list[EncoderInfo] = []
    for _, family in families.items():
        if pattern is None and family.overview is not None:
            found.append(family.overview)
        else:
            found += family.list_models()
    if pattern is None:
        return found
    wanted = pattern if any(each in pattern for each in "*?[") else f"*{pattern}*"
    return [info for info in found if fnmatch.fnmatchcase(info.spec.lower(), wanted.lower())]
