"""Tensors of .pt files, read without running code."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import stack_clips


def read_torch(spec: ArraySpec, expected: Expected) -> Rows:
    """Read a tensor, a list of them, or tensors by key."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(spec.path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise _refused(spec, error) from error
    if not isinstance(content, Mapping):
        content = {"tensor": content}
    arrays = {str(key): value for key, value in content.items()}
    return select(spec, arrays, lambda value: _to_array(value, spec.path.name), expected)


def _refused(spec: ArraySpec, error: Exception) -> Exception:
    """Error for a file that weights_only refuses, by the kind of object that it names."""
    found = re.search(r"(?:GLOBAL|Unsupported (?:global|class))\s*:?\s*(?:GLOBAL )?([\w.]+)", str(error))
    if found is None:
        return OSError("something that torch.save did not write")
    kind = "numpy arrays" if found[1].startswith("numpy") else f"{found[1]} objects"
    advice = "torch.from_numpy(array)" if kind == "numpy arrays" else "a dict of tensors"
    return ValueError(
        f"{spec.path.name} must be a readable .pt file of tensors only, got {kind}, which cannot be read without "
        f"running code. Save {advice} with torch.save, or the array with np.save."
    )


def _to_array(value: Any, place: str) -> np.ndarray:
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.layout != torch.strided:
            value = value.to_dense()
        return np.asarray(value.float() if value.dtype == torch.bfloat16 else value)
    if isinstance(value, list | tuple) and any(isinstance(each, torch.Tensor) for each in value):
        names = [f"element {i}" for i in range(len(value))]
        return stack_clips([_to_array(each, place) for each in value], names, place)
    if isinstance(value, Mapping):
        raise ValueError(f"{place} must hold one tensor per key, got a dict in a dict. Save the inner one by itself.")
    return np.asarray(value)
