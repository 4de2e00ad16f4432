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
from amr.fusion.methods import cml
from amr.fusion.methods import lfm
from amr.fusion.methods import mcr
from amr.fusion.methods import smv
from amr.fusion.methods import remix
from amr.fusion.methods import midas
from amr.fusion.methods import pmr
from amr.fusion.methods import mla
from amr.fusion.methods import reconboost
from amr.fusion.methods import dnr
from amr.fusion.methods import inforeg
from amr.fusion.methods.base import Method, methods

__all__ = [
    "Method",
    "agm",
    "cml",
    "dgl",
    "dnr",
    "dropout",
    "gge",
    "gradient_blending",
    "inforeg",
    "lfm",
    "mcr",
    "methods",
    "midas",
    "mla",
    "mmpareto",
    "modality_dropout",
    "multi_loss",
    "naive",
    "ogm_ge",
    "opm",
    "pmr",
    "reconboost",
    "remix",
    "smv",
    "ume",
    "umt",
    "unimodal",
]
