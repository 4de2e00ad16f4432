"""Balancing methods as plain functions, for any training loop and any model.

Tensors have any leading axes, such as that of runs. Of several modalities, the first axis is that of the modalities, in
the order of z. No function keeps anything between calls.
"""

from amr.fusion.attribution.shapley import shapley_split
from amr.fusion.balance.agm import agm_coefficients, agm_logits, agm_losses
from amr.fusion.balance.blending import gradient_blending_weights
from amr.fusion.balance.boosting import alignment_losses, reconcile_losses
from amr.fusion.balance.consistency import (
    class_contrast,
    confidence_drops,
    disagreement,
    keep_modalities,
    nested_subsets,
    permutation_divergence,
)
from amr.fusion.balance.dgl import dgl_loss
from amr.fusion.balance.information import acquisition_growth, inforeg_coefficients, squared_norm
from amr.fusion.balance.misaligned import (
    Misaligned,
    misalign,
    misaligned_losses,
    similarity,
    weak_modality_step,
)
from amr.fusion.balance.mmpareto import mmpareto_gradient, mmpareto_weights
from amr.fusion.balance.ogm import mlb_coefficients, ogm_coefficients, score_ratios, share_ratios
from amr.fusion.balance.opm import opm_keep, opm_rates, opm_scale
from amr.fusion.balance.outputs import modality_losses, subset_logits, unimodal_logits
from amr.fusion.balance.projection import entropy_weights, updated_projection
from amr.fusion.balance.prototypes import class_sums, pmr_weights, prototype_logits
from amr.fusion.balance.relearning import cluster, purity, relearning_weight
from amr.fusion.balance.teachers import distillation_losses, learns_in_turn
from amr.fusion.balance.valuation import cooperation_values, least_sure_modality, num_copies, share_without

__all__ = [
    "Misaligned",
    "acquisition_growth",
    "agm_coefficients",
    "agm_logits",
    "agm_losses",
    "alignment_losses",
    "class_contrast",
    "class_sums",
    "cluster",
    "confidence_drops",
    "cooperation_values",
    "dgl_loss",
    "disagreement",
    "distillation_losses",
    "entropy_weights",
    "gradient_blending_weights",
    "inforeg_coefficients",
    "keep_modalities",
    "learns_in_turn",
    "least_sure_modality",
    "misalign",
    "misaligned_losses",
    "mlb_coefficients",
    "mmpareto_gradient",
    "mmpareto_weights",
    "modality_losses",
    "nested_subsets",
    "num_copies",
    "ogm_coefficients",
    "opm_keep",
    "opm_rates",
    "opm_scale",
    "permutation_divergence",
    "pmr_weights",
    "prototype_logits",
    "purity",
    "reconcile_losses",
    "relearning_weight",
    "score_ratios",
    "shapley_split",
    "share_ratios",
    "share_without",
    "similarity",
    "squared_norm",
    "subset_logits",
    "unimodal_logits",
    "updated_projection",
    "weak_modality_step",
]
