from pathlib import Path

import numpy as np
import pytest

from amr.fusion.evaluate.config import EvaluateConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bootstrap": -1}, "--bootstrap must be 0"),
        ({"noise_draws": 0}, "--noise-draws must be 1 or more, got 0"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"against": "persons"}, "--against must be"),
        ({"people": "voice=audio"}, "--people must be used with --against people"),
        ({"cache": "other", "against": "people"}, "--against must be left out with --cache"),
        ({"device": "tpu"}, "--device must be"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_read(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(Path("run"), **changes)


def test_texts_and_numpy_numbers_are_accepted():
    config = EvaluateConfig("runs/a", bootstrap=np.int64(200), out=Path("elsewhere/b"))
    assert (config.run, config.bootstrap, config.folder(config.run)) == (Path("runs/a"), 200, Path("elsewhere/b"))


def test_few_bootstrap_samples_are_refused_and_none_are_not():
    assert EvaluateConfig("run", bootstrap=0).bootstrap == 0
    with pytest.raises(ValueError, match="--bootstrap must be 20 or more, or 0 for no intervals, got 1"):
        EvaluateConfig("run", bootstrap=1)


def test_results_go_to_the_run_or_to_a_folder_by_path_or_name(workspace):
    run = Path("runs/a")
    assert EvaluateConfig(run).folder(run) == run
    assert EvaluateConfig(run, out="./b").folder(run) == Path("b")
    assert EvaluateConfig(run, out="b").folder(run) == workspace / "runs/b"


@pytest.mark.parametrize("name", ["config.json", "sweep.json"])
def test_results_of_one_run_do_not_go_to_another(tmp_path, name):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir()
        (folder / name).write_text("{}")
    EvaluateConfig(run, out=tmp_path / "other" / ".." / "run").check_writable(run)
    EvaluateConfig(run, out=tmp_path / "new").check_writable(run)
    with pytest.raises(ValueError, match=r"--out must not be another run or sweep, got .*other"):
        EvaluateConfig(run, out=other).check_writable(run)


def test_other_files_of_the_same_name_are_not_replaced(tmp_path):
    config = EvaluateConfig(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": "amr-evaluation"}')
    (tmp_path / "evaluation.csv").write_text("run\n")
    config.check_writable(tmp_path)
    for text in ("{}", "[]", "notes"):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(ValueError, match=r"RUN must not hold an evaluation\.json of another program"):
            config.check_writable(tmp_path)
    with pytest.raises(ValueError, match="--out must be a place that can be written to"):
        EvaluateConfig(tmp_path, out=tmp_path / "evaluation.csv").check_writable(tmp_path)


def test_links_count_in_a_folder_of_results_only(tmp_path):
    run, project = tmp_path / "run", tmp_path / "project"
    for folder in (run, project):
        folder.mkdir()
        (folder / "link").symlink_to(tmp_path / "elsewhere")
    EvaluateConfig(run, out=project).check_writable(run)
    with pytest.raises(ValueError, match="RUN must hold no links"):
        EvaluateConfig(run).check_writable(run)
