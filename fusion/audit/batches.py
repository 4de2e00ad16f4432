"""Batches of a model's inputs and targets, and the modalities among the inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from amr.common.files import in_units
from amr.common.registry import unknown
from amr.fusion.audit.targets import read_target
from amr.fusion.audit.values import Value, is_value, num_clips, tensors_of

Key = str | int
Requested = Sequence[str] | Mapping[str, Key | Sequence[Key]] | None
OF_TOKENIZERS = ("attention_mask", "token_type_ids")  # which belong to the entry beside them
INPUTS = 'Pass for example {"audio": audio, "video": video} or (audio, video).'


def read_batches(batches: Iterable[Any], target: Key | None, task: str) -> Iterator[tuple[Any, Tensor]]:
    """Yield the inputs and the targets of each batch, the targets as `read_target` returns them.

    Args:
        batches: Batches: pairs of inputs and target, or inputs that hold the target.
        target: Name or position of the target in the inputs; None for pairs.
        task: Task of the model.

    Raises:
        ValueError: A batch has another form.
    """
    for batch in batches:
        inputs, of_clips = _parts(batch, target)
        if isinstance(inputs, Mapping) or hasattr(inputs, "keys"):
            inputs = {name: inputs[name] for name in inputs}
        elif isinstance(inputs, tuple | list):
            inputs = tuple(inputs)
        else:
            kind = type(inputs).__name__
            raise ValueError(f"inputs must be a mapping or a tuple of modalities, got {kind}. {INPUTS}")
        yield inputs, read_target(of_clips, task)


def _parts(batch: Any, target: Key | None) -> tuple[Any, Any]:
    if target is None:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            kind = f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
            raise ValueError(
                f"batches must be pairs of inputs and target, got {kind}. "
                "Pass target= with the name or the position of the target in it, such as target=-1."
            )
        return batch[0], batch[1]
    if isinstance(target, int) and isinstance(batch, tuple | list):
        if not -len(batch) <= target < len(batch):
            raise ValueError(f"target must be a position in batches of {len(batch)}, got {target}. Pass target=-1.")
        rest = [*batch]
        of_clips = rest.pop(target)
        return tuple(rest), of_clips
    names = [*batch] if hasattr(batch, "keys") else []
    if target not in names:
        raise unknown("target", str(target), [str(name) for name in names])
    return {name: batch[name] for name in names if name != target}, batch[target]


def reread(batches: Iterable[Any], most_bytes: int) -> Iterable[Any]:
    """Batches that can be read twice: the same object, or a list if it can be read once only.

    Raises:
        ValueError: It can be read once only, and is larger than `most_bytes`.
    """
    if not isinstance(batches, Iterator):
        return batches
    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += _bytes_of(batch)
        if size > most_bytes:
            raise ValueError(
                f"batches must be readable twice if they are more than {in_units(most_bytes)}, got a "
                f"{type(batches).__name__}. Pass a DataLoader, or raise memory_bytes."
            )
    return held


def _bytes_of(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return batch.numel() * batch.element_size()
    if hasattr(batch, "values"):
        return sum(_bytes_of(value) for value in batch.values())
    return sum(map(_bytes_of, batch)) if isinstance(batch, tuple | list) else 0


@dataclass(frozen=True)
class Modalities:
    """Which inputs of a model are which modality.

    Args:
        keys: Modality to the names or positions of its inputs.
    """

    keys: Mapping[str, tuple[Key, ...]]

    @classmethod
    def of(cls, inputs: Any, requested: Requested) -> Modalities:
        """Find the modalities of a batch.

        Args:
            inputs: Inputs of the first batch, a dict or a tuple.
            requested: Names of the modalities in the order of a tuple, or modality to the inputs that it has; None if
                each input is a modality.

        Raises:
            ValueError: There are fewer than two, an input is unknown, or one is no tensor of clips.
        """
        every: list[Key] = [*inputs] if isinstance(inputs, dict) else [*range(len(inputs))]
        if requested is None:
            beside = [key for key in every if key in OF_TOKENIZERS]
            if beside:
                raise ValueError(
                    f"modalities must say which inputs belong together, got {', '.join(map(str, every))}. "
                    "Pass for example modalities={'text': ['input_ids', 'attention_mask'], 'image': 'pixel_values'}."
                )
            keys: dict[str, tuple[Key, ...]] = {str(key): (key,) for key in every}
        elif isinstance(requested, Mapping):
            keys = {str(m): (v,) if isinstance(v, str | int) else tuple(v) for m, v in requested.items()}
        else:
            if not isinstance(inputs, dict) and len(requested) > len(every):
                raise ValueError(
                    f"modalities must name the inputs in order, got {len(requested)} names for {len(every)}. "
                    "Leave out the others."
                )
            keys = {m: (m if isinstance(inputs, dict) else i,) for i, m in enumerate(requested)}
        _check(keys, inputs, every)
        return cls(keys)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.keys)

    def values(self, inputs: Any) -> dict[str, Value]:
        """Modality to its inputs: the value itself, or a dict of those that belong together."""
        return {
            m: inputs[keys[0]] if len(keys) == 1 else {str(key): inputs[key] for key in keys}
            for m, keys in self.keys.items()
        }

    def replaced(self, inputs: Any, values: Mapping[str, Value]) -> Any:
        """Inputs with those of some modalities replaced."""
        changed = dict(inputs) if isinstance(inputs, dict) else [*inputs]
        for m, value in values.items():
            keys = self.keys[m]
            for key in keys:
                changed[key] = value if len(keys) == 1 else value[str(key)]  # type: ignore[index]
        return changed if isinstance(changed, dict) else tuple(changed)


def _check(keys: Mapping[str, tuple[Key, ...]], inputs: Any, every: Sequence[Key]) -> None:
    if len(keys) < 2:
        raise ValueError(f"modalities must be two or more, got {', '.join(keys) or 'none'}. {INPUTS}")
    used = [key for of_one in keys.values() for key in of_one]
    for key in used:
        if key not in every:
            raise unknown("modalities", str(key), [str(each) for each in every])
        if used.count(key) > 1:
            raise ValueError(f"modalities must have inputs of their own, got {key!r} twice. Name it once.")
        if not is_value(inputs[key]):
            raise ValueError(
                f"input {key!r} must be a tensor (batch, ...) or a mapping of such, got {type(inputs[key]).__name__}. "
                "Name the modalities without it: modalities=[...]."
            )
    lengths = {key: {len(tensor) if tensor.ndim else 0 for tensor in tensors_of(inputs[key])} for key in used}
    if len(set().union(*lengths.values())) > 1:
        listed = ", ".join(f"{key!r} of {'/'.join(map(str, sorted(each)))}" for key, each in lengths.items())
        raise ValueError(f"inputs must have clips on the first axis, as many in each, got {listed}. Check their axes.")


def caller(model: Callable[..., Any], inputs: Any) -> Callable[[Any], Any]:
    """Function that calls a model with its inputs.

    It calls `model(*inputs)` for a tuple; for a mapping, `model(**inputs)` if its parameters have these names, else
    `model(inputs)`.

    Args:
        model: Module or function.
        inputs: Inputs of the first batch, a dict or a tuple.
    """
    if not isinstance(inputs, dict):
        return lambda each: model(*each)
    try:
        function = model.forward if isinstance(model, nn.Module) else model
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return lambda each: model(each)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if set(inputs) <= named or (not named and any(p.kind is p.VAR_KEYWORD for p in parameters)):
        return lambda each: model(**each)
    return lambda each: model(each)


def check_lengths(values: Mapping[str, Value], target: Tensor) -> None:
    """Raise ValueError unless every modality has as many clips as there are targets."""
    for m, value in values.items():
        if num_clips(value) != len(target):
            raise ValueError(
                f"target must have one row per clip, got {len(target)} for {num_clips(value)} of {m}. "
                "Put clips on the first axis of every input."
            )
