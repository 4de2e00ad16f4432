"""Inputs of one modality: a tensor `(batch, ...)`, or a mapping of such tensors, as a tokenizer returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Value = Any  # Tensor, or a mapping from names to Values


def tensors_of(value: Value) -> Iterator[Tensor]:
    """Yield the tensors of a value."""
    if isinstance(value, Tensor):
        yield value
    else:
        for each in value.values():
            yield from tensors_of(each)


def is_value(value: object) -> bool:
    """Whether something is a tensor, or a mapping of tensors that is not empty."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_value, value.values()))
    return isinstance(value, Tensor)


def map_tensors(function: Callable[..., Tensor], *values: Value) -> Value:
    """Apply a function to the tensors of values of one structure.

    >>> map_tensors(lambda x: x + 1, {"ids": torch.tensor([1, 2])})
    {'ids': tensor([2, 3])}
    """
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    return {name: map_tensors(function, *(value[name] for value in values)) for name in first}


def num_clips(value: Value) -> int:
    """Number of clips: the length of the first axis."""
    return len(next(tensors_of(value)))


def num_bytes(value: Value) -> int:
    """Size in memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(value))


def clips_of(value: Value) -> list[Value]:
    """Value of each clip, copied: a view would hold the memory of its batch."""
    return [map_tensors(lambda x, i=i: x[i].clone(), value) for i in range(num_clips(value))]


def stack(clips: Sequence[Value]) -> Value:
    """Value of several clips, `(clips, ...)`; shorter ones are padded with zeros at the end of each axis.

    >>> stack([torch.tensor([1, 2]), torch.tensor([3])])
    tensor([[1, 2],
            [3, 0]])
    """
    return map_tensors(lambda *tensors: _stack(tensors), *clips)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) == 1:
        return torch.stack([*tensors])
    largest = torch.tensor([[*shape] for shape in shapes]).amax(0).tolist()
    result = tensors[0].new_zeros(len(tensors), *largest)
    for row, tensor in zip(result, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return result
