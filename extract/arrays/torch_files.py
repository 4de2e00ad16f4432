"""Tensors of .pt files, read without running code."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from amr.common.files.memory import check_memory
from amr.extract.arrays.keys import select
from amr.extract.arrays.rows import ArraySpec, Expected, Rows
from amr.extract.arrays.stack import ClipArrays, stack_clips

if TYPE_CHECKING:
    from torch import Tensor

NOT_SAVED = "something that torch.save did not write"


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


def refused_objects(error: Exception) -> str | None:
    """Kind of the objects for which weights_only refuses a file; None for a file that torch.save did not write.

    PyTorch's own text is of no use to a user: it advises to read the file with weights_only=False, which runs its code.
    """
    found = re.search(r"(?:GLOBAL|Unsupported (?:global|class))\s*:?\s*(?:GLOBAL )?([\w.]+)", str(error))
    if found is None:
        return None
    return "numpy arrays" if found[1].startswith("numpy") else f"{found[1]} objects"


def _refused(spec: ArraySpec, error: Exception) -> Exception:
    kind = refused_objects(error)
    if kind is None:
        return OSError(NOT_SAVED)
    advice = "torch.from_numpy(array)" if kind == "numpy arrays" else "a dict of tensors"
    return ValueError(
        f"{spec.path.name} must be a readable .pt file of tensors only, got {kind}, which cannot be read without "
        f"running code. Save {advice} with torch.save, or the array with np.save."
    )


def _to_array(value: Any, place: str) -> np.ndarray | ClipArrays:
    import torch

    if isinstance(value, torch.Tensor):
        return _plain(value.detach(), place)
    if isinstance(value, list | tuple) and any(isinstance(each, torch.Tensor) for each in value):
        names = [f"element {i}" for i in range(len(value))]
        return stack_clips([_to_array(each, place) for each in value], names, place)
    if isinstance(value, Mapping):
        raise ValueError(f"{place} must hold one tensor per key, got a dict in a dict. Save the inner one by itself.")
    return np.asarray(value)


def _plain(value: Tensor, place: str) -> np.ndarray | ClipArrays:
    """Numbers of a tensor of any kind; types that NumPy lacks become float32."""
    import torch

    if value.is_nested:
        return stack_clips(
            [_plain(each, place) for each in value.unbind()], [f"row {i}" for i in range(value.size(0))], place
        )
    if value.is_meta:
        raise ValueError(f"{place} must hold numbers, got a meta tensor, which has none. Save it again with its data.")
    num_bytes = value.numel() * (8 if value.dtype.itemsize == 8 else 4)
    if value.layout != torch.strided:
        check_memory(num_bytes, f"{place}, made dense,", "Save fewer dimensions.")
        value = value.to_dense()
    if value.is_quantized:
        value = value.dequantize()
    if value.dtype.is_floating_point and value.dtype not in (torch.float16, torch.float32, torch.float64):
        value = value.float()
    return np.asarray(value.resolve_conj().resolve_neg())
