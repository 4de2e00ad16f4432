"""Encoding of loaded clips into the rows of an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amr.common.processes import first_line
from amr.extract.cache.journal import Failure
from amr.extract.cache.reader import EmbeddingInfo
from amr.extract.cache.writer import Embedded
from amr.extract.encoders import Encoder
from amr.extract.pipeline.load import Loaded


def describe(name: str, encoder: Encoder, dtype: str) -> EmbeddingInfo:
    """Description of an encoder's embedding, as a cache stores it."""
    return EmbeddingInfo(
        name=name,
        modality=encoder.modality,
        encoder=encoder.spec,
        weights_sha256=encoder.weights_sha256,
        preprocessing=encoder.preprocessing,
        dtype=dtype,
        embed_dim=encoder.embed_dim,
        max_steps=encoder.max_steps,
        random_weights=encoder.random_weights,
    )


def encode(encoder: Encoder, info: EmbeddingInfo, clips: Sequence[Loaded], start: int, ids: Sequence[str]) -> Embedded:
    """Rows of one embedding for a batch of clips.

    Args:
        encoder: Encoder of the embedding.
        info: Description of the embedding.
        clips: Clips of the batch.
        start: Row of the first clip.
        ids: Ids of the clips.
    """
    reasons = {i: clip.failures[info.name] for i, clip in enumerate(clips) if info.name in clip.failures}
    selected = [i for i, clip in enumerate(clips) if info.name in clip.inputs]
    outputs, errors = _embed(encoder, [clips[i].inputs[info.name] for i in selected])
    values = np.zeros((len(clips), *info.row_shape), dtype=info.dtype)
    present = np.zeros(len(clips), dtype=bool)
    num_steps = np.zeros(len(clips), dtype=np.int32)
    faces = np.zeros(len(clips), dtype=np.float32)
    for i, output, error in zip(selected, outputs, errors, strict=True):
        row = None if output is None else output.numpy()
        problem = error if row is None else _problem(row, info)
        if row is None or problem:
            reasons[i] = f"{info.name}: {problem}"
            continue
        faces[i] = clips[i].faces.get(info.name, 0)
        if info.max_steps is None:
            values[i], present[i] = row, True
        else:
            values[i, : len(row)], present[i], num_steps[i] = row, True, len(row)
    failures = [Failure(start + i, ids[i], info.modality, reasons[i]) for i in sorted(reasons)]
    steps = None if info.max_steps is None else num_steps
    return Embedded(values, present, steps, tuple(failures), faces if info.has_faces else None)


def _embed(encoder: Encoder, inputs: Sequence[Tensor]) -> tuple[list[Tensor | None], list[str]]:
    """Embedding or error of each clip. If a batch fails, clips are tried one by one, so that one spoils no other.

    Raises:
        RuntimeError: Every one of several clips fails, so the fault is not in the clips.
    """
    if not inputs:
        return [], []
    outputs, batch_error = _try(encoder, inputs)
    if batch_error is None:
        return list(outputs), [""] * len(inputs)
    tried = [_try(encoder, [each]) for each in inputs]
    if len(inputs) > 1 and not any(output for output, _ in tried):
        out_of_memory = isinstance(batch_error, torch.OutOfMemoryError)
        raise RuntimeError(
            f"encoder {encoder.spec} must embed some clip of a batch, got {first_line(batch_error)}. "
            + ("Pass --device cpu, or free memory of the device" if out_of_memory else "Choose another encoder")
            + "; finished clips are saved."
        ) from batch_error
    return [output[0] if output else None for output, _ in tried], [
        first_line(error) if error else "" for _, error in tried
    ]


def _try(encoder: Encoder, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Exception | None]:
    try:
        return list(encoder.embed(inputs)), None
    except Exception as error:
        return [], error


def _problem(row: np.ndarray, info: EmbeddingInfo) -> str | None:
    """Reason why a row cannot be stored, None if it can."""
    if row.shape[-1:] != (info.embed_dim,) or row.ndim != len(info.row_shape):
        raise RuntimeError(f"encoder {info.encoder} must give {info.row_shape}, got {row.shape}. Correct the encoder.")
    if info.max_steps is not None and not 1 <= len(row) <= info.max_steps:
        return f"has {len(row)} steps, not 1 to {info.max_steps}"
    if not np.isfinite(row).all():
        return "the embedding is not finite"
    with np.errstate(over="ignore"):
        if not np.isfinite(row.astype(info.dtype)).all():
            return f"a value of {np.abs(row).max():g} does not fit into {info.dtype}; pass --dtype float32"
    return None
