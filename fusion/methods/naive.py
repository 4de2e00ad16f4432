"""Joint training with one loss (paper, table 1: naive fusion)."""

from __future__ import annotations

from amr.fusion.methods.base import Method, methods


@methods.register("naive")
class Naive(Method):
    """loss = cross-entropy of the joint logits.

    Against end-to-end training, the encoders do not move: what the joint loss would have done to them it does to
    adapters, where there are any.
    """

    summary = "joint training with one loss"
    citation = "paper, table 1"
    end_to_end = True
    joint = True
    graph_safe = True
