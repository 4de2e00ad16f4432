"""Base of all attributions: from a head's decision to one magnitude per clip and modality.

The leading axes `...` of all shapes are the run axis, which is first, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from amr.common.registry import Registry
from amr.fusion.tasks.base import Task
from amr.fusion.tasks.multiclass import MULTICLASS

HeadFunction = Callable[[Mapping[str, Tensor], Tensor], Tensor]  # z and present to logits


@dataclass(frozen=True)
class AttributionSettings:
    """Settings of every attribution.

    Args:
        output: Output that is attributed: probability, logit or centered.
        pooling: Norm over a modality's attributions: l2 or l1.
        num_points: Number of points on the line of integrated gradients.
        baseline: Modality to the values that mean "absent", broadcast to its z; None for zero.
        partners: Clip number of each clip's partner, `(..., clips)`, for attributions that compare clips.
        task: What the outputs of the head say, and so what is attributed.
    """

    output: str = "probability"
    pooling: str = "l2"
    num_points: int = 16
    baseline: Mapping[str, Tensor] | None = None
    partners: Tensor | None = None
    task: Task = MULTICLASS


class Attribution:
    """Base class of attributions. Each has a file of its own and is registered by name.

    Attributes:
        summary: One line for `amr attributions`.
        label: Short name in pictures.
        citation: Source, with section or equation.
        uses_partners: Whether a clip is compared with another. Then shares are ratios of sums over clips, and a clip
            has no share of its own.
        chooses_epoch: Whether R counts when val chooses the epoch; not where the ratio need not be reached.
        uses_output: Whether it depends on `AttributionSettings.output`.
        uses_baseline: Whether the attribution depends on `AttributionSettings.baseline`.
        uses_pooling: Whether it depends on `AttributionSettings.pooling`.
        uses_points: Whether it depends on `AttributionSettings.num_points`.
    """

    summary: ClassVar[str] = ""
    label: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    uses_partners: ClassVar[bool] = False
    chooses_epoch: ClassVar[bool] = True
    uses_output: ClassVar[bool] = True
    uses_baseline: ClassVar[bool] = False
    uses_pooling: ClassVar[bool] = True
    uses_points: ClassVar[bool] = False

    def magnitudes(
        self,
        head: HeadFunction,
        z: Mapping[str, Tensor],
        present: Tensor,
        settings: AttributionSettings,
        *,
        create_graph: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits `(..., clips, [positions,] classes)` and magnitudes `(..., clips, modalities)`.

        Args:
            head: Function of z and present that returns logits. A `Head` of this package may offer a closed form.
            z: Modality to its encoding, `(..., clips, dim)` or `(..., clips, steps, dim)`; detached. Its first axis is
                shorter than that of `present` if runs share their clips (`amr.fusion.run_axis.axes.of_runs`).
            present: Bool `(..., clips, modalities)`.
            settings: Output, pooling and the rest.
            create_graph: Whether to keep the graph, so that a loss on the magnitudes trains the head.
        """
        raise NotImplementedError


attributions: Registry[type[Attribution]] = Registry("attribution")
