"""A frontier of the runs of a sweep: nothing is fitted, and the numbers are those of its runs."""

from dataclasses import replace

import numpy as np
import pytest

from amr.cli import run as amr
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import frontier
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import report
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


@pytest.fixture(scope="module")
def swept(small_home):
    base = FitConfig(cache="small", epochs=2, folds=3, device="cpu", lr=0.01)
    return sweep(
        SweepConfig(
            base,
            method=("naive", "dropout", "ume"),
            amr_ratio=(None, "1:1", "1:3"),
            attribution=("grad_x_input", "permutation"),
            seed=(0, 1),
        )
    )


def test_the_settings_are_those_of_the_runs(swept):
    result = frontier(FrontierConfig(runs=str(swept.folder), device="cpu", use="audio=1:video=3"))
    settings = {entry["setting"]: entry for entry in result.document["settings"]}
    assert next(iter(settings)) == "naive"
    assert "dropout, permutation audio=1:video=3" in settings
    assert len(settings) == 2 * (1 + 2 * 2)  # ume fuses nothing
    assert {entry["curve"] for entry in settings.values()} == {
        name for m in ("naive", "dropout") for name in (m, f"{m}, grad_x_input", f"{m}, permutation")
    }
    assert result.document["target"] == {"audio": 0.25, "video": 0.75}
    evaluated = evaluate(EvaluateConfig(run=swept.folder, bootstrap=0, device="cpu"))
    by_run = {entry["run"]: entry["measures"] for entry in evaluated.document["runs"]}
    for entry in settings.values():
        runs = [by_run[name] for name in entry["runs"]]
        assert len(runs) == 2
        assert entry["accuracy"] == pytest.approx(np.mean([each["accuracy"] for each in runs]), abs=1e-6)
        for m in ("audio", "video"):
            use = np.mean([each["perceptual"][m] for each in runs])
            assert entry["use"][m] == pytest.approx(use, abs=1e-6)


def test_the_page_shows_it(swept, tmp_path, capsys):
    assert amr(["frontier", "--runs", str(swept.folder)]) == 0
    page = tmp_path / "page.html"
    report(ReportConfig(dirs=(str(swept.folder),), out=str(page)))
    text = page.read_text()
    assert "Accuracy against use share" in text
    assert f"amr frontier --runs {swept.folder.name}" in " ".join(text.replace("\\", "").split())
    capsys.readouterr()


def test_what_does_not_fit_is_refused(small_home):
    with pytest.raises(ValueError, match="--epochs must be left out with --runs"):
        FrontierConfig(runs="x", epochs=3)
    with pytest.raises(ValueError, match="--cache must be left out with --runs"):
        FrontierConfig(runs="x", cache="y")
    with pytest.raises(FileNotFoundError, match="--runs must be"):
        frontier(FrontierConfig(runs="nothing"))
    base = FitConfig(cache="small", epochs=1, folds=3, device="cpu", amr_ratio="1:1")
    only_amr = sweep(SweepConfig(replace(base, out="only-amr"), seed=(0, 1)))
    with pytest.raises(ValueError, match="--runs must hold runs of several modalities without AMR"):
        frontier(FrontierConfig(runs=str(only_amr.folder), device="cpu"))
