"""A tapped model: what its encoders returned in the last forward pass, and the rest of it as a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from amr.fusion.attribution.any_head.call import call_with_copied_buffers, evaluation_mode
from amr.fusion.attribution.tap.clips_first import (
    IDENTITY,
    Order,
    as_returned,
    check_order,
    clips_first,
    is_doubtful,
    order_of,
)
from amr.fusion.attribution.tap.leaves import Path, find, replaced, tensors_of
from amr.fusion.attribution.tap.logits import Which, select_logits


@dataclass
class ForwardPass:
    """A forward pass of the model.

    Args:
        args: Arguments of the model by position.
        kwargs: Arguments of the model by name.
        autocast: Type of a device to the precision of autocast, if it was on.
        outputs: Modality to what its encoder returned, one entry per call.
        num_clips: Number of clips, by the logits; None before they are known.
        error: Error of an output without logits.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    autocast: dict[str, torch.dtype] = field(default_factory=dict)
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    num_clips: int | None = None
    error: ValueError | None = None


class Tap:
    """Encodings and head of a model that is one `forward()`; made by `amr.tap`.

    Each forward pass of the model replaces what the tap holds of the one before: references to the inputs, and the
    outputs of the tapped modules with their graph. `remove` ends it; so does leaving a `with` block.

    Args:
        model: Module that is called as a whole.
        modules: Modality to the name of its encoder in the model.
        logits: Which output of the model holds the logits, as for `tap`.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, str], logits: Which = None) -> None:
        self._model, self._which = model, logits
        self._modules = {m: name.partition(":")[0] for m, name in modules.items()}
        self._paths = {m: _path(name) for m, name in modules.items()}
        self._encoders = {m: model.get_submodule(name) for m, name in self._modules.items()}
        self._buffers = tuple(f"{name}." for name in self._modules.values())
        self._is_recording = self._is_replaying = self._is_checked = self._is_paused = False
        self._last = ForwardPass()
        self._hooks = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end),
            *(encoder.register_forward_hook(_Record(self, m)) for m, encoder in self._encoders.items()),
        ]

    def __repr__(self) -> str:
        return f"tap({type(self._model).__name__}, {', '.join(f'{m}={n!r}' for m, n in self._modules.items())})"

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the model has a tap of its own, which has seen no forward pass."""
        return self.__dict__ | {"_last": ForwardPass(), "_is_recording": False}

    @property
    def names(self) -> dict[str, str]:
        """Modality to the name of its module in the model."""
        return dict(self._modules)

    def remove(self) -> None:
        """Remove the hooks from the model, and forget the last forward pass."""
        for hook in self._hooks:
            hook.remove()
        self._last = ForwardPass()

    def pause(self) -> None:
        """Forget the last forward pass, and ignore those until `resume`, such as those of a validation."""
        self._is_paused = True
        self._last = ForwardPass()

    def resume(self) -> None:
        """Take forward passes again."""
        self._is_paused = False

    @property
    def z(self) -> dict[str, Tensor]:
        """Modality to its encoding in the last forward pass, `(batch, ...)`, with its graph.

        A module that was called several times gives `(batch, calls, ...)`.

        Raises:
            ValueError: The model was not called, or what a module returned is not one encoding per clip.
        """
        return {m: self._encoding(m) for m in self._modules}

    def head(self, z: Mapping[str, Tensor]) -> Tensor:
        """Logits of the model with its last inputs, and z in place of what its encoders would return.

        Buffers, such as the statistics of BatchNorm, stay as they are; dropout draws again. What the model reads
        besides the tapped modules (masks, other inputs) is that of the last forward pass.

        Args:
            z: Modality to its encoding, shaped as in `tap.z`.

        Raises:
            ValueError: The model was not called, z has other modalities, shapes or clips, or the model reads other
                tensors of an encoder's output than the one that was named.
        """
        original = self.z
        if set(z) != set(original):
            raise ValueError(f"z must be of {', '.join(original)}, got {', '.join(z)}. Pass tap.z, or the same names.")
        for m, value in z.items():
            if value.shape != original[m].shape:
                raise ValueError(
                    f"z[{m!r}] must be {tuple(original[m].shape)} as in tap.z, got {tuple(value.shape)}. "
                    "Pass encodings of the clips that the model was last called with."
                )
        if not self._is_checked:
            self._check_once(z)
            self._is_checked = True
        return self._logits(z, [])

    def _logits(self, z: Mapping[str, Tensor], others: list[tuple[str, Tensor]]) -> Tensor:
        """Logits with z; the other tensors that the encoders returned are added to `others`."""
        prepared = {m: iter(self._returned(m, value, others)) for m, value in z.items()}
        with self._replay(prepared):
            output = call_with_copied_buffers(self._model, self._last.args, self._last.kwargs, without=self._buffers)
        self._check_calls(prepared)
        return select_logits(output, self._which)

    def _check_calls(self, prepared: Mapping[str, Iterator[Any]]) -> None:
        """Raise ValueError if an encoder was called less often than in the last forward pass."""
        for m, outputs in prepared.items():
            if next(outputs, None) is not None:
                raise ValueError(
                    f"{self._modules[m]} must be called as often as in the last forward pass, got fewer calls. "
                    "Make the forward of the model take the same path each time."
                )

    def _check_once(self, z: Mapping[str, Tensor]) -> None:
        """Check by gradients what the model reads of its encoders' outputs, and that rows are ordered clip by clip."""
        doubtful = [m for m in z if is_doubtful(self._values(m)[0].shape, len(z[m]))]
        if not doubtful and all(len(dict(tensors_of(outputs[0]))) == 1 for outputs in self._last.outputs.values()):
            return
        others: list[tuple[str, Tensor]] = []
        # cuDNN's recurrent layers have no gradient in evaluation mode, in which no layer mixes the clips of a batch
        with evaluation_mode(self._model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            leaves = {m: value.detach().requires_grad_() for m, value in z.items()}
            logits = self._logits(leaves, others)
        tensors = [tensor for _, tensor in others]
        found = torch.autograd.grad(logits.sum(), tensors, retain_graph=True, allow_unused=True) if tensors else ()
        for (name, _), gradient in zip(others, found, strict=True):
            if gradient is not None:
                module = name.partition(":")[0]
                raise ValueError(
                    f"{module} must pass one tensor on to the rest of the model, got {name} beside the tapped one. "
                    f"{IDENTITY.format(module=module)}."
                )
        for m in doubtful:
            check_order(logits, leaves[m], self._modules[m])

    def _returned(self, modality: str, value: Tensor, others: list[tuple[str, Tensor]]) -> list[Any]:
        """Outputs of each call of an encoder with its encoding replaced; its other tensors are added to `others`."""
        outputs, path = self._last.outputs[modality], self._path(modality)
        name = self._modules[modality]

        def change(own: Tensor, at: Path, tensor: Tensor) -> Tensor:
            if at == path:
                return own
            constant = tensor.detach().clone().requires_grad_(not self._is_checked)
            others.append((f"{name}:{'.'.join(at)}", constant))
            return constant

        results = []
        for i, output in enumerate(outputs):
            of_call = value[:, i] if len(outputs) > 1 else value
            own = as_returned(of_call, self._order(modality)).clone()  # the model may change it in place
            results.append(replaced(output, partial(change, own)))
        return results

    @contextmanager
    def _replay(self, prepared: Mapping[str, Iterator[Any]]) -> Iterator[None]:
        """Let the tapped modules return what was prepared, in the precision of the last forward pass."""
        self._is_replaying = True
        with ExitStack() as stack:
            stack.callback(setattr, self, "_is_replaying", False)
            for m, encoder in self._encoders.items():
                stack.enter_context(_forward_replaced(encoder, self._modules[m], prepared[m]))
            for device, dtype in self._last.autocast.items():
                stack.enter_context(torch.autocast(device, dtype))
            yield

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._is_replaying or self._is_paused:
            return
        self._is_recording = True
        devices = {t.device.type for t in model.parameters()} | {"cpu"}
        autocast = {d: torch.get_autocast_dtype(d) for d in devices if torch.is_autocast_enabled(d)}
        self._last = ForwardPass(args, kwargs, autocast)

    def _end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._is_replaying or self._is_paused:
            return
        self._is_recording = False
        try:
            self._last.num_clips = len(select_logits(output, self._which))
        except ValueError as error:  # to be raised where logits are needed: the forward pass itself is fine
            self._last.error = error

    def _record(self, modality: str, output: Any) -> Any:
        """Keep the output of an encoder; pass on a copy of its encoding, which the model may change in place."""
        if self._is_replaying or not self._is_recording:  # not of activation checkpoints, which run in backward
            return None
        self._last.outputs.setdefault(modality, []).append(output)
        return replaced(output, lambda _, tensor: tensor.clone())

    def _path(self, modality: str) -> Path:
        return find(self._last.outputs[modality][0], self._paths[modality], self._modules[modality])

    def _values(self, modality: str) -> list[Tensor]:
        """The encoding of each call, as the module returned it."""
        self._check_called(modality)
        path = self._path(modality)
        return [dict(tensors_of(output))[path] for output in self._last.outputs[modality]]

    def _order(self, modality: str) -> Order:
        return order_of(self._values(modality)[0].shape, self._last.num_clips or 0, self._modules[modality])

    def _encoding(self, modality: str) -> Tensor:
        values, name = self._values(modality), self._modules[modality]
        if len({value.shape for value in values}) > 1:
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            raise ValueError(
                f"{name} must return one shape each time that it is called, got {shapes}. "
                f"{IDENTITY.format(module=name)}."
            )
        ordered = [clips_first(value, self._order(modality), self._last.num_clips or 0) for value in values]
        return ordered[0] if len(ordered) == 1 else torch.stack(ordered, dim=1)

    def _check_called(self, modality: str) -> None:
        if self._last.error is not None:
            raise self._last.error
        if self._last.num_clips is None:
            raise ValueError(
                "the model must be called after it was tapped, got no forward pass. Call the model, then read tap.z; "
                "tap a compiled model before its first call."
            )
        if modality not in self._last.outputs:
            name = self._modules[modality]
            raise ValueError(
                f"{name} must be called by the forward of the model, got no call: the model reads parts of it, or left "
                "it out for this batch. Name a module that it calls."
            )


class _Record:
    """Forward hook of an encoder."""

    def __init__(self, tap: Tap, modality: str) -> None:
        self.tap, self.modality = tap, modality

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return self.tap._record(self.modality, output)


def _path(name: str) -> Path | None:
    _, colon, path = name.partition(":")
    return tuple(path.split(".")) if colon else None


@contextmanager
def _forward_replaced(module: nn.Module, name: str, outputs: Iterator[Any]) -> Iterator[None]:
    """Let a module return the given outputs, one per call."""

    def forward(*_: Any, **__: Any) -> Any:
        try:
            return next(outputs)
        except StopIteration:
            raise ValueError(
                f"{name} must be called as often as in the last forward pass, got more calls. "
                "Make the forward of the model take the same path each time."
            ) from None

    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
