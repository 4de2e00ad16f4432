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
from amr.fusion.balance.outputs import modality_losses, unimodal_logits

__all__ = [
    "class_contrast",
    "confidence_drops",
    "disagreement",
    "keep_modalities",
    "modality_losses",
    "nested_subsets",
    "permutation_divergence",
    "unimodal_logits",
]
