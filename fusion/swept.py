"""Settings of a sweep: the lists of `amr sweep`, and of every command that fits or trains many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from numbers import Real
from typing import Any

from amr.common.options import flag
from amr.fusion.choices import ALL, registered_names
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.recipes.published import check_recipe

# Options of `amr fit` that take a list in `amr sweep`; the last ones vary fastest.
SWEPT: dict[str, Callable[[str], Any]] = {
    "head": str,
    "method": str,
    "amr_ratio": lambda text: None if text.lower() == "none" else text,
    "attribution": str,
    "lr": float,
    "weight_decay": float,
    "embedding_noise": str,
    "amr_weight": float,
    "seed": int,
}
LATER_SWEPT = ("attribution", "weight_decay", "embedding_noise")  # not lists in version 0.1


@dataclass(frozen=True)
class SweepConfig:
    """Settings of many fits on one cache: every combination of the swept values, then further ones.

    Args:
        base: Settings that are not swept; those that are go back to their defaults here.
        head, method, amr_ratio, amr_weight, lr, seed, attribution, weight_decay, embedding_noise: Value or list of
            values of each setting; "none" in amr_ratio is no AMR, and "all" as method every one that can run. Left out,
            the value of `base`.
        group_size: Number of runs to train at once; None for as many as fit the device.
        also: Further fits, each with every seed. Their seed, device and folder are those of the sweep.

    >>> config = SweepConfig(FitConfig(epochs=10), amr_ratio=["none", "1:1", "3:1"], seed=range(5))
    >>> len(config.members())
    15
    """

    base: FitConfig = field(default_factory=FitConfig)
    head: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    amr_ratio: tuple[str | None, ...] = ()
    amr_weight: tuple[float | None, ...] = ()
    lr: tuple[float | None, ...] = ()
    seed: tuple[int, ...] = ()
    group_size: int | None = None
    attribution: tuple[str, ...] = ()
    weight_decay: tuple[float | None, ...] = ()
    embedding_noise: tuple[str | None, ...] = ()
    also: tuple[FitConfig, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the values of the base, and check the config of each fit."""
        for name in SWEPT:
            object.__setattr__(self, name, swept_values(self.base, name, getattr(self, name)))
        object.__setattr__(self, "base", replace(self.base, **{name: getattr(FitConfig, name) for name in SWEPT}))
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"--group-size must be 1 or more, got {self.group_size}. Leave it out for the default.")
        check_recipe(self.base.recipe, self.method)
        check_effects(self.base, self.amr_ratio, self.amr_weight)
        for config in self.also:
            check_effects(config, [config.amr_ratio], [config.amr_weight])
        self.members()

    @classmethod
    def parse(
        cls, *, seeds: int | None = None, group_size: int | None = None, swept: Mapping[str, str | None], **fixed: Any
    ) -> SweepConfig:
        """Parse comma lists as on the command line.

        Args:
            seeds: Number N of seeds, 0 to N - 1; replaces `seed`.
            group_size: Number of runs to train at once.
            swept: Swept field to its comma list; None or missing for the default of FitConfig.
            fixed: Other fields of FitConfig.

        Raises:
            ValueError: A value has the wrong type, or a fit has an invalid setting.
        """
        return cls(FitConfig(**fixed), group_size=group_size, **parse_lists(SWEPT, swept, seeds))

    def members(self) -> list[FitConfig]:
        """Config of each fit. Settings of AMR are swept only for fits with a ratio."""
        without_amr = {name: getattr(FitConfig, name) for name in AMR_SETTINGS} | {"attribution": self.attribution[0]}
        configs = []
        for values in product(*(each_value(self, name) for name in SWEPT)):
            config = replace(self.base, **dict(zip(SWEPT, values, strict=True)))
            configs.append(config if config.amr_ratio is not None else replace(config, **without_amr))
        of_sweep = {name: getattr(self.base, name) for name in ("out", "device", "logger")}
        configs += [replace(config, seed=seed, **of_sweep) for config in self.also for seed in self.seed]
        return list(dict.fromkeys(configs))

    def varies(self, name: str) -> bool:
        """Whether a swept setting has several values."""
        return len({*getattr(self, name), *(getattr(config, name) for config in self.also)}) > 1


AMR_SETTINGS = ("amr_weight", "amr_level", "amr_optimizer")  # without an effect if there is no ratio


def check_effects(config: TrainingConfig, ratios: Sequence[str | None], weights: Sequence[float | None]) -> None:
    """Check that every setting has an effect. Not part of the config's own checks: runs of 0.1 may have such settings.

    Args:
        config: Settings of the fits.
        ratios: Every amr_ratio of the fits.
        weights: Every amr_weight of the fits.

    Raises:
        ValueError: A setting has no effect without another one.
    """
    if all(ratio is None for ratio in ratios):
        for name in AMR_SETTINGS:
            values = weights if name == "amr_weight" else [getattr(config, name)]
            useless = [value for value in values if value not in (getattr(type(config), name), 0)]  # 0 is off
            if useless:
                raise ValueError(
                    f"{flag(name)} must be used with --amr-ratio, got {useless[0]} without it. "
                    "Add --amr-ratio 1:1, or leave it out."
                )
    if isinstance(config, FitConfig) and config.adapter == "none" and config.adapter_dim != FitConfig.adapter_dim:
        raise ValueError(
            f"--adapter-dim must be used with --adapter linear or mlp, got {config.adapter_dim} without it. "
            "Add --adapter linear, or leave it out."
        )


def swept_values(base: TrainingConfig, name: str, given: Any) -> tuple[Any, ...]:
    """Values of a swept setting, with their declared types.

    Args:
        base: Config that has the value if none is given.
        name: Name of the setting.
        given: One value, or several.

    Raises:
        ValueError: A value is invalid.
    """
    values: list[Any] = [given] if given is None or isinstance(given, str | Mapping | Real) else list(given)
    values = values or [getattr(base, name)]
    if name == "method" and ALL in [str(value).lower() for value in values]:
        if len(values) > 1:
            raise ValueError(f"--method must be {ALL} alone or names, got {','.join(values)}. Pass {ALL}.")
        return (ALL,)
    return tuple(getattr(replace(base, **{name: value}), name) for value in values)


def each_value(config: Any, name: str) -> tuple[Any, ...]:
    """Values of a swept setting of a sweep's config; "all" is each registered method."""
    values: tuple[Any, ...] = getattr(config, name)
    return registered_names("methods") if name == "method" and values == (ALL,) else values


def parse_lists(
    kinds: Mapping[str, Callable[[str], Any]], swept: Mapping[str, str | None], seeds: int | None
) -> dict[str, tuple[Any, ...]]:
    """Values of the swept settings that are given.

    Args:
        kinds: Swept setting to the function that parses one value.
        swept: Setting to its comma list; None or missing if it is not given.
        seeds: Number N of seeds, 0 to N - 1, instead of a list.

    Raises:
        ValueError: A value has the wrong type, or seeds are given twice.
    """
    if seeds is not None and seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, got {seeds}. Pass --seeds 5.")
    if seeds is not None and swept.get("seed") is not None:
        raise ValueError("--seeds must be used without --seed, got both. Leave one of them out.")
    lists = {name: _parse_list(name, text, kinds[name]) for name, text in swept.items() if text is not None}
    return lists if seeds is None else lists | {"seed": tuple(range(seeds))}


def _parse_list(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(value.strip()) for value in text.split(","))
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise ValueError(
            f"{flag(name)} must be {numbers} separated by commas, got {text!r}. Pass for example 1,2."
        ) from None
