from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchaudio import pipelines

from amr.common.progress import Progress
from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.extract.run import extract_embeddings
from amr.fusion.data.clips import Batch
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import read_media_data
from amr.fusion.end_to_end.folder import TrainResult, training_folder
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel
from amr.fusion.end_to_end.train import train_encoders
from amr.fusion.methods import methods
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.run_axis.seeds import generator

from ...torture.child import run_child
from .conftest import ENCODERS

MakeConfig = Callable[..., TrainConfig]
TINY = {"encoder_embed_dim": 24, "encoder_num_layers": 2, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TINY |= {
    "encoder_pos_conv_groups": 2,
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
}

ATTRIBUTED = [
    {"attribution": "permutation"},
    {"attribution": "grad_x_input", "attribution_output": "logit", "attribution_pooling": "l1", "amr_level": "clip"},
    {"attribution": "integrated_gradients", "attribution_steps": 4},
    {"attribution": "shapley"},
]


class Killed(Exception):
    """Raised in the middle of a training."""


class KillAfter(Progress):
    """Progress that raises when it gets a given line."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)
        if self.line in text:
            raise Killed


def weights_of(result: TrainResult) -> dict[str, dict[str, Tensor]]:
    """Tensors of every file of weights, by path in the folder."""
    return {str(f.relative_to(result.folder)): load_file(f) for f in sorted(result.folder.rglob("*.safetensors"))}


def assert_same_training(one: TrainResult, other: TrainResult) -> None:
    """Compare weights bit for bit, histories and measures."""
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    for file, tensors in ours.items():
        assert all(torch.equal(value, theirs[file][name]) for name, value in tensors.items()), file
        assert tensors.keys() == theirs[file].keys()
    for file in one.folder.rglob("history.csv"):
        assert file.read_text() == (other.folder / file.relative_to(one.folder)).read_text()
    assert (one.val, one.test, one.epochs) == (other.val, other.test, other.epochs)


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv")


def model_of(config: TrainConfig, result: TrainResult) -> tuple[EncoderModel, MediaClips, MediaClips]:
    """The joint model read from its files, and the val and test clips."""
    data = read_media_data(config, Progress())
    encoders = {m: build_encoder(spec, m) for m, spec in result.encoders.items()}
    dims = {m: each.embed_dim for m, each in encoders.items()}
    shape = ModelShape.of(dims, len(data.classes), head="concat", hidden=0, adapter="none", adapter_dim=1)
    model = EncoderModel(shape, [0], {m: each.network() for m, each in encoders.items()}).eval()
    head = load_file(result.folder / "head.safetensors")
    model.head.load_state_dict({name.removeprefix("head."): value[None] for name, value in head.items()})
    return model, data.select(data.rows.val), data.select(data.rows.test)


def test_a_single_encoder_is_trained_as_by_a_plain_loop(request_for: MakeConfig):
    config = request_for("single", "audio", select="last", seed=3, lr=1e-3, momentum=0.5)
    result = train_encoders(config)
    data = read_media_data(config, Progress())
    network = data.encoders["audio"].network().requires_grad_(True).train()
    shape = ModelShape.of({"audio": 256}, 2, head="concat", hidden=0, adapter="none", adapter_dim=1)
    first = FusionModel(shape, [3]).run_state(0)
    layer = nn.Linear(256, 2)
    layer.load_state_dict({"weight": first["head.classifier.weight"], "bias": first["head.classifier.bias"]})
    parameters = [*network.parameters(), *layer.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=0.5, weight_decay=config.weight_decay)
    rows, draws = torch.from_numpy(data.rows.train), generator(3, "batches")
    for _ in range(config.epochs):
        for index in rows[torch.randperm(len(rows), generator=draws)].split(config.batch_size):
            logits = layer(network(data.store.tensors["audio"][index].float()))
            optimizer.zero_grad()
            functional.cross_entropy(logits, torch.from_numpy(data.target)[index]).backward()
            optimizer.step()
    ours = build_encoder(result.encoders["audio"], "audio")
    assert isinstance(ours, ModelEncoder)
    for name, value in ours.model.state_dict().items():
        # the loss rounds otherwise than functional.cross_entropy, and every step of a small batch norm makes that more
        torch.testing.assert_close(value, network.model.state_dict()[name], rtol=1e-3, atol=3e-3, msg=name)
    head = load_file(result.folder / "audio" / "head.safetensors")
    torch.testing.assert_close(head["head.classifier.weight"], layer.weight.detach(), rtol=1e-4, atol=1e-5)


def test_methods_that_fuse_train_encoders():
    assert {name for name, method in methods.items() if not method.end_to_end} == {"unimodal"}


# plain; with teachers; of uni-modal models alone; with a head of its own, in turns; for encoders only
@pytest.mark.parametrize("name", ["naive", "umt", "ume", "mla", "dnr"])
def test_methods_of_every_kind_train_encoders_with_the_regularizer(request_for: MakeConfig, name):
    """On files; `test_methods.py` has every method."""
    method = methods[name]
    ratio = "video=3:audio=1" if method.fuses else None
    config = request_for("pulled", objective="joint", method=name, amr_ratio=ratio, lr=1e-3)
    first = {m: each.weights_sha256 for m, each in read_media_data(config, Progress()).encoders.items()}
    result = train_encoders(config)
    assert result.test is not None
    assert set(result.test["share"]) == {"audio", "video"}
    assert result.epochs["joint"]["epochs"] == (1 if name == "ume" else 2)  # an ensemble is assembled
    for m, spec in result.encoders.items():
        assert build_encoder(spec, m).weights_sha256 != first[m]
    table = history(result.folder)
    assert np.isfinite(table[["train_loss", "val_loss", "val_accuracy"]].to_numpy()).all()
    assert (table["regularization"] > 0).all() == method.fuses
    assert {"val_share_audio", "val_share_video"} <= set(table)
    assert (result.folder / "teachers").exists() == method.fits_unimodal


@pytest.mark.parametrize("settings", ATTRIBUTED, ids=lambda settings: settings["attribution"])
def test_the_regularizer_trains_the_head_alone_by_every_attribution(request_for: MakeConfig, settings):
    """One step from the same weights."""
    changes = {"objective": "joint", "epochs": 1, "batch_size": 36, "select": "last", "lr": 0.1}
    plain = train_encoders(request_for("plain", **changes))
    pulled = train_encoders(request_for("pulled", amr_ratio="1:4", **changes, **settings))
    ours, theirs = weights_of(pulled), weights_of(plain)
    for file in (f"{m}/weights.safetensors" for m in ENCODERS):
        assert all(torch.equal(value, theirs[file][name]) for name, value in ours[file].items()), file
    name = "head.classifier.weight"
    assert not torch.allclose(ours["head.safetensors"][name], theirs["head.safetensors"][name], atol=1e-5)
    saved = json.loads((pulled.folder / "config.json").read_text())["config"]
    assert saved["amr_weight"] == (0.3 if settings["attribution"] == "permutation" else 1)
    assert settings.items() <= saved.items()


@pytest.mark.parametrize("changes", [{"attribution_output": "logit"}, {"attribution_pooling": "l1"}])
def test_options_that_the_attribution_does_not_use_are_refused(request_for: MakeConfig, changes):
    with pytest.raises(ValueError, match=r"--attribution-\w+ must be used with --attribution .* with permutation"):
        train_encoders(request_for("by", objective="joint", attribution="permutation", **changes))


def test_shares_by_permutation_are_measured(request_for: MakeConfig):
    result = train_encoders(request_for("by", objective="joint", amr_ratio="1:4", attribution="permutation"))
    chosen = history(result.folder).query("chosen == 1").iloc[0]
    shares = result.val["share_regularized"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares != pytest.approx(result.val["share"], abs=1e-3)
    # divergences of a model that is barely trained are near the rounding of float32
    assert chosen["val_share_audio"] == pytest.approx(shares["audio"], abs=5e-3)


def test_the_regularizer_does_not_reach_encoders(request_for: MakeConfig):
    """One step with a huge R: encoders end as in plain training, the head does not."""
    one_step = {"objective": "joint", "epochs": 1, "batch_size": 100}
    plain = weights_of(train_encoders(request_for("plain", **one_step)))
    pulled = weights_of(train_encoders(request_for("pulled", amr_ratio="9:1", amr_weight=100.0, **one_step)))
    for m in ENCODERS:
        file = f"{m}/weights.safetensors"
        assert all(torch.equal(value, pulled[file][name]) for name, value in plain[file].items())
    head = "head.classifier.weight"
    assert not torch.equal(plain["head.safetensors"][head], pulled["head.safetensors"][head])


def test_ogm_ge_without_modulation_is_naive_training(request_for: MakeConfig):
    naive = train_encoders(request_for("naive", objective="joint"))
    option = {"method": "ogm-ge", "method_option": ("alpha=0",)}
    ogm = train_encoders(request_for("ogm", objective="joint", **option))
    for file, tensors in weights_of(naive).items():
        assert all(torch.equal(value, weights_of(ogm)[file][name]) for name, value in tensors.items())


def test_ogm_scales_the_steps_of_the_stronger_encoder_s_kernels(request_for: MakeConfig):
    """In the first step of SGD, a kernel changes k times as much as in naive training; other parameters, as much."""
    one_step = {"objective": "joint", "epochs": 1, "batch_size": 100, "weight_decay": 0.0}
    naive = train_encoders(request_for("naive", **one_step))
    ogm = train_encoders(request_for("ogm", method="ogm", method_option=("alpha=0.8",), **one_step))
    k = {m: float(history(ogm.folder)[f"coefficient_{m}"].iloc[0]) for m in ENCODERS}
    assert min(k.values()) < 0.6
    assert max(k.values()) == 1
    data = read_media_data(request_for("x"), Progress())
    for m, encoder in data.encoders.items():
        plain, scaled = (weights_of(result)[f"{m}/weights.safetensors"] for result in (naive, ogm))
        for name, before in encoder.model.named_parameters():
            factor = k[m] if before.ndim >= 3 else 1.0
            torch.testing.assert_close(scaled[name] - before, factor * (plain[name] - before), rtol=1e-2, atol=1e-6)


def test_teachers_from_a_folder_are_those_that_would_be_trained(request_for: MakeConfig, tmp_path):
    unimodal = train_encoders(request_for("unimodal"))
    umt = {"objective": "joint", "method": "umt"}
    other = tuple(f"{m}=timm:test_vit,size=32,weights=random" for m in ENCODERS)
    with pytest.raises(ValueError, match="--teachers must hold encoders with the preprocessing and embed_dim of"):
        train_encoders(request_for("other", encoder=other, teachers=str(unimodal.folder), **umt))
    with pytest.raises(FileNotFoundError, match=r"--teachers must be .* got '.*nowhere', which has none"):
        train_encoders(request_for("nowhere", teachers=str(tmp_path / "nowhere"), **umt))
    from_folder = train_encoders(request_for("from-folder", teachers=str(unimodal.folder), **umt))
    own = train_encoders(request_for("own", **umt))
    ours, theirs, teachers = weights_of(from_folder), weights_of(own), weights_of(unimodal)
    for file in ours:
        assert all(torch.equal(value, theirs[file][name]) for name, value in ours[file].items()), file
    for file in teachers:
        assert all(torch.equal(value, theirs[f"teachers/{file}"][name]) for name, value in teachers[file].items())
    assert (from_folder.val, from_folder.test) == (own.val, own.test)


@pytest.fixture
def tiny_speech(monkeypatch: pytest.MonkeyPatch) -> str:
    """A real speech model with dropout, but small."""
    bundle = pipelines.WAVLM_BASE_PLUS
    monkeypatch.setattr(bundle, "_params", {**bundle._params, **TINY})
    return "torchaudio:WAVLM_BASE_PLUS,weights=random"


KILLED_AT = {
    "unimodal": ["audio: epoch 2/3", "video: epoch 1/3"],
    "joint": ["naive: epoch 1/3", "naive: epoch 3/3"],
    "umt": ["video: epoch 2/3", "umt: epoch 2/3"],
    "ogm-ge": ["ogm-ge: epoch 2/3"],
}


@pytest.mark.parametrize("kind", KILLED_AT)
def test_a_killed_training_resumes_as_if_nothing_had_happened(request_for: MakeConfig, tiny_speech, kind):
    """Bit for bit, with dropout in an encoder, augmentation, noise, momentum and a second optimizer."""
    joint = {"objective": "joint", "method": "naive" if kind == "joint" else kind, "amr_ratio": "1:1"}
    changes = {} if kind == "unimodal" else joint
    changes |= {"optimizer": "adamw", "lr": 1e-3} if kind in ("joint", "unimodal") else {}
    changes |= {"encoder": (f"audio={tiny_speech}", f"video={ENCODERS['video']}"), "clip_seconds": 0.4, "epochs": 3}
    changes |= {"time_mask": 0.2, "shift": 0.1, "flip": True, "resized_crop": True, "time_crop": 0.5, "lr_step": 2}
    whole = train_encoders(request_for("whole", **changes), seconds_between=1e9)
    for line in KILLED_AT[kind]:
        progress = KillAfter(line)
        with pytest.raises(Killed):
            train_encoders(request_for("killed", **changes), progress, seconds_between=0)
        assert "loss" in progress.lines[-1]
    progress = KillAfter("nothing")
    resumed = train_encoders(request_for("killed", **changes), progress, seconds_between=0)
    if kind == "joint":
        assert not [line for line in progress.lines if "loss" in line]  # only its measures were missing
    assert_same_training(whole, resumed)
    assert not list((resumed.folder / "teachers").rglob("*checkpoint.pt*"))


def test_augmentation_changes_what_is_learned_and_nothing_that_is_measured(request_for: MakeConfig, monkeypatch):
    """Val and test see whole sounds and frames."""
    one = {"objective": "joint", "epochs": 1}
    seen: set[tuple[str, bool, tuple[int, ...]]] = set()
    original = EncoderModel.encode

    def listen(self: EncoderModel, batch: Batch) -> dict[str, Tensor]:
        seen.update((m, self.training, tuple(x.shape[3:])) for m, x in batch.embeddings.items())
        return original(self, batch)

    monkeypatch.setattr(EncoderModel, "encode", listen)
    plain = weights_of(train_encoders(request_for("plain", **one)))
    whole = {("audio", False, (1, 32, 32)), ("video", False, (3, 32, 32))}
    assert {each for each in seen if not each[1]} == whole
    for changes, m in (({"time_crop": 0.5}, "audio"), ({"resized_crop": True}, "video")):
        seen.clear()
        changed = weights_of(train_encoders(request_for(m, **one, **changes)))
        assert {each for each in seen if not each[1]} == whole
        width = 16 if m == "audio" else 32
        assert {each for each in seen if each[1]} == {("audio", True, (1, 32, width)), ("video", True, (3, 32, 32))}
        file = f"{m}/weights.safetensors"
        assert not all(torch.equal(value, plain[file][name]) for name, value in changed[file].items())


def test_a_training_survives_kill_9(request_for: MakeConfig):
    config = request_for("killed", objective="joint", epochs=3, amr_ratio="1:1")

    class Kill(Progress):
        def note(self, text: str) -> None:
            if "epoch 2/3" in text:
                os.kill(os.getpid(), signal.SIGKILL)

    ended = run_child(lambda: train_encoders(config, Kill(), seconds_between=0) and 0)
    assert ended.code == -signal.SIGKILL, ended.stderr
    progress = KillAfter("nothing")
    resumed = train_encoders(config, progress)
    lines = [line.split(",")[0] for line in progress.lines if not line.startswith("warning: ")]
    assert lines == ["naive: continues after epoch 2/3", "naive: epoch 3/3"]
    assert_same_training(train_encoders(replace(config, out=f"{config.out}-whole")), resumed)


def test_a_store_that_is_shortened_while_it_is_trained_on_is_decoded_again(request_for: MakeConfig, tmp_path):
    """Mapped, it would be SIGBUS."""
    config = request_for("short", "audio", epochs=2, store=str(tmp_path / "store"))

    class Shorten(Progress):
        def note(self, text: str) -> None:
            if "epoch 1/2" in text:
                os.truncate(tmp_path / "store" / "audio.npy", 1000)

    with pytest.raises(RuntimeError, match=r"audio\.npy must have \d+ bytes, got 1000: .*Give the same command again"):
        train_encoders(config, Shorten(), seconds_between=0)
    resumed = train_encoders(config)
    assert_same_training(train_encoders(replace(config, out=f"{config.out}-whole")), resumed)


def test_test_clips_are_read_once_after_training(request_for: MakeConfig, monkeypatch):
    config = request_for("once", "audio")
    data = read_media_data(config, Progress())
    read: list[int] = []
    original = MediaClips._read

    def listen(self: MediaClips, index: Tensor) -> dict[str, Tensor]:
        read.extend(self.rows["audio"][index].flatten().tolist())
        return original(self, index)

    monkeypatch.setattr(MediaClips, "_read", listen)
    train_encoders(config)
    assert read[-len(data.clips) :] == list(range(len(data.clips)))
    assert not set(read[: -len(data.clips)]) & set(data.rows.test.tolist())
    assert {read.count(row) for row in data.rows.train} == {config.epochs + 1}


def test_extraction_agrees_with_training(request_for: MakeConfig, tmp_path):
    """The files hold the best epoch, batch statistics included."""
    config = request_for("joint", objective="joint", epochs=4, lr=0.03)
    result = train_encoders(config)
    model, val, test = model_of(config, result)
    model.requires_grad_(False)
    chosen = history(result.folder).query("chosen == 1").iloc[0]
    assert int(chosen["epoch"]) == result.epochs["joint"]["best"]
    for clips, measures in ((val, result.val), (test, result.test)):
        _, z = model.encoded(clips)
        logits = model.head({m: e[None] for m, e in z.embeddings.items()}, clips.present[None])[0]
        assert measures is not None
        assert float((logits.argmax(-1) == clips.target).float().mean()) == pytest.approx(measures["accuracy"])
        if clips is val:
            assert measures["accuracy"] == pytest.approx(chosen["val_accuracy"], abs=1e-5)
            assert float(functional.cross_entropy(logits, clips.target)) == pytest.approx(chosen["val_loss"], rel=1e-4)
    encoder = tuple(f"{m}={spec}" for m, spec in result.encoders.items())
    out = tmp_path / "cache.h5"
    extract_embeddings(ExtractConfig(dataset="synthetic", encoder=encoder, workers=0, device="cpu", out=str(out)))
    expected = model.encoded(test)[1].embeddings
    with Cache.open(out) as cache:
        for m in ENCODERS:
            got = torch.from_numpy(cache.embedding(m, test.rows[m].numpy()))
            error, permuted = ((got - each).norm() / got.norm() for each in (expected[m], expected[m].flip(0)))
            assert error < 0.01  # the store has half precision
            assert permuted > 0.1


def test_clips_that_lack_a_modality(request_for: MakeConfig, media, tmp_path):
    table = pd.read_csv(media / "data/synthetic/manifest.csv", dtype=str, keep_default_na=False)
    kind = np.arange(len(table)) % 3  # 0: both modalities, 1: video only, 2: audio only
    files = table["path"] if "path" in table else table["video_path"]
    table["audio_path"] = np.where(kind != 1, files, "")
    table["video_path"] = np.where(kind != 2, files, "")
    columns = ["id", "label", "split", "audio_path", "video_path"]
    table[columns].to_csv(tmp_path / "clips.csv", index=False)
    changes = {"dataset": None, "manifest": str(tmp_path / "clips.csv"), "root": str(media / "data/synthetic")}
    joint = train_encoders(request_for("joint", objective="joint", method="ogm-ge", amr_ratio="1:1", **changes))
    unimodal = train_encoders(request_for("unimodal", **changes))
    in_test = (table["split"] == "test").to_numpy()
    assert joint.test is not None
    assert joint.test["num_clips"] == in_test.sum()
    assert joint.test["num_clips_without_share"] == (in_test & (kind != 0)).sum()
    assert unimodal.test is not None
    assert unimodal.test["audio"]["num_clips"] == (in_test & (kind != 1)).sum()
    assert np.isfinite(history(joint.folder).to_numpy()).all()


def test_a_folder_belongs_to_one_training(request_for: MakeConfig, tmp_path):
    config = request_for("mine", "audio", epochs=1)
    first = train_encoders(config)
    file = first.folder / "audio" / "weights.safetensors"
    written = file.stat().st_mtime_ns
    progress = KillAfter("nothing")
    again = train_encoders(replace(config, workers=1, device="auto"), progress)
    assert (again, file.stat().st_mtime_ns) == (first, written)
    assert "is finished; pass more --epochs to continue, or --overwrite" in progress.lines[0]
    for changes, text in (
        ({"seed": 1}, "--seed 0"),
        ({"shift": 0.1, "epochs": 2}, "--shift 0"),
        ({"lr": 1.0}, "--lr 0.01"),
    ):
        with pytest.raises(
            ValueError, match=rf"a training with {text} \(now .*\). Choose another name, or --overwrite"
        ):
            train_encoders(replace(config, **changes))
    with pytest.raises(ValueError, match="--label must be one of"):
        train_encoders(replace(config, label="nope", overwrite=True))
    assert file.stat().st_mtime_ns == written  # a refused request deletes nothing
    other = train_encoders(replace(config, seed=1, overwrite=True))
    assert other.test != first.test or file.stat().st_mtime_ns != written
    for name in ("notes.txt", "config.json"):
        taken = tmp_path / f"taken-{name}"
        taken.mkdir()
        (taken / name).write_text('{"config": {}}')
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="--out must be new or a training of encoders"):
                train_encoders(replace(config, out=str(taken), overwrite=overwrite))
        assert [each.name for each in taken.iterdir()] == [name]


def test_a_training_does_not_resume_with_other_clips(request_for: MakeConfig, media, tmp_path):
    root = media / "data/synthetic"
    table = pd.read_csv(root / "manifest.csv", dtype=str, keep_default_na=False)
    manifest = tmp_path / "clips.csv"
    table.to_csv(manifest, index=False)
    config = request_for("killed", "audio", dataset=None, manifest=str(manifest), root=str(root))
    with pytest.raises(Killed):
        train_encoders(config, KillAfter("epoch 1/2"), seconds_between=0)
    table["label"] = table["label"].to_numpy()[::-1]
    table.to_csv(manifest, index=False)
    with pytest.raises(ValueError, match="started with other clips, labels or splits"):
        train_encoders(config)


def test_the_default_folder_is_named_after_the_training(request_for: MakeConfig, media):
    config = replace(request_for("x", "audio", epochs=1), out=None)
    result = train_encoders(config)
    assert result.folder == media / "encoders" / "synthetic_label_unimodal_seed0"
    other = replace(config, objective="joint", amr_ratio="1:4", attribution="permutation")
    assert training_folder(other).name == "synthetic_label_joint-naive_amr-1-4_permutation_seed0"
    assert build_encoder("trained:synthetic_label_unimodal_seed0", "audio").embed_dim == 256
    assert json.loads((result.folder / "config.json").read_text())["config"]["seed"] == 0
    shutil.rmtree(result.folder)


def test_a_training_that_diverges_says_so(request_for: MakeConfig):
    with pytest.raises(RuntimeError, match=r"training of audio must stay finite.*Pass a smaller --lr"):
        train_encoders(request_for("wild", "audio", lr=1e20))


def test_the_global_random_state_is_unchanged(request_for: MakeConfig, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_encoders(request_for("x", "audio", epochs=1, store=str(tmp_path / "store")))  # decodes, too
    assert torch.equal(torch.rand(3), expected)
