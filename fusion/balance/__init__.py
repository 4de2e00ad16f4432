"""Balancing methods as plain functions, for any training loop and any model: `amr.balance`.

Tensors have any leading axes, such as that of runs. Of several modalities, the first axis is that of the modalities, in
the order of z. No function keeps anything between calls.
"""

from amr.fusion.balance.blending import gradient_blending_weights
from amr.fusion.balance.boosting import alignment_losses, reconcile_losses
from amr.fusion.balance.outputs import modality_losses, unimodal_logits
from amr.fusion.balance.projection import entropy_weights, updated_projection
from amr.fusion.balance.prototypes import class_sums, pmr_weights, prototype_logits
from amr.fusion.balance.teachers import distillation_losses, learns_in_turn

__all__ = [
    "alignment_losses",
    "class_sums",
    "distillation_losses",
    "entropy_weights",
    "gradient_blending_weights",
    "learns_in_turn",
    "modality_losses",
    "pmr_weights",
    "prototype_logits",
    "reconcile_losses",
    "unimodal_logits",
    "updated_projection",
]
