"""Options of `amr frontier`: defaults, help and checks."""

from __future__ import annotations

from dataclasses import dataclass, fields

from amr.common.options import DATA, OUTPUT, REGULARIZER, TRAINING, flag, option
from amr.common.registry import unknown
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.choices import registered_names
from amr.fusion.config import MAX_EPOCHS, FitConfig

MAIN = "permutation"  # the attribution whose regularizer moves use
# settings that a frontier varies by itself
VARIED = ("amr_ratio", "amr_weight", "amr_level", "amr_optimizer", "attribution", "embedding_noise", "seed")
OF_GRADIENTS = ("attribution_output", "attribution_pooling", "attribution_baseline", "attribution_steps")


@dataclass(frozen=True)
class FrontierConfig(FitConfig):
    """Settings of one frontier: those of every fit, the number of seeds, and which head to choose.

    Raises:
        ValueError: A value is invalid for all data.
    """

    epochs: int = option(25, "Number of passes over the training clips.", least=1, most=MAX_EPOCHS, panel=TRAINING)
    folds: int = option(
        5, "Number of folds for cross-validation over all clips; 0 uses the splits of the cache.", least=0, panel=DATA
    )
    runs: str | None = option(
        None,
        "Folder of amr sweep, amr table or of trainings of encoders, or its name: its runs are compared, instead of "
        "fitting heads on a cache.",
        panel=DATA,
    )
    seeds: int = option(3, "Number of seeds, 0 to N-1.", least=1, panel=TRAINING)
    against: str | None = option(
        None,
        "Further attributions to regularize, separated by commas, such as grad_x_input,shapley.",
        panel=REGULARIZER,
        separator=",",
    )
    use: str | None = option(
        None, "Target of the use shares, such as 1:1 (the default) or audio=2:video=1.", panel=OUTPUT, separator=":"
    )
    max_cost: float = option(
        0.01,
        "Most accuracy that the chosen head may cost on val, a fraction of 1; of --task regression, in units of the "
        "target.",
        least=0,
        panel=OUTPUT,
    )

    def __post_init__(self) -> None:
        """Check what can be checked without a cache."""
        super().__post_init__()
        for name in (*VARIED, *OF_GRADIENTS):
            if getattr(self, name) != getattr(FitConfig, name):
                raise ValueError(
                    f"{name} must be left out, got {getattr(self, name)!r}: a frontier varies it. Leave it out."
                )
        if self.task != "regression" and self.max_cost > 1:
            raise ValueError(f"--max-cost must be from 0 to 1, got {self.max_cost:g}. Pass --max-cost 0.01.")
        if self.use is not None:
            parse_ratio(self.use, name="--use")
        if self.runs is not None:
            self._check_runs()
        for name in self.attributions[1:]:
            if name not in registered_names("attribution"):
                raise unknown("--against", name, registered_names("attribution"))

    def _check_runs(self) -> None:
        """Check that nothing is set that only fits have."""
        for each in sorted(fields(self), key=lambda each: each.name != "recipe"):  # which others follow from
            value = getattr(self, each.name)
            if each.name not in ("runs", "use", "max_cost", "device") and value != each.default:
                raise ValueError(
                    f"{flag(each.name)} must be left out with --runs, which fits nothing, got {value}. Leave it out."
                )

    @property
    def attributions(self) -> tuple[str, ...]:
        """Attributions that are regularized: permutation, then those of `against`."""
        named = [] if self.against is None else [name.strip() for name in self.against.split(",")]
        return tuple(dict.fromkeys([MAIN, *named]))

    @property
    def fit(self) -> FitConfig:
        """Settings of the fit without a regularizer, seed 0."""
        return FitConfig(**{each.name: getattr(self, each.name) for each in fields(FitConfig)})
