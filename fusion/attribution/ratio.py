"""Target ratios: `1:1`, `2:1:1` in the order of the modalities, or `audio=3:video=1`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from amr.common.registry import unknown

FAVORED = (4, 2)  # parts of one modality in a series of ratios; 1 for the others


def parse_ratio(text: str, modalities: Sequence[str] | None = None, *, name: str = "ratio") -> tuple[float, ...]:
    """Parse a ratio into target shares that sum to 1, in the order of `modalities`.

    Args:
        text: `1:1`, `3:1`, or by name `audio=3:video=1`. 0 is a value; not all may be 0.
        modalities: Names in order; None skips the checks that need them.
        name: Name of the argument, for errors.

    Raises:
        ValueError: A part is not a finite number of at least 0, a name is unknown or missing, or the length is wrong.

    >>> parse_ratio("3:1", ["audio", "video"])
    (0.75, 0.25)
    >>> parse_ratio("video=1:audio=3", ["audio", "video"])
    (0.75, 0.25)
    """
    names, values = ratio_parts(text, name=name)
    if modalities is not None:
        if names is not None:
            for each in names:
                if each not in modalities:
                    raise unknown(f"{name}'s modality", each, modalities)
        if len(values) != len(modalities):
            if len(modalities) < 2:
                raise ValueError(
                    f"{name} must be left out for one modality ({', '.join(modalities)}), got {text!r}. "
                    "Name two modalities, or leave the ratio out."
                )
            wanted = ":".join("1" for _ in modalities)
            raise ValueError(
                f"{name} must have one part for each of {', '.join(modalities)}, got {text!r}. "
                f"Pass for example {wanted}."
            )
        if names is not None:
            values = [values[names.index(modality)] for modality in modalities]
    largest = max(values)  # scaled first: 1e300:1e300 would overflow, 1e-320:1 underflow
    scaled = [value / largest for value in values]
    return tuple(value / sum(scaled) for value in scaled)


def parse_amounts(
    text: str, modalities: Sequence[str] | None = None, *, name: str = "--embedding-noise"
) -> tuple[float, ...]:
    """Parse one amount per modality: `1` for all, or by name `audio=2:video=0`; those left out are 0.

    Args:
        text: One number of 0 or more, or numbers by name.
        modalities: Names in order; None skips the checks that need them.
        name: Name of the option, for errors.

    Raises:
        ValueError: A number is below 0 or not finite, or a name is unknown or given twice.

    >>> parse_amounts("0.5", ["audio", "video"]), parse_amounts("video=2", ["audio", "video"])
    ((0.5, 0.5), (0.0, 2.0))
    """
    amounts: dict[str, float] = {}
    for part in text.split(":"):
        modality, _, number = part.rpartition("=")
        modality = modality.strip()
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        is_number = math.isfinite(amount) and amount >= 0
        if not is_number or modality in amounts or "" in amounts or (amounts and not modality):
            raise ValueError(
                f"{name} must be one number of 0 or more, or one by name, got {text!r}. "
                "Pass for example 1 or audio=2:video=0."
            )
        if modality and modalities is not None and modality not in modalities:
            raise unknown(f"{name}'s modality", modality, modalities)
        amounts[modality] = amount
    if "" in amounts:
        return (amounts[""],) * (1 if modalities is None else len(modalities))
    return tuple(amounts.get(modality, 0.0) for modality in modalities or amounts)


def named_ratio(text: str, modalities: Sequence[str]) -> str:
    """Ratio with the names of its modalities, in their order.

    >>> named_ratio("3:1", ["audio", "video"]), named_ratio("video=1:audio=3", ["audio", "video"])
    ('audio=3:video=1', 'audio=3:video=1')
    """
    names, _ = ratio_parts(text)
    values = [part.rpartition("=")[2].strip() for part in text.split(":")]
    of_name = dict(zip(modalities if names is None else names, values, strict=True))
    return ":".join(f"{modality}={of_name[modality]}" for modality in modalities)


def ratios(num_modalities: int) -> list[str]:
    """Series of ratios from the first modality to the last: even, and each modality in turn at 2 and 4.

    >>> ratios(2)
    ['4:1', '2:1', '1:1', '1:2', '1:4']
    >>> ratios(3)
    ['1:1:1', '4:1:1', '2:1:1', '1:4:1', '1:2:1', '1:1:4', '1:1:2']
    """
    even = ":".join("1" * num_modalities)
    favored = [[_favored(m, parts, num_modalities) for parts in FAVORED] for m in range(num_modalities)]
    if num_modalities == 2:
        return [*favored[0], even, *favored[1][::-1]]
    return [even, *(ratio for of_modality in favored for ratio in of_modality)]


def _favored(modality: int, parts: int, num_modalities: int) -> str:
    return ":".join(str(parts if m == modality else 1) for m in range(num_modalities))


def ratio_parts(text: str, *, name: str = "ratio") -> tuple[list[str] | None, list[float]]:
    """Names (None if it has none) and values of a ratio, checked but not scaled."""
    parts = text.split(":")
    named = ["=" in part for part in parts]
    if any(named) and not all(named):
        raise _refused(name, "name every modality or none", text)
    names = [part.partition("=")[0].strip() for part in parts] if any(named) else None
    values = [_number(name, part.rpartition("=")[2], text) for part in parts]
    if len(values) < 2:
        raise _refused(name, "have at least two parts", text)
    if sum(values) == 0:
        raise _refused(name, "have a part above 0", text)
    if names is not None and len(set(names)) != len(names):
        raise _refused(name, "name each modality once", text)
    return names, values


def _number(name: str, text: str, ratio: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _refused(name, "be numbers with colons between them", ratio) from None
    if not math.isfinite(value) or value < 0:
        raise _refused(name, "have finite parts of 0 or more", ratio)
    return value


def _refused(name: str, rule: str, text: str) -> ValueError:
    return ValueError(f"{name} must {rule}, got {text!r}. Pass for example 1:1 or audio=3:video=1.")
