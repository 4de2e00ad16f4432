"""A head of any kind as a function of z and present, with checked logits.

The head may be an `nn.Module` or a function of z, of z and present, or of the tensors of z; it may return logits or an
object that has them, one logit per binary decision, or logits for several positions. While it runs, attention uses
torch's math kernel and compiled modules run uncompiled, because their fast versions have no second derivative; buffers
of a module, such as the statistics of BatchNorm, are copies, so that measuring does not move them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class AnyHead:
    """Function of z and present that calls a head and returns its logits, `(..., clips, [positions,] classes)`.

    Logits of one class are those of a binary decision, sigmoid(x): they become the logits (-x/2, x/2) of two classes.

    Args:
        head: Head as the caller passes it.
        names: Names of the modalities.
        as_arguments: Whether z was a sequence, so that the head is called with its tensors as arguments.

    Attributes:
        inputs: Encodings of the last call.
        is_multiclass: Whether the logits are of classes, so that a single one is a binary decision.
    """

    def __init__(self, head: Callable[..., Any], names: list[str], *, as_arguments: bool) -> None:
        head = getattr(head, "_orig_mod", head)  # of torch.compile
        if not callable(head):
            raise ValueError(f"head must be a function or a module, got {type(head).__name__}. Pass for example model.")
        self.head, self.inputs, self._binary = head, list[Tensor](), False
        self.is_multiclass = True
        self._arguments = _arguments_of(head, names, as_arguments)

    def __call__(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Call the head; two logits for a binary decision."""
        self.inputs = list(z.values())
        arguments, named = self._arguments(z, present)
        with _differentiable_twice():
            output = self._run(arguments, named)
        logits = logits_of(output)
        check_logits(logits, present.shape[:-1])
        if torch.is_grad_enabled() and any(x.requires_grad for x in self.inputs) and not logits.requires_grad:
            raise ValueError(
                "head must return logits with a graph to its argument z, got logits without one. "
                "Call it without no_grad and detach, and read each modality from the argument."
            )
        self._binary = self.is_multiclass and logits.shape[-1] == 1
        return torch.cat([-logits / 2, logits / 2], dim=-1) if self._binary else logits

    def original(self, logits: Tensor) -> Tensor:
        """Logits as the head returned them: one for a binary decision."""
        return logits[..., 1:] - logits[..., :1] if self._binary else logits

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for the same module or the same code: a lambda in a loop is a new function each time."""
        code = getattr(self.head, "__code__", None)
        return (id(self.head),) if code is None else (code.co_filename, code.co_firstlineno)

    def _run(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if isinstance(self.head, nn.Module):
            return call_with_copied_buffers(self.head, arguments, named)
        return self.head(*arguments, **named)


def call_with_copied_buffers(
    module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], without: tuple[str, ...] = ()
) -> Any:
    """Call a module so that its buffers stay as they are.

    Args:
        module: Module to call.
        arguments: Its arguments by position.
        named: Its arguments by name.
        without: Beginnings of the names of buffers that the call does not change.
    """
    if isinstance(module, torch.jit.ScriptModule | nn.DataParallel):
        return module(*arguments, **named)  # torch cannot replace their buffers
    buffers = {name: b for name, b in module.named_buffers() if not name.startswith(without or "\n")}
    if not buffers or any(is_lazy(buffer) for buffer in buffers.values()):
        return module(*arguments, **named)
    return functional_call(module, {name: b.clone() for name, b in buffers.items()}, arguments, named)


@contextmanager
def evaluation_mode(model: object) -> Iterator[None]:
    """Set a module to evaluation mode, then each of its modules to the mode that it had; do nothing to a function."""
    modules = [*model.modules()] if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Run attention and compiled modules by operations that have a second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
            yield  # nothing was compiled, or this is being compiled
        else:
            with torch.compiler.set_stance("force_eager"):
                yield


Arguments = Callable[[Mapping[str, Tensor], Tensor], tuple[tuple[Any, ...], dict[str, Any]]]


def _arguments_of(head: Callable[..., Any], names: list[str], as_arguments: bool) -> Arguments:
    """Function from z and present to the arguments of the head."""
    parameters = _parameters(head)
    extra = "present" in parameters
    required = [
        name
        for name, p in parameters.items()
        if p.kind in POSITIONAL and p.default is p.empty and not (extra and name == "present")
    ]
    if as_arguments:
        return lambda z, present: (tuple(z.values()), {"present": present} if extra else {})
    if len(required) > 1 and set(required) <= set(names):  # head(audio, video) for z["audio"], z["video"]
        taken = [name for name in names if name in parameters]
        return lambda z, present: ((), {m: z[m] for m in taken} | ({"present": present} if extra else {}))
    if extra:
        return lambda z, present: ((z,), {"present": present})
    if len(required) > 2:
        raise ValueError(
            f"head must take z, or z and present, got a function of {', '.join(required)}. "
            f"Pass lambda z: head({', '.join(f'z[{name!r}]' for name in names)})."
        )
    if len(required) == 2:
        return lambda z, present: ((z, present), {})
    return lambda z, present: ((z,), {})


def _parameters(head: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a function, or of a module's forward; none if they are not known."""
    while isinstance(head, nn.DataParallel | nn.parallel.DistributedDataParallel):
        head = head.module
    try:
        return inspect.signature(head.forward if isinstance(head, nn.Module) else head).parameters
    except (TypeError, ValueError):
        return {}


def logits_of(output: Any, what: str = "head", advice: str | None = None) -> Tensor:
    """Logits in the output of a head: the tensor itself, its attribute `logits` or its entry "logits".

    Args:
        output: What the head returned.
        what: Noun for the head in errors.
        advice: What to do about an output of another kind; None for what to return.

    Raises:
        ValueError: The output is of another kind.
    """
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        output = output.logits
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        raise ValueError(
            f"{what} must return logits, got a mapping of {', '.join(map(str, output)) or 'nothing'}. "
            + (advice or 'Return one entry: lambda z: head(z)["..."].')
        )
    if isinstance(output, tuple | list):
        raise ValueError(
            f"{what} must return logits, got a {type(output).__name__} of {len(output)}. "
            + (advice or "Return the logits alone: lambda z: head(z)[i], where i is their place.")
        )
    raise ValueError(
        f"{what} must return logits, got {type(output).__name__}. {advice or 'Return the tensor of the logits.'}"
    )


def check_logits(logits: Tensor, clips: Sequence[int]) -> None:
    """Raise ValueError unless logits are floating-point numbers `(..., clips, [positions,] classes)`."""
    clips = tuple(clips)
    if not logits.is_floating_point():
        raise ValueError(f"head must return logits, got {logits.dtype}. Return the scores before argmax.")
    if tuple(logits.shape) == clips:
        raise ValueError(
            f"head must return logits (batch, classes), got {clips}. "
            "For one logit per clip, a binary decision, return logits.unsqueeze(-1)."
        )
    if tuple(logits.shape[: len(clips)]) != clips or logits.ndim <= len(clips) or logits.shape[-1] == 0:
        raise ValueError(
            f"head must return logits (batch, classes) of the {clips[-1]} clips of z, got {tuple(logits.shape)}. "
            "Put clips on the first axis of z and of the logits, classes on the last."
        )
