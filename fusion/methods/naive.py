"""Joint training with one loss (paper, table 1: naive fusion)."""

from __future__ import annotations

from amr.fusion.methods.base import Method, methods


@methods.register("naive")
class Naive(Method):
    """loss = cross-entropy(head(z), y): the default loss of `Method`, on the logits of all modalities.

    On a cache, unlike in `amr train-encoders`, encoders are frozen. The joint loss changes the adapters instead, if
    there are any.
    """

    summary = "joint training with one loss"
    citation = "paper, table 1"
    joint = True
    graph_safe = True
