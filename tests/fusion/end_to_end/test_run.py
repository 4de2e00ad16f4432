"""The run of a joint training answers as the joint model does, and every command about runs takes it."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from amr import load_head, predict
from amr.cli import run as amr
from amr.common.progress import Progress
from amr.common.workspace import EMBEDDINGS, JOINT_RUN
from amr.extract.cache.reader import Cache
from amr.fusion.data.folds import read_training_data
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import read_media_data
from amr.fusion.end_to_end.run import fit_config
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.runs.read import read_run

from .conftest import ENCODERS

NAME = "crema-d/ogm-ge"
HALF = 2e-3  # z is cached in half precision


@pytest.fixture
def trained(request_for):
    return train_encoders(request_for("joint", objective="joint", amr_ratio="1:1", method="ogm-ge", epochs=4))


def test_its_measures_are_those_of_the_training(trained):
    run = read_run(trained.folder / JOINT_RUN)
    for split, measured in (("val", run.val), ("test", run.test)):
        saved = getattr(trained, split)
        assert measured["accuracy"] == pytest.approx(saved["accuracy"])
        assert measured["num_clips"] == saved["num_clips"]
        for name in ("share", "share_regularized", "share_logit"):
            assert measured[name] == pytest.approx(saved[name], abs=HALF)
    assert run.name == "joint"
    assert run.config.method == "ogm-ge"
    assert run.record.target_share == {"audio": 0.5, "video": 0.5}
    history = pd.read_csv(trained.folder / "history.csv")
    pd.testing.assert_frame_equal(run.history(), history, check_dtype=False)


def test_the_cache_has_z_of_every_clip_and_the_encoders_that_made_it(trained):
    with Cache.open(trained.folder / EMBEDDINGS) as cache:
        assert cache.complete
        assert len(cache.table()) == 36
        assert cache.present("audio").all()
        assert cache.info("audio").encoder == f"trained:{trained.folder / 'audio'}"


def test_new_media_are_answered_as_cached_clips(trained, media):
    table = pd.read_csv(trained.folder / JOINT_RUN / "predictions.csv")
    table = table[table["part"] == "test"].head(3)
    files = [media / "data" / "synthetic" / "clips" / f"{id_:05d}.mp4" for id_ in table["id"]]
    predicted = predict(trained.folder, files, device="cpu")
    cached = predict(trained.folder, [f"{id_:05d}" for id_ in table["id"]], device="cpu")
    for of_media, of_cache, (_, row) in zip(predicted, cached, table.iterrows(), strict=True):
        assert of_media.pred == of_cache.pred == row["pred"]
        assert of_cache.probability == pytest.approx(row["probability"], abs=1e-5)
        assert of_media.probability == pytest.approx(row["probability"], abs=5e-3)


def test_it_can_be_evaluated_explained_loaded_and_reported(trained, capsys, tmp_path):
    document = evaluate(EvaluateConfig(run=trained.folder, bootstrap=0, device="cpu")).document
    assert document["runs"][0]["measures"]["accuracy"] == pytest.approx(trained.test["accuracy"], abs=1e-6)
    assert document["runs"][0]["encoders_alone"] == {}  # none to compare with
    head = load_head(trained.folder)
    with Cache.open(trained.folder / EMBEDDINGS) as cache:
        z = {m: torch.zeros(4, cache.info(m).embed_dim) for m in ("audio", "video")}
    assert head(z).shape == (4, 2)
    clip = str(pd.read_csv(trained.folder / JOINT_RUN / "predictions.csv", dtype=str)["id"][0])
    assert amr(["explain", str(trained.folder), clip, "--device", "cpu", "--json"]) == 0
    assert amr(["report", str(trained.folder), "--out", str(tmp_path / "page.html")]) == 0
    assert "joint" in (tmp_path / "page.html").read_text()
    capsys.readouterr()


def test_more_epochs_replace_the_run_and_files_of_others_stay(trained, request_for):
    first = json.loads((trained.folder / JOINT_RUN / "config.json").read_text())
    longer = request_for("joint", objective="joint", amr_ratio="1:1", method="ogm-ge", epochs=5)
    train_encoders(longer)
    second = json.loads((trained.folder / JOINT_RUN / "config.json").read_text())
    assert (first["config"]["epochs"], second["config"]["epochs"]) == (4, 5)
    (trained.folder / JOINT_RUN / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"which holds run.notes.txt"):
        train_encoders(request_for("joint", objective="joint", lr=0.5, overwrite=True))


def test_a_unimodal_training_has_a_run_per_modality(request_for):
    result = train_encoders(request_for("alone", epochs=3))
    for m in ("audio", "video"):
        run = read_run(result.folder / m / JOINT_RUN)
        assert run.config.method == "unimodal"
        assert run.modalities == (m,)
        assert run.test["accuracy"] == pytest.approx(result.test[m]["accuracy"])
        with Cache.open(result.folder / m / EMBEDDINGS) as cache:
            assert cache.names == [m]
            assert len(cache.table()) == 36


def test_an_embedding_may_have_another_name_than_its_modality(request_for, media, tmp_path):
    """Its failures and absent clips are those of the modality, and new media are embedded by it."""
    table = pd.read_csv(media / "data/synthetic/manifest.csv", dtype=str, keep_default_na=False)
    root = tmp_path / "clips"
    root.mkdir()
    for name in table["path"]:
        (root / Path(name).name).symlink_to(media / "data/synthetic" / name)
    broken, absent = table.index[table["split"] == "train"][:2]
    files = [Path(name).name for name in table["path"]]
    (root / "broken.mp4").write_text("no media\n")
    table["audio_path"], table["video_path"] = files, files
    table.loc[broken, "audio_path"] = "broken.mp4"
    table.loc[absent, "audio_path"] = ""
    table[["id", "label", "split", "audio_path", "video_path"]].to_csv(tmp_path / "clips.csv", index=False)
    encoder = (f"voice={ENCODERS['audio']},modality=audio", f"face={ENCODERS['video']},modality=video")
    clips = {"dataset": None, "manifest": str(tmp_path / "clips.csv"), "root": str(root), "encoder": encoder}
    result = train_encoders(request_for("named", objective="joint", amr_ratio="voice=1:face=2", **clips))
    run = read_run(result.folder / JOINT_RUN)
    assert run.modalities == ("voice", "face")
    assert run.test["share"] == pytest.approx(result.test["share"], abs=HALF)
    with Cache.open(result.folder / EMBEDDINGS) as cache:
        assert cache.failures[["id", "modality"]].to_numpy().tolist() == [[table["id"][broken], "audio"]]
        assert [*cache.reasons("voice")] == [table["id"][broken]]
        assert not cache.reasons("face")
        assert [row for row in range(36) if not cache.present("voice")[row]] == [broken, absent]
        assert cache.present("face").all()
    document = evaluate(EvaluateConfig(run=result.folder, bootstrap=0, noise_draws=1, device="cpu")).document
    assert document["runs"][0]["measures"]["accuracy"] == pytest.approx(result.test["accuracy"], abs=1e-6)
    saved = pd.read_csv(result.folder / JOINT_RUN / "predictions.csv", dtype={"id": str})
    row = saved[saved["part"] == "test"].iloc[0]
    of_media, of_cache = predict(result.folder, [root / f"{row['id']}.mp4", row["id"]], device="cpu")
    assert of_media.pred == of_cache.pred == row["pred"]
    assert of_media.probability == pytest.approx(row["probability"], abs=5e-3)


def test_a_run_has_the_splits_of_its_training(request_for, media, tmp_path):
    """Also where a split is made here, and one modality lacks clips: a second division would be another one."""
    folder = media / "data" / "synthetic"
    table = pd.read_csv(folder / "manifest.csv", dtype=str)[["id", "path", "label"]]
    table["path"] = [str(folder / path) for path in table["path"]]
    table["audio_path"] = table["path"].where(table.index % 5 > 0, str(tmp_path / "gone.wav"))
    table.to_csv(tmp_path / "clips.csv", index=False)
    config = request_for("divided", dataset=None, manifest=str(tmp_path / "clips.csv"), epochs=1)
    result = train_encoders(config)
    data = read_media_data(config, Progress())
    for m in ("audio", "video"):
        run = read_run(result.folder / m / JOINT_RUN)
        fold = read_training_data(run.config, keep_steps=False).folds[0]
        column = list(data.encoders).index(m)
        for split in ("train", "val", "test"):
            rows = getattr(data.rows, split)
            assert getattr(fold.rows, split).tolist() == rows[data.store.present[rows, column].numpy()].tolist()
        assert run.test["accuracy"] == pytest.approx(result.test[m]["accuracy"])
        assert run.test["num_clips"] == result.test[m]["num_clips"]


@pytest.mark.parametrize(
    ("settings", "recorded"),
    [
        ({"recipe": NAME}, {"recipe": NAME, "momentum": 0.9, "lr_step": 70, "lr_factor": 0.1}),
        ({"recipe": NAME, "optimizer": "adamw", "lr_step": 0}, {"momentum": None, "lr_step": 0, "lr_factor": None}),
        ({"momentum": 0.5, "lr_step": 3}, {"recipe": None, "momentum": 0.5, "lr_step": 3, "lr_factor": 0.1}),
    ],
)
def test_its_record_has_recipe_momentum_and_schedule(settings, recorded):
    config = TrainConfig(dataset="synthetic", **settings)
    run = fit_config(config, Path("run"), Path("folder"), ("audio", "video"))
    assert {name: getattr(run, name) for name in recorded} == recorded
    assert (run.epochs, run.lr) == (config.epochs, config.lr)
