"""The tensor in a module's output that goes on to the rest of the model: found by name, and replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from amr.common.registry import unknown

Path = tuple[str, ...]


def tensors_of(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every floating-point tensor of an output with the path to it: fields and positions.

    >>> from collections import namedtuple
    >>> output = (torch.zeros(2), {"hidden": torch.ones(3)}, None, torch.tensor([1, 2]))
    >>> [(".".join(path), tuple(tensor.shape)) for path, tensor in tensors_of(output)]
    [('0', (2,)), ('1.hidden', (3,))]
    """
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield path, output
    else:
        for name, value in _fields(output):
            yield from tensors_of(value, (*path, name))


def find(output: Any, path: Path | None, module: str) -> Path:
    """Path of the one tensor in an output that is a modality's encoding.

    Args:
        output: Output of the module.
        path: Path that the user named; None for an output of one floating-point tensor.
        module: Name of the module, for errors.

    Raises:
        ValueError: There is no such tensor, or there are several and none was named.
    """
    found = dict(tensors_of(output))
    if not found:
        raise ValueError(
            f"{module} must return a tensor of floating-point numbers, got {type(output).__name__}. "
            "Name the module that returns the encoding."
        )
    if path is None:
        if len(found) > 1:
            listed = ", ".join(f"{'.'.join(each)} {tuple(tensor.shape)}" for each, tensor in found.items())
            first = ".".join(next(iter(found)))
            raise ValueError(
                f"{module} must return one tensor, or its tensor must be named, got {listed}. "
                f'Name the one that goes on, for example "{module}:{first}".'
            )
        return next(iter(found))
    if path not in found:
        raise unknown(f"the tensor of {module}", ".".join(path), [".".join(each) for each in found])
    return path


def replaced(output: Any, change: Callable[[Path, Tensor], Tensor], path: Path = ()) -> Any:
    """Copy of an output with every floating-point tensor changed; other values are the same objects.

    >>> replaced((torch.zeros(1), {"x": torch.ones(1)}), lambda path, tensor: tensor + len(path))
    (tensor([1.]), {'x': tensor([3.])})
    """
    if isinstance(output, Tensor):
        return change(path, output) if output.is_floating_point() else output
    parts = {name: replaced(value, change, (*path, name)) for name, value in _fields(output)}
    if not parts:
        return output
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(**parts)
    if isinstance(output, tuple | list):
        return type(output)(parts.values())
    changed = copy.copy(output)
    for name, value in parts.items():
        if isinstance(output, Mapping):
            changed[name] = value
        else:
            setattr(changed, name, value)
    return changed


def _fields(output: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of an output's fields, entries or positions that may hold tensors."""
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, tuple | list):
        yield from ((str(i), value) for i, value in enumerate(output))
    elif isinstance(output, Mapping):
        yield from ((name, value) for name, value in output.items() if isinstance(name, str))
    elif hasattr(output, "__dict__") and not isinstance(output, torch.nn.Module):
        yield from vars(output).items()
