"""What a fit is asked to do: the defaults, the help of `amr fit` and the record in a run are this one dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amr.data_manifests.registry import unknown
from amr.extract.config import DEVICES, option
from amr.fusion.ratio import parse_ratio

OUTPUTS = ("probability", "logit", "centered")
POOLINGS = ("l2", "l1")
ATTRIBUTIONS = ("grad_x_input", "integrated_gradients", "shapley")
BASELINES = ("zero", "mean")
ADAPTERS = ("none", "linear", "mlp")
OPTIMIZERS = ("adamw", "sgd", "adamax")
NORMALIZATIONS = ("standard", "none")
AMR_OPTIMIZERS = ("shared", "separate")
SELECTIONS = ("accuracy", "loss", "last")


@dataclass(frozen=True)
class FitConfig:
    """One fit: which cache, which head and method, how AMR pulls, how long.

    Raises:
        ValueError: a value that no cache could make right; names of modalities, heads, methods and labels are
            checked where they are known.
    """

    cache: str | None = option(None, "Cache file, or the name of one in caches/; may be left out where there is one.")
    head: str = option("concat", "Fusion head; amr heads lists them.")
    method: str = option("naive", "How training treats the modalities; amr methods lists them.")
    modalities: str | None = option(None, "Embeddings to use, with commas between; all, alphabetically, by default.")
    hidden: int = option(0, "Units of the head's hidden layer; 0: a linear head.")
    adapter: str = option("none", "Trainable tail on each embedding: none, linear or mlp.")
    adapter_dim: int = option(256, "Output size of each adapter.")
    amr_ratio: str | None = option(
        None, "Shares to pull towards, such as 1:1 or audio=3:video=1; 'none' or left out: no AMR."
    )
    amr_weight: float = option(1.0, "Weight of the attribution regularizer; 0 is off.")
    amr_optimizer: str = option("shared", "shared: task + weight * R; separate: a second optimizer on R alone.")
    attribution: str = option("grad_x_input", "grad_x_input, integrated_gradients or shapley (exact).")
    attribution_output: str = option("probability", "What is attributed: probability, logit or centered.")
    attribution_pooling: str = option("l2", "Norm over a modality's attributions: l2 or l1.")
    attribution_baseline: str = option(
        "zero", "What integrated gradients start from and Shapley values put for what is absent: zero or mean."
    )
    attribution_steps: int = option(16, "Points on the line of integrated gradients.")
    epochs: int = option(60, "Passes over the training clips.")
    batch_size: int = option(64, "Clips in a batch.")
    lr: float | None = option(None, "Learning rate; by default the method's own.")
    weight_decay: float | None = option(None, "Weight decay; by default the method's own.")
    optimizer: str | None = option(None, "adamw, sgd (momentum .9) or adamax; by default the method's own.")
    normalize: str = option("standard", "standard: each dimension by its train mean and deviation; none: as cached.")
    label: str = option("label", "Column of the clips that is predicted.")
    split_policy: str = option("default", "Column split_NAME to take the parts from, instead of split.")
    keep_flagged: bool = option(False, "Train on clips that the manifest flags, too.")
    folds: int = option(0, "Cross-validate over all clips in this many folds; 0: the split's own parts.")
    split_seed: int = option(0, "Seed of carved parts and folds, the same for all seeds of a sweep: runs stay paired.")
    select: str = option("accuracy", "Which epoch is kept, by val: accuracy, loss, or last (none is chosen).")
    method_option: tuple[str, ...] = option((), "KEY=VALUE for the method; amr methods lists them. Repeatable.")
    seed: int = option(0, "Seed of initial weights, batches and noise.")
    device: str = option("auto", "auto, cpu or cuda.")
    out: str | None = option(None, "Folder of the result; below runs/ by default.")

    def __post_init__(self) -> None:
        """Check what can be checked without a cache."""
        if self.amr_ratio is not None and self.amr_ratio.strip().lower() == "none":
            object.__setattr__(self, "amr_ratio", None)
        if self.amr_ratio is not None:
            parse_ratio(self.amr_ratio)
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) is not None and value not in choices:
                raise unknown(f"--{name.replace('_', '-')}", value, choices)
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value < least):
                raise ValueError(f"--{name.replace('_', '-')} must be {least} or more, got {value}.")
        if self.folds in (1, 2):  # fold k is test, k + 1 is val, the rest train
            raise ValueError(f"--folds must be 0 (none) or at least 3, got {self.folds}. Pass --folds 5.")
        if self.lr is not None and self.lr == 0:
            raise ValueError("--lr must be above 0, got 0. Leave it out for the method's own.")
        for text in self.method_option:
            if "=" not in text:
                raise ValueError(f"--method-option must be KEY=VALUE, got {text!r}. Pass for example p=0.5.")

    @property
    def uses_amr(self) -> bool:
        """Whether the regularizer takes part in training; a weight of 0 is the control without it."""
        return self.amr_ratio is not None and self.amr_weight > 0


_CHOICES = {
    "adapter": ADAPTERS,
    "amr_optimizer": AMR_OPTIMIZERS,
    "attribution": ATTRIBUTIONS,
    "attribution_output": OUTPUTS,
    "attribution_baseline": BASELINES,
    "attribution_pooling": POOLINGS,
    "optimizer": OPTIMIZERS,
    "normalize": NORMALIZATIONS,
    "select": SELECTIONS,
    "device": DEVICES,
}
_AT_LEAST = {
    "hidden": 0,
    "adapter_dim": 1,
    "amr_weight": 0,
    "attribution_steps": 1,
    "epochs": 1,
    "batch_size": 1,
    "lr": 0,
    "weight_decay": 0,
    "folds": 0,
    "split_seed": 0,
    "seed": 0,
}
