"""Balancing methods as plain functions, for any training loop and any model: `amr.balance`.

Tensors have any leading axes, such as that of runs. Of several modalities, the first axis is that of the modalities, in
the order of z. No function keeps anything between calls.
"""

from amr.fusion.balance.consistency import (
    class_contrast,
    confidence_drops,
    disagreement,
    keep_modalities,
    nested_subsets,
    permutation_divergence,
)
from amr.fusion.balance.misaligned import (
    Misaligned,
    misalign,
    misaligned_losses,
    similarity,
    weak_modality_step,
)
from amr.fusion.balance.outputs import modality_losses, unimodal_logits
from amr.fusion.balance.valuation import cooperation_values, least_sure_modality, num_copies, share_without

__all__ = [
    "Misaligned",
    "class_contrast",
    "confidence_drops",
    "cooperation_values",
    "disagreement",
    "keep_modalities",
    "least_sure_modality",
    "misalign",
    "misaligned_losses",
    "modality_losses",
    "nested_subsets",
    "num_copies",
    "permutation_divergence",
    "share_without",
    "similarity",
    "unimodal_logits",
    "weak_modality_step",
]
