"""Runs that differ in their seed alone, together: mean and interval of every measure, a name, a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from amr.common.colors import COLORS
from amr.fusion.report.read import ResultFolder
from amr.fusion.runs.read import SETTINGS, Run, setting_text

MAX_SHOWN = len(COLORS)  # lines in one picture that are still told apart
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Args:
        label: Words that tell it from the other settings of its folder.
        runs: One per seed.
    """

    label: str
    runs: tuple[Run, ...]

    @cached_property
    def texts(self) -> dict[str, str]:
        """The setting's values as texts, "-" if not set."""
        return {name: setting_text(name, value) for name, value in self.runs[0].setting.items()}

    @property
    def fuses(self) -> bool:
        """Whether several modalities meet in one head, so that there is something to balance."""
        return self.runs[0].fuses

    @property
    def regularized(self) -> bool:
        """Whether AMR took part."""
        return self.runs[0].regularized

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of its runs, in order."""
        return self.runs[0].modalities

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every measure that any of its runs has."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.measures))

    def values(self, name: str, split: str = "test") -> np.ndarray:
        """`(runs that have it,)`."""
        measured = [(run.measures if split == "test" else run.val_measures).get(name) for run in self.runs]
        return np.array([value for value in measured if value is not None])

    def mean(self, name: str, split: str = "test") -> float | None:
        """Mean over seeds; None where no run has it."""
        values = self.values(name, split)
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
        """Whether a row of evaluation.json speaks of this setting."""
        return all(setting_text(name, row.get(name)) == self.texts[name] for name in SETTINGS)


def settings_of(results: ResultFolder) -> list[Setting]:
    """The settings of a folder, in the order of its runs."""
    members: dict[str, list[Run]] = {}
    for run in results.runs:
        members.setdefault(str(run.setting), []).append(run)
    settings = [Setting("", tuple(runs)) for runs in members.values()]
    fusing = [setting.texts for setting in settings if setting.fuses]
    varied = {name for name in SETTINGS if len({texts[name] for texts in fusing} - {"-"}) > 1}
    # methods bring their own learning rates: one is named only where it is all that tells two settings apart
    but_lr = [tuple(texts[name] for name in SETTINGS if name != "lr") for texts in fusing]
    if len(set(but_lr)) == len(but_lr):
        varied.discard("lr")
    return [replace(setting, label=_label(setting, varied)) for setting in settings]


def _label(setting: Setting, varied: set[str]) -> str:
    texts = setting.texts
    if len(setting.modalities) == 1:
        parts = [f"{texts['modalities']} only"]
    elif not setting.fuses:
        parts = [texts["method"].upper()]
    else:
        parts = [texts["method"]] * ("method" in varied) + [texts["head"]] * ("head" in varied)
        parts += [texts["modalities"].replace(",", "+")] * ("modalities" in varied)
        plain = texts["amr_ratio"] == "none"
        parts.append("no AMR" if plain else f"AMR {texts['amr_ratio']}")
        parts += [f"weight {texts['amr_weight']}"] * ("amr_weight" in varied and not plain)
    return " · ".join(parts + [f"lr {texts['lr']}"] * ("lr" in varied))


def reference_of(settings: Sequence[Setting]) -> Setting | None:
    """Joint training without AMR, the best by val where there are several: what AMR is compared with."""
    plain = [setting for setting in settings if setting.fuses and not setting.regularized]
    naive = [setting for setting in plain if setting.texts["method"] == "naive"]
    return _best(naive or plain)


def counterpart(setting: Setting, settings: Sequence[Setting]) -> Setting | None:
    """The same settings without AMR."""
    if not setting.regularized:
        return None
    same = ("head", "method", "modalities", "lr")
    for other in settings:
        if not other.regularized and all(other.texts[name] == setting.texts[name] for name in same):
            return other
    return None


def shown(settings: Sequence[Setting], most: int = MAX_SHOWN) -> list[Setting]:
    """The settings that pictures of many lines show: the reference, then the best by val, in the order of `settings`."""
    joint = [setting for setting in settings if setting.fuses] or list(settings)
    reference = reference_of(settings)
    ranked = sorted(joint, key=lambda setting: (setting is not reference, -_val(setting)))
    kept = {id(setting) for setting in ranked[:most]}
    return [setting for setting in joint if id(setting) in kept]


def best_run(settings: Sequence[Setting]) -> Run:
    """The joint run with the highest accuracy on val; the first run where there is no val part."""
    runs = [run for setting in settings if setting.fuses for run in setting.runs]
    runs = runs or [run for setting in settings for run in setting.runs]
    return max(runs, key=lambda run: run.val_measures.get("accuracy", -1.0))


def _best(settings: Sequence[Setting]) -> Setting | None:
    return max(settings, key=_val, default=None)


def _val(setting: Setting) -> float:
    value = setting.mean("accuracy", "val")
    return -1.0 if value is None else value
