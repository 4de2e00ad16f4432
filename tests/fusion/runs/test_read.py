"""The best run of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from amr.common.files import write_json, write_text
from amr.fusion.config import FitConfig
from amr.fusion.runs.read import best_run, read_run
from amr.fusion.runs.record import RunRecord


def add_run(folder: Path, val_accuracy: float | None, val_loss: float | None = None, seed: int = 0) -> Path:
    """Write the folder of a run with these results."""
    folder.mkdir(parents=True)
    texts = {"encoder": "logmel", "weights_sha256": "", "fingerprint": ""}
    infos = {m: {"modality": m, "embed_dim": 2, "preprocessing": {}} | texts for m in ("audio", "video")}
    RunRecord(FitConfig(seed=seed), ("a", "b"), infos, "cache.h5").save(folder)
    share = {"audio": 0.5, "video": 0.5}
    test = {"accuracy": 0.5, "share": share, "share_regularized": share, "num_clips": 8}
    val = None if val_accuracy is None else test | {"accuracy": val_accuracy}
    write_json(folder / "metrics.json", {"val": val, "test": test})
    if val_loss is not None:
        write_text(folder / "history.csv", f"epoch,val_loss,chosen\n1,0.01,0\n2,{val_loss},1\n3,0.01,0\n")
    return folder


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_json(folder / "sweep.json", {})
    return folder


def test_the_best_run_has_the_highest_val_accuracy(sweep_folder):
    for name, accuracy in (("a", 0.5), ("b", 0.75), ("c", 0.625), ("d", None)):
        add_run(sweep_folder / "runs" / name, accuracy)
    assert best_run(sweep_folder).name == "b"


def test_of_equal_accuracies_the_lowest_val_loss_of_the_saved_epoch_counts_then_the_order(sweep_folder):
    for name, loss in (("a", None), ("b", 0.7), ("c", 0.4), ("d", 0.4)):
        add_run(sweep_folder / "runs" / name, 0.75, loss)
    (sweep_folder / "results.csv").write_text("run,part\nb,val\nd,val\nc,val\na,val\n")
    assert best_run(sweep_folder).name == "d"


def test_a_run_is_its_own_best(tmp_path):
    folder = add_run(tmp_path / "run", None)
    assert best_run(folder).folder == folder


def test_several_runs_without_val_clips_are_refused_with_one_to_name(sweep_folder):
    for name in ("a", "b"):
        add_run(sweep_folder / "runs" / name, None)
    with pytest.raises(ValueError, match=r"no run has val clips .* Name one, such as .*runs/a\."):
        best_run(sweep_folder)


@pytest.mark.parametrize("metrics", ["[1]", "{}", '{"val": null}', "1", "{"])
def test_damaged_results_are_refused_with_their_file(tmp_path, metrics):
    folder = add_run(tmp_path / "run", 0.5)
    (folder / "metrics.json").write_text(metrics)
    with pytest.raises(ValueError, match=r"RUN must hold whole files, got a .*metrics"):
        read_run(folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", '"lr": null', '"lr": [1]'),
        ("config.json", '"embed_dim": 2', '"embed_dim": "2"'),
        ("config.json", '"classes": [', '"classes": [1, '),
        ("config.json", '"preprocessing": {}', '"preprocessing": 1'),
        ("config.json", '"encoder": "logmel"', '"encoder": 5'),
        ("config.json", '"weights_sha256": "", ', ""),
        ("metrics.json", '"accuracy": 0.5', '"accuracy": NaN'),
        ("metrics.json", '"accuracy": 0.5', '"accuracy": "high"'),
        ("metrics.json", '"num_clips"', '"num"'),
        ("metrics.json", '"video": 0.5', '"image": 0.5'),
        ("metrics.json", '"test"', '"folds": [], "test"'),
    ],
)
def test_values_that_no_fit_writes_are_refused(tmp_path, file, old, new):
    folder = add_run(tmp_path / "run", 0.5)
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    text = (folder / file).read_text().replace("\n", " ")
    text = " ".join(text.split())
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="RUN must "):
        read_run(folder)
