"""The logits in the output of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from amr.fusion.attribution.any_head.call import logits_of

Which = int | str | Callable[[Any], Tensor] | None


def select_logits(output: Any, which: Which = None) -> Tensor:
    """Logits in the output of a model.

    Args:
        output: What the model returned.
        which: A field, entry or position, a function of the output, or None, as for `tap`.

    Raises:
        ValueError: There is no such output, or it is no tensor.
    """
    if which is None:
        return logits_of(output, "model", "Pass logits= with the place or the name of the logits.")
    if callable(which):
        found = which(output)
    else:
        try:
            is_field = isinstance(which, str) and not isinstance(output, Mapping)
            found = getattr(output, which) if is_field else output[which]  # type: ignore[arg-type]
        except (AttributeError, LookupError, TypeError):
            kind = f"{type(output).__name__} of {len(output)}" if hasattr(output, "__len__") else type(output).__name__
            raise ValueError(
                f"logits must name an output of the model, got {which!r} for a {kind}. Name one."
            ) from None
    return logits_of(found, "logits", "Name the output that is a tensor of scores.")
