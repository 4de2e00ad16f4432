"""What a fit is asked to do: the defaults, the help of `amr fit` and the record in a run are this one dataclass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from amr.common.registry import unknown
from amr.extract.config import DEVICES, option
from amr.fusion.attribution.ratio import parse_ratio

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
    condition: str | None = option(None, "Modality that conditions the others in --head film; the first by default.")
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
                option_name = f"--{name.replace('_', '-')}"
                default = type(self).__dataclass_fields__[name].default
                what = "a finite number" if isinstance(value, float) else "a whole number"
                better = "Leave it out for the method's own" if default is None else f"The default is {default}"
                raise ValueError(f"{option_name} must be {what} of {least} or more, got {value}. {better}.")
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


SWEPT = {
    "head": "Fusion heads, with commas between; amr heads lists them.",
    "method": "Methods, with commas between; amr methods lists them.",
    "amr_ratio": "Ratios, with commas between, such as none,3:1,1:1,1:3.",
    "amr_weight": "Weights of the attribution regularizer, with commas between; 0 is off.",
    "lr": "Learning rates, with commas between; by default the method's own.",
    "seed": "Seeds, with commas between.",
}


@dataclass(frozen=True)
class SweepConfig:
    """Many fits: every combination of what is swept, on one cache.

    Args:
        base: everything that is not swept.
        head, method, amr_ratio, amr_weight, lr, seed: the values of each; None in amr_ratio is no AMR.
        group_size: runs trained at once; None: what fits the device.
    """

    base: FitConfig
    head: tuple[str, ...]
    method: tuple[str, ...]
    amr_ratio: tuple[str | None, ...]
    amr_weight: tuple[float, ...]
    lr: tuple[float | None, ...]
    seed: tuple[int, ...]
    group_size: int | None = None

    def __post_init__(self) -> None:
        """Check every member."""
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"--group-size must be 1 or more, got {self.group_size}.")
        self.members()

    @classmethod
    def parse(
        cls, *, seeds: int | None = None, group_size: int | None = None, swept: Mapping[str, str | None], **fixed: Any
    ) -> SweepConfig:
        """From comma lists, as on the command line.

        Args:
            seeds: N for the seeds 0 to N - 1, instead of `seed`.
            group_size: runs trained at once.
            swept: comma lists of the swept fields; None or absent: the default of FitConfig.
            fixed: the other fields of FitConfig.

        Raises:
            ValueError: a value is not of its kind, or a member could never be fitted.
        """
        base = FitConfig(**fixed)
        if seeds is not None and seeds < 1:
            raise ValueError(f"--seeds must be 1 or more, got {seeds}.")
        if seeds is not None and swept.get("seed") is not None:
            raise ValueError("--seeds must be without --seed, got both. Leave one of them out.")
        lists: dict[str, tuple[Any, ...]] = {}
        for name, kind in (
            ("head", str),
            ("method", str),
            ("amr_ratio", _ratio),
            ("amr_weight", float),
            ("lr", float),
            ("seed", int),
        ):
            text = swept.get(name)
            lists[name] = (getattr(base, name),) if text is None else _parse_list(name, text, kind)
        if seeds is not None:
            lists["seed"] = tuple(range(seeds))
        return cls(base, group_size=group_size, **lists)

    def members(self) -> list[FitConfig]:
        """The config of each fit. Weights differ only where there is a ratio to weigh."""
        configs = [
            replace(self.base, head=head, method=method, amr_ratio=ratio, amr_weight=weight, lr=lr, seed=seed)
            for head, method, ratio, lr in product(self.head, self.method, self.amr_ratio, self.lr)
            for weight in (self.amr_weight if ratio is not None else self.amr_weight[:1])
            for seed in self.seed
        ]
        return list(dict.fromkeys(configs))


def _ratio(text: str) -> str | None:
    return None if text.lower() == "none" else text


def _parse_list(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"--{name.replace('_', '-')} must be {what} with commas between, got {text!r}.") from None


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
