"""A sweep goes on with the run groups with which it began."""

import json
import shutil
from itertools import chain

import pandas as pd
import pytest
import torch

from amr.common.files import checksummed, write_json
from amr.fusion.runs.weights import read_fitted
from amr.fusion.sweep import sweep as module
from amr.fusion.sweep.results import run_folder
from amr.fusion.sweep.sweep import sweep

from ...torture.damage import differences
from .test_sweep import config


def saved(folder):
    return json.loads((folder / "sweep.json").read_text())


def unfinished(folder, *names):
    """Take from runs what a killed sweep lacks."""
    for name in names:
        (folder / "runs" / name / "metrics.json").unlink()


def test_groups_are_recorded_and_do_not_depend_on_threads(small_cache):
    request = config(small_cache, amr_ratio="none,1:1", seeds=3)
    folder = sweep(request).folder
    groups = saved(folder)["groups"]
    assert saved(folder)["group_size"] is None
    assert sorted(chain(*groups)) == sorted(path.name for path in (folder / "runs").iterdir())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        whole = folder.rename(folder.with_name("whole"))
        sweep(request)
    finally:
        torch.set_num_threads(before)
    assert differences(whole, folder) == []


def test_a_group_of_which_a_run_is_missing_is_trained_again_whole_and_equal_to_the_bit(small_cache, monkeypatch):
    request = config(small_cache, amr_ratio="none,1:1,3:1", seeds=2)
    folder = sweep(request).folder
    shutil.copytree(folder, whole := folder.with_name("whole"))
    trained = []
    fit_group = module.fit_group
    monkeypatch.setattr(module, "fit_group", lambda *a, **k: trained.append(a[:2]) or fit_group(*a, **k))
    monkeypatch.setattr(module, "group_size", lambda *a, **k: 1)  # on a machine with less memory
    *finished, missing = saved(folder)["groups"][0]
    unfinished(folder, missing)
    sweep(request)
    ((records, folders),) = trained
    assert [run_folder(record).name for record in records] == [*finished, missing]
    assert finished
    assert folders == [*[None] * len(finished), folder / "runs" / missing]
    assert differences(whole, folder) == []


def test_another_group_size_makes_new_groups_whose_results_are_near(small_cache):
    request = config(small_cache, amr_ratio="none,1:1,3:1", seeds=2)
    folder = sweep(request).folder
    shutil.copytree(folder, whole := folder.with_name("whole"))
    unfinished(folder, *(path.name for path in (folder / "runs").iterdir()))
    sweep(config(small_cache, amr_ratio="none,1:1,3:1", seeds=2, group_size=2))
    assert saved(folder)["group_size"] == 2
    assert {len(names) for names in saved(folder)["groups"]} <= {1, 2}
    ours, theirs = (pd.read_csv(place / "results.csv").select_dtypes("number") for place in (folder, whole))
    pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=2e-6)  # six digits are written
    for run in (whole / "runs").iterdir():
        (one,), (other,) = (read_fitted(place / "runs" / run.name).models for place in (folder, whole))
        for name, value in one.run_state(0).items():
            torch.testing.assert_close(value, other.run_state(0)[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("groups", [None, 5, [[]], [["naive_concat_plain_seed0"]], [[1, 2]]])
def test_a_sweep_without_groups_of_its_runs_gets_them(small_cache, groups):
    request = config(small_cache, seeds=2, fixed={"epochs": 1})
    folder = sweep(request).folder
    content = saved(folder)
    del content["groups"]  # as version 0.1 wrote it
    if groups is not None:
        content["groups"] = groups
    with checksummed(folder, "sweep.json"):
        write_json(folder / "sweep.json", content)
    unfinished(folder, "naive_concat_plain_seed0")
    sweep(request)
    assert len(saved(folder)["groups"]) == 2
