"""When a training continues in its folder, with how many epochs, and when another one may replace it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amr.common.files import write_json
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.folder import PRESET_0_1, mark_diverged, read_saved, requested, training_folder
from amr.fusion.end_to_end.presets import preset
from amr.fusion.end_to_end.train import train_encoders

from .conftest import ENCODERS
from .test_train import KillAfter, Killed, assert_same_training

MakeConfig = Callable[..., TrainConfig]
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
JOINT = {"objective": "joint", "amr_ratio": "1:1", "method": "ogm-ge"}


@pytest.mark.parametrize("objective", [{}, JOINT, {**JOINT, "attribution": "permutation"}])
def test_a_finished_training_continues_to_more_epochs_as_if_it_had_never_stopped(request_for: MakeConfig, objective):
    """Bit for bit, with augmentation, momentum, steps of the learning rate and a second optimizer."""
    changes = objective | {"time_mask": 0.2, "shift": 0.1, "flip": True, "lr_step": 2}
    changes |= {"resized_crop": True, "time_crop": 0.5}
    whole = train_encoders(request_for("whole", epochs=4, **changes))
    train_encoders(request_for("longer", epochs=2, **changes))
    progress = KillAfter("nothing")
    longer = train_encoders(request_for("longer", epochs=4, **changes), progress)
    assert_same_training(whole, longer)
    assert [line for line in progress.lines if "continues after epoch 2/4" in line]
    assert not [line for line in progress.lines if "epoch 1/4" in line]
    assert read_saved(longer.folder)["config"]["epochs"] == 4


def test_a_training_that_is_stopped_while_it_gets_more_epochs_stays_finished(request_for: MakeConfig):
    short, long = (request_for("mine", epochs=epochs, objective="joint") for epochs in (2, 4))
    first = train_encoders(short)
    with pytest.raises(Killed):
        train_encoders(long, KillAfter("epoch 3/4"), seconds_between=0)
    assert train_encoders(short) == first
    assert_same_training(train_encoders(request_for("whole", epochs=4, objective="joint")), train_encoders(long))


@pytest.mark.parametrize(
    ("method", "options", "steady"),
    [
        ("opm", (), "warm_up=0"),
        ("ogm", ("opm=true",), "opm=false"),
        ("dnr", (), "times=0"),
        ("inforeg", (), "beta=0"),
        ("gradient-blending", (), "super_epoch=2"),
    ],
)
def test_a_training_that_depends_on_its_length_does_not_continue_to_more_epochs(tmp_path, method, options, steady):
    """A share of 2 epochs is not that share of 4, so it would not end as a training of 4."""
    config = TrainConfig(
        dataset="crema-d", objective="joint", method=method, method_option=options, epochs=2, out=str(tmp_path)
    )
    (tmp_path / "checkpoint.pt").touch()
    for same in (config, replace(config, method_option=(steady,))):
        write_json(tmp_path / "config.json", {"config": requested(same), "clips_sha256": ""})
        assert training_folder(same) == tmp_path
    assert training_folder(replace(same, epochs=4)) == tmp_path
    write_json(tmp_path / "config.json", {"config": requested(config), "clips_sha256": ""})
    with pytest.raises(
        ValueError, match=f"--epochs must be 2 in .*, as what --method {method} does depends .*, got 4. Choose"
    ):
        training_folder(replace(config, epochs=4))


def test_epochs_that_would_not_give_the_same_result_are_refused(request_for: MakeConfig):
    config = request_for("mine", "audio", epochs=2)
    folder = train_encoders(config).folder
    with pytest.raises(ValueError, match=r"--epochs must be 2 or more to continue .*, got 1"):
        train_encoders(replace(config, epochs=1))
    (folder / "audio" / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"--epochs must be 2 in .*, as its checkpoint.pt is gone, got 3"):
        train_encoders(replace(config, epochs=3))
    umt = request_for("umt", objective="joint", method="umt", epochs=1)
    train_encoders(umt)
    with pytest.raises(
        ValueError, match=r"as its teachers were trained for 1, too, got 2. Choose another name, or --overw"
    ):
        train_encoders(replace(umt, epochs=2))


def test_a_training_that_diverged_does_not_block_its_folder(request_for: MakeConfig):
    config = request_for("mine", "audio", epochs=1)
    with pytest.raises(RuntimeError, match="Pass a smaller --lr"):
        train_encoders(replace(config, lr=1e20))
    assert train_encoders(config).encoders == {"audio": f"trained:{config.out}/audio"}


def test_a_training_without_a_saved_epoch_does_not_block_its_folder(request_for: MakeConfig):
    config = request_for("mine", "audio", epochs=1)
    with pytest.raises(Killed):
        train_encoders(replace(config, epochs=5), KillAfter("epoch 1/5"))  # the next checkpoint would be later
    train_encoders(replace(config, lr=0.02))


def test_a_training_with_saved_epochs_is_replaced_only_if_it_diverged(request_for: MakeConfig):
    config = request_for("mine", epochs=2)
    with pytest.raises(Killed):
        train_encoders(config, KillAfter("video: epoch 1/2"), seconds_between=0)
    with pytest.raises(ValueError, match=r"a training with --lr 0.01 \(now 0.02\)"):
        train_encoders(replace(config, lr=0.02))
    mark_diverged(Path(str(config.out)))
    expected = train_encoders(request_for("expected", epochs=2, lr=0.02))
    assert_same_training(train_encoders(replace(config, lr=0.02)), expected)


@pytest.mark.parametrize("place", [".", "audio", "extra", "audio/tensorboard"])
def test_a_file_that_no_command_wrote_is_never_deleted(request_for: MakeConfig, place):
    config = request_for("mine", "audio", epochs=1)
    folder = train_encoders(config).folder
    (folder / place).mkdir(exist_ok=True)
    notes = folder / place / "notes.txt"
    notes.write_text("dear diary")
    with pytest.raises(ValueError, match=r"--out must be new or a training of encoders, .* which holds .*notes.txt"):
        train_encoders(replace(config, overwrite=True))
    (folder / "metrics.json").unlink()
    mark_diverged(folder)
    with pytest.raises(ValueError, match=r"which holds .*notes.txt"):
        train_encoders(replace(config, lr=0.5))
    assert notes.is_file()


def test_more_epochs_delete_no_file_that_no_command_wrote(request_for: MakeConfig):
    config = request_for("mine", "audio", epochs=1)
    folder = train_encoders(config).folder
    note, text, picture = folder / "audio/run/notes.txt", folder / "explain_mine.txt", folder / "explain_a.png"
    for file in (note, text, picture):
        file.write_text("dear diary")
    train_encoders(config)  # is finished: nothing is replaced
    with pytest.raises(ValueError, match=r"which holds audio/run/notes\.txt\. Move it elsewhere, or choose another"):
        train_encoders(replace(config, epochs=2))
    assert (folder / "metrics.json").is_file()
    note.unlink()
    train_encoders(replace(config, epochs=2))
    assert (text.exists(), picture.exists()) == (True, False)


def manifest(media: Path, file: Path, video: np.ndarray) -> dict[str, object]:
    """Options for a manifest in which only some clips have video."""
    table = pd.read_csv(media / "data/synthetic/manifest.csv", dtype=str, keep_default_na=False)
    files = table["path"] if "path" in table else table["video_path"]
    table["audio_path"], table["video_path"] = files, np.where(video, files, "")
    table[["id", "label", "split", "audio_path", "video_path"]].to_csv(file, index=False)
    return {"dataset": None, "manifest": str(file), "root": str(media / "data/synthetic")}


def test_a_modality_that_no_train_clip_has_is_absent_everywhere(request_for: MakeConfig, media, tmp_path):
    split = pd.read_csv(media / "data/synthetic/manifest.csv", dtype=str)["split"].to_numpy()
    in_test = manifest(media, tmp_path / "test.csv", split != "train")
    nearly_nowhere = manifest(media, tmp_path / "val.csv", np.arange(len(split)) == int(np.argmax(split == "val")))
    alone = train_encoders(request_for("alone", epochs=1, **in_test))
    assert list(alone.encoders) == list(alone.test) == ["audio"]
    assert not (alone.folder / "video").exists()
    assert "no train clip has video: it is treated as absent everywhere, and has no encoder" in alone.notes
    with pytest.raises(ValueError, match=r"must name two encoders with clips in train .* got clips for audio only"):
        train_encoders(request_for("pair", epochs=1, objective="joint", **in_test))
    audio = f"{ENCODERS['audio']},modality=audio"
    three = (f"audio={audio}", f"audio2={audio}", f"video={ENCODERS['video']}")
    changes = {"encoder": three, "epochs": 1, "objective": "joint", "amr_ratio": "1:1:1"}
    for method in ("naive", "umt"):
        seen = train_encoders(request_for(f"{method}-test", method=method, **changes, **in_test))
        unseen = train_encoders(request_for(f"{method}-none", method=method, **changes, **nearly_nowhere))
        assert list(seen.encoders) == ["audio", "audio2"]
        assert not (seen.folder / "video").exists()
        assert seen.test == unseen.test


def test_a_training_of_an_earlier_release_is_read_but_not_continued(request_for: MakeConfig):
    """It has no checkpoint, no marks and no later options."""
    config = request_for("mine", "audio", epochs=1)
    first = train_encoders(config)
    (first.folder / "audio" / "checkpoint.pt").unlink()
    saved = read_saved(first.folder)
    later = ("attribution", "resized_crop", "time_crop")
    saved["config"] = {name: value for name, value in saved["config"].items() if not name.startswith(later)}
    assert saved["config"]["amr_weight"] == 1
    (first.folder / "SHA256SUMS").unlink()
    write_json(first.folder / "config.json", {name: saved[name] for name in ("config", "classes", "clips_sha256")})
    assert train_encoders(config) == first
    with pytest.raises(ValueError, match=r"a training with .*--attribution grad_x_input \(now permutation\)"):
        train_encoders(replace(config, objective="joint", attribution="permutation"))
    with pytest.raises(ValueError, match="is gone"):
        train_encoders(replace(config, epochs=2))


def test_a_training_is_saved_with_the_values_of_its_preset(request_for: MakeConfig):
    config = TrainConfig(dataset="vggsound")
    saved = requested(config)
    assert (saved["preset"], saved["flip"], saved["resized_crop"], saved["time_crop"]) == (None, True, True, 0.5)
    assert saved["encoder"] == [f"{name}={spec}" for name, spec in preset("vggsound").encoders.items()]
    assert requested(TrainConfig(dataset="vggsound", preset="from-scratch")) == saved
    written_out = TrainConfig(**{name: value for name, value in saved.items() if name != "dataset"}, dataset="vggsound")
    assert requested(written_out) == saved
    own = read_saved(train_encoders(request_for("own", "audio", epochs=1)).folder)["config"]
    assert (own["flip"], own["resized_crop"], own["time_crop"]) == (False, False, 1)


def test_a_training_by_the_preset_of_version_0_1_continues_without_crops(tmp_path):
    """It saved no encoder and no crops; its flip was off."""
    of_0_1 = json.loads((FIXTURES / "v0_1_0/workspace/encoders/tiny/config.json").read_text())
    assert not {"resized_crop", "time_crop"} & of_0_1["config"].keys()
    for name in (None, "from-scratch"):
        of_0_1["config"] |= {"dataset": "crema-d", "manifest": None, "root": None, "encoder": [], "preset": name}
        write_json(tmp_path / "config.json", of_0_1)
        (tmp_path / "audio").mkdir(exist_ok=True)
        (tmp_path / "audio" / "checkpoint.pt").touch()
        same = TrainConfig(dataset="crema-d", epochs=2, batch_size=8, encoder=PRESET_0_1, out=str(tmp_path))
        assert training_folder(same) == tmp_path
        assert training_folder(replace(same, epochs=4)) == tmp_path
        with pytest.raises(ValueError, match=r"--flip False \(now True\), --resized-crop False \(now True\)"):
            training_folder(replace(same, flip=True, resized_crop=True))
        with pytest.raises(ValueError, match=r"--encoder audio=.*frames=3,size=224,crop=0:0:1:1,weights=random\)"):
            training_folder(replace(same, encoder=()))
