"""Encodings and presence as callers pass them, checked; errors name the modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def named_encodings(z: Any) -> dict[str, Tensor]:
    """Modality to its encoding, detached. A sequence gets the names 0, 1, ...

    Args:
        z: Mapping from modality, or sequence of tensors, each `(batch, ..., dim)`.

    Raises:
        ValueError: z is something else, or a value is not a dense tensor of floating-point numbers.
    """
    if isinstance(z, Mapping) or (hasattr(z, "items") and hasattr(z, "keys")):
        named = {str(name): value for name, value in z.items()}
    elif isinstance(z, Sequence) and not isinstance(z, str):
        named = {str(i): value for i, value in enumerate(z)}
    else:
        raise ValueError(
            f"z must be a mapping from modality, or a tuple of tensors, got {_kind(z)}. "
            "Pass for example {'audio': audio, 'video': video}."
        )
    if not named:
        raise ValueError("z must have at least one modality, got none. Pass for example {'audio': audio}.")
    for name, value in named.items():
        _check_tensor(name, value)
    # a tensor made under inference_mode cannot be differentiated, but its copy can
    return {name: value.detach().clone() if value.is_inference() else value.detach() for name, value in named.items()}


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided:
        raise ValueError(
            f"z[{name!r}] must be a dense tensor (batch, ..., dim), got {_kind(value)}. "
            "Pad sequences with zeros, and leave out a modality that no clip has."
        )
    if not value.is_floating_point():
        raise ValueError(
            f"z[{name!r}] must be floating-point numbers, got {value.dtype}. Pass the encoding, not tokens or indices."
        )
    if value.ndim < 2:
        raise ValueError(
            f"z[{name!r}] must be (batch, ..., dim), got {tuple(value.shape)}. Add the missing axis with unsqueeze."
        )


def presence(present: Any, z: Mapping[str, Tensor]) -> Tensor:
    """Which clip has which modality, bool `(..., clips, modalities)`, on the device of z.

    Args:
        present: Array of bool, or of 0 and 1; None if every clip has every modality.
        z: Modality to its encoding.

    Raises:
        ValueError: Values or shape do not fit, or the encodings are not of the same clips.
    """
    first = next(iter(z.values()))
    shape: tuple[int, ...] = (len(first), len(z))
    if present is None:
        present = torch.ones(shape, dtype=torch.bool, device=first.device)
    try:
        present = torch.as_tensor(present).detach().to(first.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"present must be bool (batch, modalities), here {shape}, got {_kind(present)}. "
            f"Its columns are {', '.join(z)}."
        ) from None
    if present.dtype != torch.bool:
        if not bool(((present == 0) | (present == 1)).all()):
            raise ValueError(
                f"present must hold True and False, got {present.dtype} of other values. Pass present > 0."
            )
        present = present.bool()
    if present.ndim < 2 or present.shape[-1] != len(z):
        raise ValueError(
            f"present must be bool (batch, modalities), here {shape}, got {tuple(present.shape)}. "
            f"Its columns are {', '.join(z)}."
        )
    _check_clips(z, present)
    return present


def clip_numbers(partners: Any, present: Tensor) -> Tensor:
    """Partner of each clip, `(..., clips)`; None for a random permutation, the same for all runs.

    Args:
        partners: Clip numbers, `(..., clips)` or `(clips,)`.
        present: Bool `(..., clips, modalities)`.

    Raises:
        ValueError: partners are not numbers of the clips.
    """
    clips = present.shape[:-1]
    if partners is None:
        return torch.randperm(clips[-1], device=present.device).expand(clips)
    found = torch.as_tensor(partners, device=present.device)
    fits = found.shape in (clips, clips[-1:]) and not (found.is_floating_point() or found.dtype == torch.bool)
    if not fits or not bool(((found >= 0) & (found < clips[-1])).all()):
        raise ValueError(
            f"partners must be {clips[-1]} clip numbers from 0 to {clips[-1] - 1}, got {found.dtype} "
            f"{tuple(found.shape)}. Pass for example torch.randperm({clips[-1]})."
        )
    return found.long().expand(clips)


def _check_clips(z: Mapping[str, Tensor], present: Tensor) -> None:
    """The axes before a clip's own must be those of `present`; runs may share clips (`of_runs`)."""
    clips = present.shape[:-1]
    for value in z.values():
        ours = value.shape[: len(clips)]
        shared = len(clips) > 1 and ours[1:] == clips[1:] and ours[0] > 0 and clips[0] % ours[0] == 0
        if ours != clips and not shared:
            shapes = ", ".join(f"{name} {tuple(each.shape)}" for name, each in z.items())
            raise ValueError(
                f"z must have the same clips in every modality and in present {tuple(present.shape)}, got {shapes}. "
                "Pass one row per clip, clips on the first axis."
            )


def check_values(z: Mapping[str, Tensor], share: Tensor, present: Tensor) -> None:
    """Refuse encodings that are not finite; warn of modalities without any part in the decisions.

    Args:
        z: Modality to its encoding.
        share: Shares `(..., clips, modalities)`, 0 where undefined.
        present: Bool `(..., clips, modalities)`.

    Raises:
        ValueError: An encoding is not finite.
    """
    if share.is_cuda and torch.cuda.is_current_stream_capturing():
        return  # a recording cannot look at values
    shared_by = present & (present.sum(-1, keepdim=True) >= min(2, len(z)))
    unused = shared_by.flatten(0, -2).any(0) & ((share == 0) | ~shared_by).flatten(0, -2).all(0)
    finite = torch.stack([torch.isfinite(value).all() for value in z.values()])
    is_finite, is_unused = torch.stack([finite, unused]).tolist()  # one wait for the device
    for name, fine in zip(z, is_finite, strict=True):
        if not fine:
            raise ValueError(
                f"z[{name!r}] must be finite, got NaN or infinity. Put zeros where it is absent, and False in present."
            )
    names = [name for name, flag in zip(z, is_unused, strict=True) if flag]
    if len(names) == len(z):
        warnings.warn(
            "no clip has a share: the logits of head do not depend on z, z is all 0, or the logits are not finite",
            stacklevel=4,
        )
    elif names:
        warnings.warn(
            f"{', '.join(names)} has no part in any decision of this batch: head does not read it from its argument, "
            "detaches it, or it is all 0. If it was dropped on purpose, mark it absent in present",
            stacklevel=4,
        )


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    layout = f" with layout {value.layout}" if isinstance(value, Tensor) and value.layout != torch.strided else ""
    return f"a {type(value).__name__}{layout}"
