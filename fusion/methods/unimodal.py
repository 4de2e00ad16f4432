"""A single modality (paper, table 1: audio only, video only)."""

from __future__ import annotations

from collections.abc import Sequence

from amr.fusion.methods.base import Method, methods


@methods.register("unimodal")
class Unimodal(Method):
    """Adapter and classifier of one modality, trained by cross-entropy. Nothing is fused, so it takes no ratio."""

    summary = "one modality's adapter and classifier; name it with --modalities"
    citation = "paper, table 1"
    head = "concat"
    fuses = False
    single_modality = True
    end_to_end = False
    joint = True
    graph_safe = True

    @classmethod
    def check(cls, modalities: Sequence[str]) -> None:
        """Check that there is exactly one modality."""
        if len(modalities) != 1:
            raise ValueError(
                f"--modalities must name one modality for --method unimodal, got {', '.join(modalities)}. "
                f"Pass for example --modalities {modalities[0]}."
            )
