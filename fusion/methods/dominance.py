"""How far each modality leads in a batch, by what its logits say or by the shares of attribution."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.balance import score_ratios, share_ratios, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.model import FusionModel
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

DOMINANCE = ("logits", "share")


@torch.no_grad()
def dominance_ratios(
    by: str,
    model: FusionModel,
    batch: Batch,
    z: Mapping[str, Tensor],
    out: Tensor | None = None,
    task: Task = MULTICLASS,
) -> Tensor:
    """Ratio of each modality to the mean of the others, `(modalities, run)`; more than 1 if it leads.

    Args:
        by: What is compared: logits, the mean probability of the right class by out_m; or share, the batch share by
            gradient x input, whatever the run regularizes.
        model: Model of the run group.
        batch: Clips.
        z: Modality to its encoding.
        out: Uni-modal logits `(modalities, run, batch, classes)`; None to compute them if they are needed.
        task: What is predicted.
    """
    if by == "share":
        _, share, counted = Attributor(task=task.name).shares(model.head, z, batch.present)
        return share_ratios(share, counted, batch.present)
    out = unimodal_logits(model.head, z, batch.present) if out is None else out
    return score_ratios(out, batch.target, batch.present)
