"""What an attribution is: a head's decision in, one magnitude per clip and modality out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from amr.common.registry import Registry

HeadFunction = Callable[[Mapping[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class AttributionSettings:
    """Settings that attributions share.

    Args:
        output: Output that is attributed: probability, logit or centered.
        pooling: Norm over a modality's attributions: l2 or l1.
        num_points: Points on the line of integrated gradients.
        baseline: Modality to the values that stand for its absence, broadcast to its z; None for zero.
    """

    output: str = "probability"
    pooling: str = "l2"
    num_points: int = 16
    baseline: Mapping[str, Tensor] | None = None


class Attribution:
    """Base of all attributions. One file per attribution, registered by name.

    Attributes:
        summary: One line for `amr attributions`.
        label: Short name in pictures.
        citation: Paper, section or equation.
        uses_baseline: Whether `AttributionSettings.baseline` matters.
    """

    summary: ClassVar[str] = ""
    label: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    uses_baseline: ClassVar[bool] = False

    def magnitudes(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        settings: AttributionSettings,
        *,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits `(..., clips, classes)` and magnitudes `(..., clips, modalities)`.

        Args:
            head: z and present to logits. A `Head` of this package may offer a closed form.
            z: Modality to `(..., clips, dim)` or `(..., clips, steps, dim)`; constants. The first axis may be shorter
                than that of `present`, where runs share their clips (`amr.fusion.run_axis.axes.of_runs`).
            present: Bool `(..., clips, modalities)`.
            settings: Output, pooling and the rest.
            create_graph: Keep the graph, so that a loss on the magnitudes trains the head.
        """
        raise NotImplementedError


attributions: Registry[type[Attribution]] = Registry("attribution")
