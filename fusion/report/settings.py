"""Runs that differ in their seed alone, together: mean and interval of every measure, a name, a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from amr.fusion.report.read import Run, Source
from amr.fusion.sweep.plots import COLOURS

MAX_SHOWN = len(COLOURS)  # lines in one picture that are still told apart
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
SETTINGS = ("head", "method", "modalities", "amr_ratio", "amr_weight", "lr")


@dataclass(frozen=True)
class Group:
    """Runs of the same settings.

    Args:
        label: what sets it apart from the other groups of its source, in words.
        settings: of each of its runs.
        runs: one a seed.
    """

    label: str
    settings: Mapping[str, str]
    runs: tuple[Run, ...]

    @property
    def joint(self) -> bool:
        """Whether it takes several modalities into one head, so that there is something to balance."""
        return "," in self.settings["modalities"] and self.settings["method"] != "ume"

    @property
    def regularized(self) -> bool:
        """Whether AMR took part."""
        return self.settings["amr_ratio"] != "none" and self.settings["amr_weight"] not in ("-", "0")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What its runs take."""
        return tuple(self.settings["modalities"].split(","))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every measure that any of its runs has."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.test))

    def values(self, name: str, part: str = "test") -> np.ndarray:
        """`(runs that have it,)`."""
        measured = [(run.test if part == "test" else run.val).get(name) for run in self.runs]
        return np.array([value for value in measured if value is not None])

    def mean(self, name: str, part: str = "test") -> float | None:
        """Mean over seeds; None where no run has it."""
        values = self.values(name, part)
        return float(values.mean()) if len(values) else None

    def half_width(self, name: str) -> float | None:
        """Half of the 95 % t-interval over seeds; of a single seed, of its bootstrap over clips, else None."""
        values = self.values(name)
        if len(values) < 2:
            low, high = next((run.intervals[name] for run in self.runs if name in run.intervals), (None, None))
            return None if low is None or high is None else (high - low) / 2
        return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))

    def by_modality(self, *names: str) -> dict[str, float | None]:
        """Means of `name.MODALITY` of the first of the names that is there."""
        for name in names:
            found = {m: self.mean(f"{name}.{m}") for m in self.modalities}
            if any(value is not None for value in found.values()):
                return found
        return dict.fromkeys(self.modalities)

    def matches(self, row: Mapping[str, object]) -> bool:
        """Whether a row of evaluation.json speaks of these settings."""
        return all(_text(name, row.get(name)) == _text(name, self.settings[name]) for name in SETTINGS)


def _text(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if name in ("amr_weight", "lr"):
        try:
            return f"{float(str(value)):g}"
        except ValueError:
            return "-"
    return "-" if value is None else str(value)


def groups_of(source: Source) -> list[Group]:
    """The groups of a source, in the order of its runs."""
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in source.runs:
        members.setdefault(tuple(run.settings.values()), []).append(run)
    joint = [s for runs in members.values() if "," in (s := runs[0].settings)["modalities"] and s["method"] != "ume"]
    varied = {name for name in SETTINGS if len({s[name] for s in joint} - {"-"}) > 1}
    # methods bring their own learning rates: one is named only where it is all that tells two groups apart
    but_lr = [tuple(s[name] for name in SETTINGS if name != "lr") for s in joint]
    if len(set(but_lr)) == len(but_lr):
        varied.discard("lr")
    return [Group(_label(runs[0].settings, varied), runs[0].settings, tuple(runs)) for runs in members.values()]


def _label(settings: Mapping[str, str], varied: set[str]) -> str:
    if "," not in settings["modalities"]:
        parts = [f"{settings['modalities']} only"]
        return " · ".join(parts + ([f"lr {settings['lr']}"] if "lr" in varied else []))
    parts = ["UME"] if settings["method"] == "ume" else [settings["method"]] * ("method" in varied)
    if settings["method"] != "ume":
        parts += [settings["head"]] * ("head" in varied)
        parts += [settings["modalities"].replace(",", "+")] * ("modalities" in varied)
        none = settings["amr_ratio"] == "none"
        parts.append("no AMR" if none else f"AMR {settings['amr_ratio']}")
        parts += [f"weight {settings['amr_weight']}"] * ("amr_weight" in varied and not none)
    parts += [f"lr {settings['lr']}"] * ("lr" in varied)
    return " · ".join(parts)


def reference_of(groups: Sequence[Group]) -> Group | None:
    """Joint training without AMR, the best by val where there are several: what AMR is compared with."""
    plain = [group for group in groups if group.joint and not group.regularized]
    naive = [group for group in plain if group.settings["method"] == "naive"]
    return _best(naive or plain)


def counterpart(group: Group, groups: Sequence[Group]) -> Group | None:
    """The same settings without AMR."""
    if not group.regularized:
        return None
    same = ("head", "method", "modalities", "lr")
    for other in groups:
        if not other.regularized and all(other.settings[name] == group.settings[name] for name in same):
            return other
    return None


def shown(groups: Sequence[Group], most: int = MAX_SHOWN) -> list[Group]:
    """The groups that pictures of many lines show: the reference, then the best by val, in the order of `groups`."""
    joint = [group for group in groups if group.joint] or list(groups)
    reference = reference_of(groups)
    ranked = sorted(joint, key=lambda group: (group is not reference, -_val(group)))
    kept = {id(group) for group in ranked[:most]}
    return [group for group in joint if id(group) in kept]


def best_run(groups: Sequence[Group]) -> Run:
    """The joint run with the highest accuracy on val; the first run where there is no val part."""
    runs = [run for group in groups if group.joint for run in group.runs]
    runs = runs or [run for group in groups for run in group.runs]
    return max(runs, key=lambda run: run.val.get("accuracy", -1.0))


def _best(groups: Sequence[Group]) -> Group | None:
    return max(groups, key=_val, default=None)


def _val(group: Group) -> float:
    value = group.mean("accuracy", "val")
    return -1.0 if value is None else value
