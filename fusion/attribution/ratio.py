"""Target ratios: `1:1`, `2:1:1` in the order of the modalities, or `audio=3:video=1`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from amr.common.registry import unknown


def parse_ratio(text: str, modalities: Sequence[str] | None = None) -> tuple[float, ...]:
    """The target shares that a ratio asks for, in the order of `modalities`; they sum to 1.

    Args:
        text: `1:1`, `3:1`, or by name `audio=3:video=1`. 0 is a value; not all may be 0.
        modalities: whose shares they are. None checks only what can be checked without them.

    Raises:
        ValueError: a part is no finite number >= 0, a name is unknown or missing, or the length is wrong.

    >>> parse_ratio("3:1", ["audio", "video"])
    (0.75, 0.25)
    >>> parse_ratio("video=1:audio=3", ["audio", "video"])
    (0.75, 0.25)
    """
    parts = text.split(":")
    named = ["=" in part for part in parts]
    if any(named) and not all(named):
        raise _refused("name every modality or none", text)
    names = [part.partition("=")[0].strip() for part in parts] if any(named) else None
    values = [_number(part.rpartition("=")[2], text) for part in parts]
    if len(values) < 2:
        raise _refused("have at least two parts", text)
    if sum(values) == 0:
        raise _refused("have a part above 0", text)
    if names is not None and len(set(names)) != len(names):
        raise _refused("name each modality once", text)
    if modalities is not None:
        if names is not None:
            for name in names:
                if name not in modalities:
                    raise unknown("--amr-ratio's modality", name, modalities)
        if len(values) != len(modalities):
            if len(modalities) < 2:
                raise ValueError(
                    f"--amr-ratio must be left out for one modality ({', '.join(modalities)}), got {text!r}. "
                    "Pass two with --modalities, or no ratio."
                )
            wanted = ":".join("1" for _ in modalities)
            raise ValueError(
                f"--amr-ratio must have one part for each of {', '.join(modalities)}, got {text!r}. "
                f"Pass for example --amr-ratio {wanted}."
            )
        if names is not None:
            values = [values[names.index(modality)] for modality in modalities]
    largest = max(values)  # scaled first, so that neither 1e300:1e300 nor 1e-320:1 leaves the floats
    scaled = [value / largest for value in values]
    return tuple(value / sum(scaled) for value in scaled)


def _number(text: str, ratio: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _refused("be numbers with colons between them", ratio) from None
    if not math.isfinite(value) or value < 0:
        raise _refused("have finite parts of 0 or more", ratio)
    return value


def _refused(rule: str, text: str) -> ValueError:
    return ValueError(f"--amr-ratio must {rule}, got {text!r}. Pass for example --amr-ratio 1:1 or audio=3:video=1.")
