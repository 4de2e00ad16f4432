"""Trainings of encoders of one label: their table, and how much shares swing from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from paired import Setting, find, settings_of
from tables import PLAIN, Rows, number, short, with_half

from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.runs.statistics import PairedTest, holm, mean_interval, p_text, paired_test

ORDER = (None, "grad_x_input 1:1", "permutation 1:1", "permutation 1:2")
FIRST_EPOCHS, LAST_EPOCHS = 5, 10  # steps of a history begin after these, its range is that of these
COLUMNS = ("method", "AMR", "accuracy", "share {0}", "use {0}/{1}", "use share {0}", "probe {0}/{1}")
COLUMNS += ("probe, against alone, {0}/{1}", "accuracy against none", "p")


@dataclass(frozen=True)
class Trainings:
    """Finished settings of a label.

    Args:
        label: Name of the label.
        joint: Settings that fuse, by method, and in the order of `ORDER` within a method.
        alone: Settings of one modality each.
    """

    label: str
    joint: tuple[Setting, ...]
    alone: tuple[Setting, ...]

    @classmethod
    def read(cls, label: str, table: Path, permutation: Path) -> Trainings:
        """Read the settings of both sweeps; those of permutation are paired with the table's plain ones."""
        settings = settings_of(table)
        fused = [each for each in settings if len(each.modalities) > 1]
        more = [each for each in settings_of(permutation) if len(each.modalities) > 1] if permutation.is_dir() else []
        methods = [each.runs[0].config.method for each in fused if amr_of(each) is None]
        joint = sorted(
            (*fused, *more), key=lambda each: (methods.index(each.runs[0].config.method), ORDER.index(amr_of(each)))
        )
        return cls(label, tuple(joint), tuple(each for each in settings if len(each.modalities) == 1))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities, in order."""
        return self.joint[0].modalities

    @property
    def plain(self) -> list[Setting]:
        """Settings without AMR."""
        return [each for each in self.joint if amr_of(each) is None]

    @property
    def regularized(self) -> list[Setting]:
        """Settings with AMR."""
        return [each for each in self.joint if amr_of(each) is not None]

    def plain_of(self, setting: Setting) -> Setting:
        """The same method without AMR."""
        method = setting.runs[0].config.method
        return find(self.plain, lambda run: run.config.method == method)

    @cached_property
    def tests(self) -> dict[int, tuple[PairedTest, float | None]]:
        """Place of a setting with AMR in `joint`, to its accuracy against none, and p by Holm over all of them."""
        places = [i for i, each in enumerate(self.joint) if amr_of(each) is not None]
        tests = [against(self.joint[i], self.plain_of(self.joint[i])) for i in places]
        corrected = holm([test.p for test in tests])
        return dict(zip(places, zip(tests, corrected, strict=True), strict=True))


def amr_of(setting: Setting) -> str | None:
    """Attribution and ratio of a setting; None without AMR."""
    config = setting.runs[0].config
    if config.amr_ratio is None:
        return None
    return f"{config.attribution} {short(named_ratio(config.amr_ratio, setting.modalities), setting.modalities)}"


def measure(setting: Setting, name: str) -> np.ndarray:
    """A measure of evaluation.json, `(seeds,)`; NaN where a run lacks it."""
    return np.array([run.measures.get(name, np.nan) for run in setting.runs])


def mean(setting: Setting, name: str) -> float | None:
    """Mean of a measure over the seeds that have it; None if none has."""
    values = measure(setting, name)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def against(ours: Setting, theirs: Setting, name: str = "accuracy") -> PairedTest:
    """Difference of two settings in a measure, paired by seed, over the seeds that have it in both."""
    values = {run.seed: run.measures[name] for run in theirs.runs if name in run.measures}
    pairs = [run for run in ours.runs if run.seed in values and name in run.measures]
    return paired_test([run.measures[name] - values[run.seed] for run in pairs])


def table_of(trainings: Trainings) -> Rows:
    """One row per setting: what it relies on, what its encoders know, and what AMR changes."""
    names = trainings.modalities
    columns = [column.format(*names) for column in COLUMNS]
    rows = []
    for i, setting in enumerate(trainings.joint):
        row = [setting.runs[0].config.method, amr_of(setting) or PLAIN, _accuracy(setting)]
        row += [number(mean(setting, f"share.{names[0]}"), ".2f"), _pair(setting, "perceptual", names)]
        row.append(number(mean(setting, f"use_share.{names[0]}"), ".2f"))
        row += [_pair(setting, "probe.joint", names), _pair(setting, "probe.gap", names, "+.2f")]
        if i in trainings.tests:
            test, p = trainings.tests[i]
            row += [with_half(test.difference, test.interval, "+.3f"), p_text(p)]
        else:
            row += ["-", "-"]
        rows.append(row)
    for setting in trainings.alone:
        (m,) = setting.modalities
        probes = {m: mean(trainings.plain[0], f"probe.unimodal.{m}")}
        probe = "/".join(number(probes.get(name), ".2f") for name in names)
        rows.append([f"{m} only", PLAIN, _accuracy(setting), "-", "-", "-", probe, "-", "-", "-"])
    return columns, rows


def _accuracy(setting: Setting) -> str:
    value, half = mean_interval(measure(setting, "accuracy"))
    return with_half(value, None if half is None else (value - half, value + half))


def _pair(setting: Setting, name: str, modalities: Sequence[str], form: str = ".2f") -> str:
    values = [mean(setting, f"{name}.{m}") for m in modalities]
    return "-" if None in values else "/".join(number(value, form) for value in values)


def swings(several: Sequence[Trainings]) -> Rows:
    """How much the first modality's val share moves from epoch to epoch, the mean over runs."""
    columns = ["label", "AMR", "runs", f"step after epoch {FIRST_EPOCHS}", f"range of the last {LAST_EPOCHS} epochs"]
    rows = []
    for trainings in several:
        for amr in ORDER:
            found = [pair for each in trainings.joint if amr_of(each) == amr for pair in _swings(each)]
            if found:
                step, range_ = np.mean(found, axis=0)
                rows.append([trainings.label, amr or PLAIN, str(len(found)), number(step), number(range_)])
    return columns, rows


def _swings(setting: Setting) -> Iterator[tuple[float, float]]:
    """Mean absolute step and range of the val share of each run that was trained for enough epochs."""
    for run in setting.runs:
        history = run.history()
        if history is not None and len(history) >= FIRST_EPOCHS + LAST_EPOCHS:
            share = history[f"val_share_{setting.modalities[0]}"].to_numpy()
            yield float(np.abs(np.diff(share[FIRST_EPOCHS - 1 :])).mean()), float(np.ptp(share[-LAST_EPOCHS:]))
