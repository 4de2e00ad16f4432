"""Settings: runs that differ in seed only, with means and intervals of their measures and a label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from amr.common.colors import SETTING_COLORS
from amr.fusion.choices import Score
from amr.fusion.report.read import ResultFolder
from amr.fusion.runs.read import SETTINGS, Run, best_of, setting_details, setting_text, varied_settings
from amr.fusion.runs.statistics import mean_interval

MAX_SHOWN = len(SETTING_COLORS)  # lines in one picture that can still be distinguished
OF_METHODS = ("lr", "weight_decay")  # settings of which each method has its own default


@dataclass(frozen=True)
class Setting:
    """Runs that differ in seed only.

    Args:
        label: Text that distinguishes it from the other settings of its folder.
        runs: One per seed.
        style: Number of its color and symbol, the same in every picture of a page; 0 is the reference.
        number: Its number on the page, from 1, in the order of tables.
    """

    label: str
    runs: tuple[Run, ...]
    style: int = 0
    number: int = 1

    @cached_property
    def texts(self) -> dict[str, str]:
        """Values of the setting as text, "none" without a ratio, "-" if something else is not set."""
        return {name: setting_text(name, value) for name, value in self.runs[0].setting.items()}

    @property
    def ratio(self) -> str:
        """Ratio with the names of its modalities; "no AMR" without AMR."""
        named = self.runs[0].record.named_ratio
        return "no AMR" if named is None else f"AMR {named}"

    @property
    def is_even(self) -> bool:
        """Whether the ratio of AMR is equal shares."""
        target = self.runs[0].record.target_share
        return target is not None and len(set(target.values())) == 1

    @property
    def fuses(self) -> bool:
        """Whether one head fuses several modalities, so that there is something to balance."""
        return self.runs[0].fuses

    @property
    def regularized(self) -> bool:
        """Whether AMR was used."""
        return self.runs[0].regularized

    @property
    def score(self) -> Score:
        """Measure of the task by which runs are chosen, such as accuracy."""
        return self.runs[0].score

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of its runs, in order."""
        return self.runs[0].modalities

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all measures of its runs."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.measures))

    def values(self, name: str, split: str = "test") -> np.ndarray:
        """Values of a measure, `(runs,)`, for the runs that have it."""
        measured = [(run.measures if split == "test" else run.val_measures).get(name) for run in self.runs]
        return np.array([value for value in measured if value is not None])

    def mean(self, name: str, split: str = "test") -> float | None:
        """Mean over seeds; None if no run has the measure."""
        values = self.values(name, split)
        return float(values.mean()) if len(values) else None

    def gain(self, split: str = "test") -> float | None:
        """Mean score over seeds, its sign such that more is better; None if no run has it."""
        value = self.mean(self.score.name, split)
        return None if value is None else self.score.gain(value)

    @property
    def val_gain(self) -> float:
        """`gain` on val; minus infinity if no run has it."""
        gain = self.gain("val")
        return -math.inf if gain is None else gain

    def half_width(self, name: str) -> float | None:
        """Half of the 95 % t-interval over seeds; for a single seed, of its bootstrap over clips; else None."""
        values = self.values(name)
        if len(values) > 1:
            return mean_interval(values)[1]
        low, high = next((run.intervals[name] for run in self.runs if name in run.intervals), (None, None))
        return None if low is None or high is None else (high - low) / 2

    def by_modality(self, name: str) -> dict[str, float | None]:
        """Modality to the mean of `name.MODALITY`."""
        return {m: self.mean(f"{name}.{m}") for m in self.modalities}

    def has(self, name: str) -> bool:
        """Whether `name.MODALITY` is known for a modality."""
        return any(value is not None for value in self.by_modality(name).values())

    def matches(self, row: Mapping[str, object]) -> bool:
        """Whether a row of evaluation.json is about this setting."""
        # version 0.1 wrote fewer settings
        return all(setting_text(name, row[name]) == self.texts[name] for name in SETTINGS if name in row)


def settings_of(results: ResultFolder) -> list[Setting]:
    """Settings of a folder, in the order of its runs."""
    members: dict[str, list[Run]] = {}
    for run in results.runs:
        members.setdefault(str(run.setting), []).append(run)
    settings = [Setting("", tuple(runs)) for runs in members.values()]
    fusing = [setting.texts for setting in settings if setting.fuses]
    varied = varied_settings(fusing)
    # methods have their own default learning rates and decays: named only if nothing else distinguishes two settings
    others = [tuple(texts[name] for name in SETTINGS if name not in OF_METHODS) for texts in fusing]
    if len(set(others)) == len(others):
        varied -= {*OF_METHODS}
    usual = {name: Counter(texts[name] for texts in fusing).most_common(1)[0][0] for name in OF_METHODS if fusing}
    return with_styles([[replace(setting, label=_label(setting, varied, usual)) for setting in settings]])[0]


def with_styles(folders: Sequence[Sequence[Setting]]) -> list[list[Setting]]:
    """Number the settings of a page and their styles: the same label has the same two in every folder.

    Styles begin with the reference, then the settings that pictures of many lines show, so that their colors differ.
    """
    numbers: dict[str, int] = {}
    styles: dict[str, int] = {}
    for settings in folders:
        reference = reference_of(settings)
        first = [] if reference is None else [reference]
        for setting in (*first, *shown(settings), *settings):
            styles.setdefault(setting.label, len(styles))
        for setting in settings:
            numbers.setdefault(setting.label, len(numbers) + 1)
    return [[replace(s, style=styles[s.label], number=numbers[s.label]) for s in settings] for settings in folders]


def _label(setting: Setting, varied: set[str], usual: Mapping[str, str]) -> str:
    """Label of a setting; a learning rate or a decay that most settings have is not in it."""
    texts = setting.texts
    varied = {name for name in varied if texts[name] != usual.get(name)}
    if setting.runs[0].record.model is not None:
        parts = [setting.runs[0].record.model]
    elif len(setting.modalities) == 1:
        parts = [f"{texts['modalities']} only"]
    elif not setting.fuses:
        parts = [texts["method"].upper(), *setting_details(setting.runs[0].setting, ["method_option"])]
    else:
        parts = [texts["method"]] * ("method" in varied) + [texts["head"]] * ("head" in varied)
        parts += [texts["modalities"].replace(",", "+")] * ("modalities" in varied)
        parts.append(setting.ratio)
        parts += setting_details(setting.runs[0].setting, varied)
    return " · ".join(parts)


def reference_of(settings: Sequence[Setting]) -> Setting | None:
    """Reference for AMR: joint training without it, the best by val of those that have a counterpart with it."""
    plain = [setting for setting in settings if setting.fuses and not setting.regularized]
    counterparts = [counterpart(setting, settings) for setting in settings]
    plain = [setting for setting in plain if any(setting is other for other in counterparts)] or plain
    naive = [setting for setting in plain if setting.texts["method"] == "naive"]
    return _best(naive or plain)


def counterpart(setting: Setting, settings: Sequence[Setting]) -> Setting | None:
    """The same setting without AMR."""
    if not setting.regularized:
        return None
    same = ("head", "method", "modalities", "lr", "weight_decay", "embedding_noise", "method_option")
    for other in settings:
        if not other.regularized and all(other.texts[name] == setting.texts[name] for name in same):
            return other
    return None


def shown(settings: Sequence[Setting], most: int = MAX_SHOWN) -> list[Setting]:
    """Settings for pictures of many lines: the reference and the best by val, in the order of `settings`."""
    joint = [setting for setting in settings if setting.fuses] or list(settings)
    reference = reference_of(settings)
    ranked = sorted(joint, key=lambda setting: (setting is not reference, -setting.val_gain))
    selected = {id(setting) for setting in ranked[:most]}
    return [setting for setting in joint if id(setting) in selected]


def over_seeds(settings: Sequence[Setting]) -> str:
    """Words for a caption: ", mean over seeds"; empty if no setting has several."""
    return ", mean over seeds" * any(len(setting.runs) > 1 for setting in settings)


def best_run(settings: Sequence[Setting]) -> Run:
    """Joint run that is best on val (`best_of`); the first run if there is no val split."""
    runs = [run for setting in settings if setting.fuses for run in setting.runs]
    runs = runs or [run for setting in settings for run in setting.runs]
    return best_of(runs)


def of_best_run(settings: Sequence[Setting]) -> str:
    """Words for `best_run` after test clips; empty if there is no other run.

    For example " of the run that is best on val (no AMR, seed 0)".
    """
    if sum(len(setting.runs) for setting in settings) == 1:
        return ""
    run = best_run(settings)
    return f" of the run that is best on val ({setting_with(run, settings).label}, seed {run.seed})"


def setting_with(run: Run, settings: Sequence[Setting]) -> Setting:
    """The setting that a run is of."""
    return next(setting for setting in settings if any(member is run for member in setting.runs))


def _best(settings: Sequence[Setting]) -> Setting | None:
    return max(settings, key=lambda setting: setting.val_gain, default=None)
