"""Methods: how training treats the modalities. One file per method."""

# ruff: noqa: I001  (the order of the imports is the order of `amr methods`)

from amr.fusion.methods import unimodal
from amr.fusion.methods import naive
from amr.fusion.methods import dropout
from amr.fusion.methods import modality_dropout
from amr.fusion.methods import umt
from amr.fusion.methods import ume
from amr.fusion.methods import ogm_ge
from amr.fusion.methods import gradient_blending
from amr.fusion.methods import gge
from amr.fusion.methods import multi_loss

from amr.fusion.methods import agm
from amr.fusion.methods import opm
from amr.fusion.methods import dgl
from amr.fusion.methods import mmpareto
from amr.fusion.methods.base import Method, methods

__all__ = [
    "Method",
    "agm",
    "dgl",
    "dropout",
    "gge",
    "gradient_blending",
    "methods",
    "mmpareto",
    "modality_dropout",
    "multi_loss",
    "naive",
    "ogm_ge",
    "opm",
    "ume",
    "umt",
    "unimodal",
]
