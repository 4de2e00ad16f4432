"""The methods that can run with given settings: `--method all` of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from amr.fusion.choices import ALL
from amr.fusion.methods.base import methods

C = TypeVar("C")
S = TypeVar("S")


def with_able_methods(config: S, check: Callable[[Any], object]) -> tuple[S, list[str]]:
    """A sweep's config with the names of the methods that can run in place of "all", and a note about each other.

    Args:
        config: SweepConfig or TrainSweepConfig. One that names its methods stays as it is, without notes.
        check: Function of a member's config that raises ValueError if it cannot run.
    """
    given: Any = config
    if given.method != (ALL,):
        return config, []
    names, notes = able_methods(lambda name: replace(given, method=(name,)).members(), check)
    return replace(given, method=names), notes


def able_methods(
    configs: Callable[[str], Iterable[C]], check: Callable[[C], object]
) -> tuple[tuple[str, ...], list[str]]:
    """Names of the methods that can run, in the order of the registry, and a note about each that cannot.

    Args:
        configs: Function of a method's name that returns the config of each of its fits.
        check: Function of a config that raises ValueError if the fit cannot run.

    Raises:
        ValueError: Naive training cannot run either, so the reason is no method.
    """
    for config in configs("naive"):
        check(config)
    able, notes = [], []
    for name in methods:
        try:
            for config in configs(name):
                check(config)
        except ValueError as error:
            reason = str(error).rsplit(". ", 1)[0]  # without the advice
            notes.append(f"{name} is left out: {reason}")
        else:
            able.append(name)
    return tuple(able), notes
