"""A frontier on a small cache: its runs are those of fits, and its numbers those of amr evaluate."""

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from amr.cli import run
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.evaluate.references import scaling
from amr.fusion.fit import fit
from amr.fusion.frontier import settings as frontier_settings
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import frontier
from amr.fusion.runs.read import read_run

CONFIG = FrontierConfig(cache="small", folds=3, seeds=2, epochs=2, device="cpu", lr=0.01)


@pytest.fixture(autouse=True, scope="module")
def short():
    """Few weights and amounts for all frontiers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier_settings, "WEIGHTS", (0.3,))
        patch.setattr(frontier_settings, "NOISES", (1.0,))
        patch.setattr(frontier_settings, "DECAYS", (5.0,))
        yield


@pytest.fixture(scope="module")
def first(small_home, short):
    """A frontier. Do not change it."""
    return frontier(CONFIG)


@pytest.fixture
def config(first, tmp_path):
    """The configuration of a copy of `first`, which has all of its runs."""
    shutil.copytree(first.folder, tmp_path / "f")
    return replace(CONFIG, out=str(tmp_path / "f"))


@pytest.fixture
def tiny(small_home, tmp_path):
    """The configuration of a frontier with a run each, in an empty folder."""
    return replace(CONFIG, folds=0, seeds=1, epochs=1, out=str(tmp_path / "tiny"))


def test_the_document_of_a_frontier(first):
    result, document = first, first.document
    assert json.loads((result.folder / "frontier.json").read_text())["modalities"] == ["audio", "video"]
    assert {"folder", "settings", "front", "price", "best"} <= document.keys()
    kinds = [entry["kind"] for entry in document["settings"]]
    assert kinds.count("permutation") == kinds.count("weighted UME") == 5
    assert kinds.count("modality scaling") == 4
    csv = pd.read_csv(result.folder / "frontier.csv")
    assert [*csv["setting"]] == [entry["setting"] for entry in document["settings"]]
    assert csv["accuracy"].to_numpy() == pytest.approx([e["accuracy"] for e in document["settings"]], abs=1e-6)
    assert (result.folder / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert {*document["price"]} <= {"audio", "video"}
    assert len(read_run(result.folder / "runs" / document["settings"][1]["runs"][0]).folds) == 3


def test_the_numbers_are_those_of_evaluate(first, config):
    result = first
    evaluated = evaluate(EvaluateConfig(run=Path(config.out), bootstrap=0, device="cpu"))
    by_run = {entry["run"]: entry["measures"] for entry in evaluated.document["runs"]}
    assert len(evaluated.document["groups"]) == sum(e["runs"] != [] for e in result.document["settings"])
    for entry in result.document["settings"]:
        runs = [by_run[name] for name in entry["runs"]]
        if not runs:
            continue
        assert entry["accuracy"] == pytest.approx(sum(run["accuracy"] for run in runs) / len(runs), abs=1e-5)
        for name in ("use_share", "shapley_use_share"):
            values = [run[name]["audio"] for run in runs]
            if None not in values:
                assert entry[name]["audio"] == pytest.approx(sum(values) / len(values), abs=1e-5)


def test_a_member_is_the_fit_of_its_settings(first, tmp_path):
    result = first
    entry = next(e for e in result.document["settings"] if e["setting"] == "permutation audio=1:video=4 weight 0.3")
    member = read_run(result.folder / "runs" / entry["runs"][1])
    alone = fit(
        FitConfig(
            cache="small",
            folds=3,
            epochs=2,
            device="cpu",
            lr=0.01,
            seed=1,
            attribution="permutation",
            amr_ratio="audio=1:video=4",
            amr_weight=0.3,
            out=str(tmp_path / "alone"),
        )
    )
    assert member.test["accuracy"] == alone.test["accuracy"]
    for m in ("audio", "video"):
        assert member.test["share_regularized"][m] == pytest.approx(alone.test["share_regularized"][m], abs=1e-6)


def test_modality_scaling_is_the_plain_head_at_even_factors(config, monkeypatch):
    monkeypatch.setattr(scaling, "ratios", lambda count: ["1000000:1000001"])
    document = frontier(config).document
    plain = document["settings"][0]
    scaled = next(entry for entry in document["settings"] if entry["kind"] == "modality scaling")
    assert scaled["accuracy"] == pytest.approx(plain["accuracy"])
    assert scaled["use"] == pytest.approx(plain["use"])
    assert scaled["shapley_use_share"] == pytest.approx(plain["shapley_use_share"])


def test_a_modality_scaled_to_nothing_is_not_used(config, monkeypatch):
    monkeypatch.setattr(scaling, "ratios", lambda count: ["1:0"])
    document = frontier(config).document
    scaled = next(entry for entry in document["settings"] if entry["kind"] == "modality scaling")
    assert scaled["use_share"] == {"audio": 1, "video": 0}
    assert scaled["shapley_use_share"]["video"] == pytest.approx(0, abs=1e-7)


def test_heads_whose_logits_are_no_sum_have_no_scaling(tiny):
    document = frontier(replace(tiny, hidden=4)).document
    assert "modality scaling" not in {entry["kind"] for entry in document["settings"]}


def test_a_frontier_continues_and_takes_another_target(first, config, monkeypatch):
    monkeypatch.setattr("amr.fusion.sweep.sweep.fit_group", None)  # nothing is left to fit
    second = frontier(replace(config, use="1:3", max_cost=1.0))
    assert second.document["target"] == {"audio": 0.25, "video": 0.75}
    assert [e["accuracy"] for e in second.document["settings"]] == [e["accuracy"] for e in first.document["settings"]]
    assert second.document["best"]["setting"] != "plain"
    with pytest.raises(ValueError, match="--overwrite"):
        frontier(replace(config, lr=0.02))


def test_further_attributions_are_added_to_a_frontier(first, config):
    runs = Path(config.out) / "runs"
    before = {run: (runs / run / "metrics.json").stat().st_mtime_ns for run in runs_of(first)}
    second = frontier(replace(config, against="grad_x_input"))
    assert {*runs_of(first)} < {*runs_of(second)}
    assert all((runs / run / "metrics.json").stat().st_mtime_ns == t for run, t in before.items())
    with pytest.raises(ValueError, match="such as --against"):
        frontier(config)


def runs_of(result):
    return [run for entry in result.document["settings"] for run in entry["runs"]]


def test_a_split_without_test_clips_is_refused_before_anything_is_fitted(small_home, tiny, monkeypatch):
    monkeypatch.setattr("amr.fusion.frontier.frontier.sweep", None)
    import_embeddings(
        ImportConfig(
            embeddings=tuple(f"{m}={small_home / m}.npy" for m in ("audio", "video")),
            labels=str(small_home / "labels.txt"),
            splits="train=120",
            out=str(small_home / "caches" / "train.h5"),
        )
    )
    with pytest.raises(ValueError, match="--folds must be 3 or more"):
        frontier(replace(tiny, cache="train"))


def test_a_frontier_of_other_settings_replaces_another_one(tiny):
    first = frontier(tiny)
    second = frontier(replace(tiny, lr=0.02), overwrite=True)
    assert second.folder == first.folder
    assert second.document["config"]["lr"] == 0.02


def test_requests_that_do_not_fit_the_cache_are_refused(small_home):
    config = CONFIG
    with pytest.raises(ValueError, match="--modalities must be two or more, got audio"):
        frontier(replace(config, modalities="audio"))
    with pytest.raises(ValueError, match="--method must fuse modalities, got ume"):
        frontier(replace(config, method="ume"))
    with pytest.raises(ValueError, match=r"--recipe must be of a method .*, got crema-d/mla, of mla\. Leave"):
        frontier(replace(config, recipe="crema-d/mla", method="mla"))
    with pytest.raises(ValueError, match="--use must have one part for each"):
        frontier(replace(config, use="1:1:1"))


def test_the_command_prints_the_front_and_its_last_line_predicts(config, capsys):
    line = f"frontier --cache small --folds 3 --seeds 2 --epochs 2 --lr 0.01 --device cpu --out {config.out}"
    assert run(line.split()) == 0
    said = capsys.readouterr()
    assert said.out.startswith("front chosen on val, measured on test; shares audio/video, target 0.50/0.50")
    assert "Of the fitted heads, the nearest to the target" in said.out
    command = next(text for text in said.err.splitlines() if text.startswith("next: amr predict"))
    chosen = shlex.split(command)[3]
    assert run(["predict", config.out, shlex.split(command)[4], "--device", "cpu"]) == 0
    assert f"using {chosen}, which amr frontier chose" in capsys.readouterr().err
    assert run(shlex.split(command)[2:]) == 0
    capsys.readouterr()
    assert run([*line.split(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"]["predict"] == command.removeprefix("next: ")
    assert not any(isinstance(value, float) and math.isnan(value) for e in document["settings"] for value in e.values())


def test_the_command_has_no_options_that_a_frontier_varies(capsys):
    assert run(["frontier", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--amr-ratio" not in text
    assert "--max-cost" in text
    assert run(["frontier", "--cache", "x", "--against", "shaply"]) == 2
    assert "Did you mean shapley" in capsys.readouterr().err
