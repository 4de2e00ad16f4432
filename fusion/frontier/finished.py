"""A frontier of runs that exist, such as those of trainings of encoders: `amr frontier --runs FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from amr.common.progress import Progress
from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.choices import own_weight
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup
from amr.fusion.frontier.measure import Measured, measured_runs
from amr.fusion.frontier.settings import PLAIN, Setting
from amr.fusion.runs.read import Run, setting_details, setting_text, varied_settings


def measure_finished(runs: Sequence[Run], caches: OpenedCaches, progress: Progress) -> list[Measured]:
    """Measure every setting of finished runs: the plain one first, then those of its method, then the others.

    Args:
        runs: Finished runs.
        caches: Their caches.
        progress: Listener.

    Raises:
        ValueError: No run fuses modalities without a regularizer, or the runs differ in modalities or have no val and
            test clips.
    """
    fusing = [run for run in runs if run.fuses]
    plain = next((run for run in fusing if not run.regularized), None)
    if plain is None:
        raise ValueError(
            "--runs must hold runs of several modalities without AMR to compare with, got none. "
            "Add them with --amr-ratio none,1:1."
        )
    for run in fusing:
        if run.modalities != plain.modalities:
            names = [",".join(each.modalities) for each in (plain, run)]
            raise ValueError(f"--runs must hold runs of the same modalities, got {names[0]} and {names[1]}.")
        if run.val is None or run.test is None:
            raise ValueError(f"--runs must hold runs with val and test clips, got {run.name} without.")
    by_setting: dict[str, list[Run]] = {}
    for run in [plain, *fusing]:
        members = by_setting.setdefault(json.dumps(run.setting, sort_keys=True), [])
        members += [run] if run not in members else []
    if len(by_setting) < 2:
        raise ValueError(
            f"--runs must hold runs of two settings or more, got {len(by_setting)}. Name the folder of a sweep, a "
            "table or several trainings."
        )
    texts = [{name: setting_text(name, run.setting[name]) for name in run.setting} for run in fusing]
    varied = varied_settings(texts)
    progress.start(len(by_setting), unit="settings")
    measured = []
    for members in by_setting.values():
        setting = _setting(members[0], varied)
        measured.append(measured_runs(setting, tuple(members), (RunGroup((run,), caches.data(run)) for run in members)))
        progress.advance(1)
    progress.stop()
    return measured


def _setting(run: Run, varied: set[str]) -> Setting:
    """The setting of a run; those of one method, attribution and weight are a curve."""
    shown = varied - {"attribution"}
    if run.setting["amr_weight"] == own_weight(run.config.attribution):
        shown -= {"amr_weight"}
    details = setting_details(run.setting, shown)
    weight = setting_details(run.setting, shown & {"amr_weight"})
    method = " ".join([run.config.method, *([run.config.head] if "head" in varied else [])])
    if not run.regularized:
        name = " ".join([method, *details])
        return Setting(PLAIN, name, name, run.config)
    ratio = named_ratio(str(run.config.amr_ratio), run.modalities)
    curve = ", ".join([method, run.config.attribution, *weight])
    return Setting(
        run.config.attribution, curve, " ".join([f"{method}, {run.config.attribution}", ratio, *details]), run.config
    )
