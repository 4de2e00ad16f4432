"""Balancing methods as plain functions, for any training loop and any model: `amr.balance`.

Tensors have any leading axes, such as that of runs. Of several modalities, the first axis is that of the modalities, in
the order of z. No function keeps anything between calls.
"""

from amr.fusion.balance.agm import agm_coefficients, agm_logits, agm_losses
from amr.fusion.balance.dgl import dgl_loss
from amr.fusion.balance.mmpareto import mmpareto_gradient, mmpareto_weights
from amr.fusion.balance.ogm import ogm_coefficients, score_ratios
from amr.fusion.balance.opm import opm_keep, opm_rates, opm_scale
from amr.fusion.balance.outputs import modality_losses, unimodal_logits

__all__ = [
    "agm_coefficients",
    "agm_logits",
    "agm_losses",
    "dgl_loss",
    "mmpareto_gradient",
    "mmpareto_weights",
    "modality_losses",
    "ogm_coefficients",
    "opm_keep",
    "opm_rates",
    "opm_scale",
    "score_ratios",
    "unimodal_logits",
]
