"""Content of a store: the prepared input of each encoder, of the same shape for every clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from amr.extract.encoders import Encoder
from amr.extract.pipeline.batches import Batch, run_batches
from amr.extract.pipeline.load import Loaded
from amr.extract.pipeline.workers import ClipLoader


@dataclass(frozen=True)
class StoredInput:
    """Stored input of an encoder.

    Attributes:
        name: Name of the embedding.
        encoder: Encoder that prepares it.
        num_samples: Number of samples of every clip, if the input is a waveform.
    """

    name: str
    encoder: Encoder
    num_samples: int | None

    @classmethod
    def of(cls, name: str, encoder: Encoder, max_seconds: float | None) -> Self:
        """Input of an encoder; waveforms are cut or padded to `max_seconds`.

        Raises:
            ValueError: The input is a waveform and `max_seconds` is None.
        """
        prepare = encoder.prepare
        if not prepare.waveform or prepare.sample_rate_hz is None:
            return cls(name, encoder, None)
        if max_seconds is None:
            raise ValueError(
                f"max_seconds must be given for --encoder {name}={encoder.spec}, whose inputs are as long as their "
                "clips, got none. Pass --clip-seconds 10."
            )
        return cls(name, encoder, round(max_seconds * prepare.sample_rate_hz))

    def cut(self, x: Tensor) -> Tensor:
        """Prepared tensor without the samples that do not fit into the store."""
        return x if self.num_samples is None else x[: self.num_samples]

    def pad(self, x: Tensor) -> Tensor:
        """Padded tensor, as stored. NaN carries the length: zeros would be silence."""
        if self.num_samples is None:
            return x
        return functional.pad(x, (0, self.num_samples - len(x)), value=torch.nan)

    def identity(self) -> dict[str, Any]:
        """Everything except the clips that determines the stored tensors."""
        prepare = type(self.encoder.prepare)
        return {
            "modality": self.encoder.modality,
            "prepare": f"{prepare.__module__}.{prepare.__qualname__}",
            "preprocessing": self.encoder.preprocessing,
            "num_samples": self.num_samples,
        }


def learn_shapes(loader: ClipLoader, num_clips: int, inputs: Mapping[str, StoredInput]) -> dict[str, tuple[int, ...]]:
    """Shapes of the first clips that can be prepared, searched in batches of growing size.

    Raises:
        RuntimeError: An encoder cannot prepare any clip.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    reasons: dict[str, str] = {}

    def look(batch: Batch, loaded: list[Loaded]) -> None:
        for clip in loaded:
            for name, x in clip.inputs.items():
                shapes.setdefault(name, tuple(inputs[name].pad(inputs[name].cut(x)).shape))
            for name, reason in clip.failures.items():
                reasons.setdefault(name, reason)

    start, size = 0, 1
    while start < num_clips and len(shapes) < len(inputs):
        unknown = tuple(name for name in inputs if name not in shapes)
        run_batches(loader, [Batch(start, min(start + size, num_clips), unknown)], look)
        start, size = start + size, 2 * size
    for name, each in inputs.items():
        if name not in shapes:
            raise RuntimeError(
                f"--encoder {name}={each.encoder.spec} must be able to prepare some clip, got none of {num_clips} "
                f"({reasons.get(name, f'none has {each.encoder.modality}')}). Check --root and the media."
            )
    return {name: shapes[name] for name in inputs}
