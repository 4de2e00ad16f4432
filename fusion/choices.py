"""Allowed values of options that have a fixed list."""

from __future__ import annotations

OUTPUTS = ("probability", "logit", "centered")
POOLINGS = ("l2", "l1")
BASELINES = ("zero", "mean")
ADAPTERS = ("none", "linear", "mlp")
OPTIMIZERS = ("adamw", "sgd", "adamax")
NORMALIZATIONS = ("standard", "none")
AMR_OPTIMIZERS = ("shared", "separate")
SELECTIONS = ("accuracy", "loss", "last")
