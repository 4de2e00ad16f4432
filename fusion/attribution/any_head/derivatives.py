"""First derivatives with respect to z, and errors that say what to write where a derivative is missing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

# Part of torch's message to what to write instead
ADVICE = (
    ("reentrant", "Pass use_reentrant=False to torch.utils.checkpoint."),
    ("cudnn", "Call the recurrent layer in head under torch.backends.cudnn.flags(enabled=False)."),
    ("compile", "Pass the uncompiled module, such as compiled._orig_mod, and call R outside of compiled functions."),
)
REPLACE = (
    "Write that operation with others, or regularize Shapley shares, which need none: "
    'AttributionRegularizer(ratio, Attributor(attribution="shapley")).'
)


def input_gradients(
    outputs: Tensor, inputs: Sequence[Tensor], cotangent: Tensor | None = None, *, create_graph: bool
) -> list[Tensor]:
    """Gradient of each input; zeros for an input that the outputs do not depend on.

    Args:
        outputs: Tensor that is differentiated.
        inputs: Tensors that require gradients.
        cotangent: Gradient with respect to `outputs`; None for a scalar.
        create_graph: Whether to keep the graph for a second derivative.

    Raises:
        ValueError: The outputs depend on no input.
        RuntimeError: An operation of the head has no derivative.
    """
    found: Sequence[Tensor | None] = [None] * len(inputs)
    try:
        if outputs.requires_grad:
            found = torch.autograd.grad(
                outputs, inputs, cotangent, create_graph=create_graph, retain_graph=True, allow_unused=True
            )
    except RuntimeError as error:
        advice = _advice(error)
        if isinstance(error, torch.OutOfMemoryError) or advice is None:
            raise
        raise RuntimeError(
            f"head must be differentiable in z, got an operation that is not ({first_line(error)}). {advice}"
        ) from error
    if all(gradient is None for gradient in found):
        raise ValueError(
            "head must compute its logits from its argument z, got logits that do not depend on it. "
            "Read each modality from the argument, without detach or no_grad."
        )
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def check_second_derivative(value: Tensor, inputs: Sequence[Tensor]) -> None:
    """Differentiate `value`, which was made of gradients, once more.

    Raises:
        RuntimeError: An operation of the head has no second derivative.
    """
    inputs = [x for x in inputs if x.requires_grad]
    if not inputs or not value.requires_grad:
        return
    try:
        # `once_differentiable` cuts its error off from the inputs, so differentiating does not meet it
        if any(name.endswith("::Error") for name in _operations(value)):
            raise RuntimeError("a function that was marked with @once_differentiable")
        torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RuntimeError(
            "head must have a second derivative, got an operation without one "
            f"({first_line(error)}). {_advice(error) or REPLACE}"
        ) from error


def _operations(value: Tensor) -> set[str]:
    """Names of the operations in the graph of a tensor."""
    seen: set[Node] = set()
    todo = [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [previous for previous, _ in node.next_functions]
    return {node.name() for node in seen}


def first_line(error: Exception) -> str:
    """First sentence of an error."""
    return str(error).splitlines()[0].split(". ")[0].rstrip(".") if str(error) else type(error).__name__


def _advice(error: Exception) -> str | None:
    text = str(error).lower()
    return next((advice for part, advice in ADVICE if part in text), None)
