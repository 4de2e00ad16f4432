"""What a fit or a sweep is asked to do: defaults, help of the command, and saved record are one dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from amr.common.options import (
    DATA,
    DEVICES,
    MODEL,
    OUTPUT,
    REGULARIZER,
    TRAINING,
    check_options,
    flag,
    option,
)
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.choices import (
    ADAPTERS,
    AMR_OPTIMIZERS,
    BASELINES,
    NORMALIZATIONS,
    OPTIMIZERS,
    OUTPUTS,
    POOLINGS,
    SELECTIONS,
)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings that fitting heads and training encoders share.

    Raises:
        ValueError: A value that no data could make right.
    """

    head: str = option("concat", "Fusion head; amr heads lists them.", panel=MODEL)
    method: str = option("naive", "How training treats the modalities; amr methods lists them.", panel=MODEL)
    amr_ratio: str | None = option(
        None, "Target shares, such as 1:1 or audio=3:video=1; none, or left out: no AMR.", panel=REGULARIZER
    )
    amr_weight: float = option(1.0, "Weight of the attribution regularizer; 0 is off.", least=0, panel=REGULARIZER)
    hidden: int = option(0, "Units of the head's hidden layer; 0: a linear head.", least=0, panel=MODEL)
    head_option: tuple[str, ...] = option(
        (), "KEY=VALUE for the head; amr heads lists them. Repeatable.", panel=MODEL, since="0.2"
    )
    method_option: tuple[str, ...] = option(
        (), "KEY=VALUE for the method; amr methods lists them. Repeatable.", panel=MODEL
    )
    label: str = option("label", "Column of the clips to predict.", panel=DATA)
    split_policy: str = option("default", "Split to use: the column split_NAME instead of split.", panel=DATA)
    split_seed: int = option(
        0,
        "Seed of carved splits and folds, the same for all seeds of a sweep, so that runs stay paired.",
        least=0,
        panel=DATA,
    )
    keep_flagged: bool = option(False, "Train on clips that the manifest flags, too.", panel=DATA)
    epochs: int = option(60, "Number of passes over the training clips.", least=1, panel=TRAINING)
    batch_size: int = option(64, "Clips per batch.", least=1, panel=TRAINING)
    lr: float | None = option(None, "Learning rate; by default the method's own.", above=0, panel=TRAINING)
    optimizer: str | None = option(
        None,
        "Optimizer: adamw, sgd (momentum .9) or adamax; by default the method's own.",
        choices=OPTIMIZERS,
        panel=TRAINING,
    )
    weight_decay: float | None = option(None, "Weight decay; by default the method's own.", least=0, panel=TRAINING)
    select: str = option(
        "accuracy",
        "Which epoch to keep: best val accuracy, best val loss, or the last.",
        choices=SELECTIONS,
        panel=TRAINING,
    )
    seed: int = option(0, "Seed of initial weights, batches and noise.", least=0, panel=TRAINING)
    device: str = option("auto", "Device: auto, cpu or cuda.", choices=DEVICES, panel=TRAINING)
    out: str | None = option(None, "Folder of the result; by default a new one in the workspace.", panel=OUTPUT)

    def __post_init__(self) -> None:
        """Check what can be checked without data; names of heads, methods and labels are checked where they are known."""
        if self.amr_ratio is not None and self.amr_ratio.strip().lower() == "none":
            object.__setattr__(self, "amr_ratio", None)
        if self.amr_ratio is not None:
            parse_ratio(self.amr_ratio, name="--amr-ratio")
        check_options(self)
        for name in ("head_option", "method_option"):
            for text in getattr(self, name):
                if "=" not in text:
                    raise ValueError(f"{flag(name)} must be KEY=VALUE, got {text!r}. Pass for example p=0.5.")


@dataclass(frozen=True)
class FitConfig(TrainingConfig):
    """One fit: which cache, which head and method, how AMR regularizes, how long."""

    cache: str | None = option(
        None, "Cache file, or its name in caches/; may be left out if there is only one.", panel=DATA
    )
    modalities: str | None = option(
        None, "Embeddings to use, separated by commas; by default all, alphabetically.", panel=DATA
    )
    condition: str | None = option(
        None, "Same as --head-option condition=M for --head film: the modality that conditions the others.", panel=MODEL
    )
    adapter: str = option(
        "none", "Trainable layer on each embedding: none, linear or mlp.", choices=ADAPTERS, panel=MODEL
    )
    adapter_dim: int = option(256, "Output size of each adapter.", least=1, panel=MODEL)
    amr_optimizer: str = option(
        "shared",
        "shared: task + weight * R; separate: a second optimizer on R alone.",
        choices=AMR_OPTIMIZERS,
        panel=REGULARIZER,
    )
    attribution: str = option(
        "grad_x_input", "How shares are attributed; amr attributions lists the ways.", panel=REGULARIZER
    )
    attribution_output: str = option(
        "probability", "Output that is attributed: probability, logit or centered.", choices=OUTPUTS, panel=REGULARIZER
    )
    attribution_pooling: str = option(
        "l2", "Norm over a modality's attributions: l2 or l1.", choices=POOLINGS, panel=REGULARIZER
    )
    attribution_baseline: str = option(
        "zero",
        "Stand-in for an absent modality, and start of integrated gradients: zero or mean.",
        choices=BASELINES,
        panel=REGULARIZER,
    )
    attribution_steps: int = option(
        16, "Number of points on the line of integrated gradients.", least=1, panel=REGULARIZER
    )
    normalize: str = option(
        "standard",
        "standard: each dimension by its train mean and deviation; none: as cached.",
        choices=NORMALIZATIONS,
        panel=DATA,
    )
    folds: int = option(
        0, "Number of folds to cross-validate all clips in; 0: use the splits of the cache.", least=0, panel=DATA
    )

    def __post_init__(self) -> None:
        """Check what can be checked without a cache."""
        super().__post_init__()
        if self.folds in (1, 2):  # fold k is test, k + 1 is val, the rest train
            raise ValueError(f"--folds must be 0 (none) or at least 3, got {self.folds}. Pass --folds 5.")


# Options of `amr fit` that take a list in `amr sweep`.
SWEPT: dict[str, Callable[[str], Any]] = {
    "head": str,
    "method": str,
    "amr_ratio": lambda text: None if text.lower() == "none" else text,
    "amr_weight": float,
    "lr": float,
    "seed": int,
}


@dataclass(frozen=True)
class SweepConfig:
    """Many fits: every combination of the swept values, on one cache.

    Args:
        base: Everything that is not swept.
        head, method, amr_ratio, amr_weight, lr, seed: Values of each; None in amr_ratio is no AMR.
        group_size: Number of runs trained at once; None for what fits the device.
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
            raise ValueError(f"--group-size must be 1 or more, got {self.group_size}. Leave it out for the default.")
        self.members()

    @classmethod
    def parse(
        cls, *, seeds: int | None = None, group_size: int | None = None, swept: Mapping[str, str | None], **fixed: Any
    ) -> SweepConfig:
        """Parse comma lists, as on the command line.

        Args:
            seeds: Number of seeds, 0 to N - 1, instead of `seed`.
            group_size: Number of runs trained at once.
            swept: Comma lists of the swept fields; None or absent for the default of FitConfig.
            fixed: The other fields of FitConfig.

        Raises:
            ValueError: A value has the wrong type, or a member could never be fitted.
        """
        base = FitConfig(**fixed)
        if seeds is not None and seeds < 1:
            raise ValueError(f"--seeds must be 1 or more, got {seeds}. Pass --seeds 5.")
        if seeds is not None and swept.get("seed") is not None:
            raise ValueError("--seeds must be without --seed, got both. Leave one of them out.")
        lists: dict[str, tuple[Any, ...]] = {}
        for name, kind in SWEPT.items():
            text = swept.get(name)
            lists[name] = (getattr(base, name),) if text is None else _parse_list(name, text, kind)
        if seeds is not None:
            lists["seed"] = tuple(range(seeds))
        return cls(base, group_size=group_size, **lists)

    def members(self) -> list[FitConfig]:
        """The config of each fit. Weights differ only where there is a ratio to weight."""
        configs = [
            replace(self.base, head=head, method=method, amr_ratio=ratio, amr_weight=weight, lr=lr, seed=seed)
            for head, method, ratio, lr in product(self.head, self.method, self.amr_ratio, self.lr)
            for weight in (self.amr_weight if ratio is not None else self.amr_weight[:1])
            for seed in self.seed
        ]
        return list(dict.fromkeys(configs))


def _parse_list(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(
            f"{flag(name)} must be {what} separated by commas, got {text!r}. Pass for example 1,2."
        ) from None
