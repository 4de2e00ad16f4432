"""Folders and names of models: what is found, and what is refused before anything of it is used."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from amr.extract.encoders import build_encoder, build_requested, list_encoders
from amr.extract.encoders.families.huggingface.architectures import ARCHITECTURES
from amr.extract.encoders.weights import state_sha256

from .conftest import assert_close, frames
from .tiny import MAKERS, TEXT


@pytest.fixture
def copied(saved, tmp_path):
    """Function from a model_type to a folder of its own."""
    return lambda name: Path(shutil.copytree(saved(name), tmp_path / name))


def change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_every_architecture_is_tested():
    """Those of one class in the library stand for each other."""
    same = {"xlm-roberta", "camembert"}  # each a RoBERTa of its own name
    assert set(ARCHITECTURES) - same == set(MAKERS)


def test_names_of_towers_and_options_select_one(saved, built):
    assert (built("clip", "text").modality, built("clip", "video").modality) == ("text", "video")
    assert built("clap", "audio").modality == "audio"
    assert built("clip", "looks", ",tower=video").spec.endswith(",tower=video")
    assert built("bert", "anything").modality == "text"
    text, video = built("clip", "text"), built("clip", "video")
    assert text.weights_sha256 != video.weights_sha256
    assert not any("vision" in name or "logit_scale" in name for name, _ in text.model.named_parameters())
    with pytest.raises(
        ValueError, match=r"tower must say which of video and text of hf:.* is meant, got none and the name"
    ):
        built("clip", "audio")
    with pytest.raises(
        ValueError, match=r"tower of hf:.* must be one of video, text, got 'vidoe'. Did you mean video\?"
    ):
        built("clip", "x", ",tower=vidoe")
    with pytest.raises(ValueError, match=r"tower of hf:.* must be one of text, got 'audio'"):
        built("bert", "x", ",tower=audio")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert", ",pool=sum", "pool must be one of cls, mean, max, steps, got 'sum'"),
        ("wav2vec2", ",pool=cls", r"pool must be mean or max or steps for hf:.*wav2vec2, got cls. Type pool=mean"),
        ("siglip", ",tower=video,pool=cls,layer=1", r"pool must be mean or max or steps for hf:.* at layer=1, got cls"),
        ("xclip", ",tower=video,pool=mean", r"pool must be cls or steps for hf:.*, got mean"),
        ("xclip", ",tower=video,layer=1", "layer must be left out for hf:.*, whose layers give no tokens"),
        ("vit", ",layer=3", r"layer must be 1 to 2 for hf:.*, got 3. Pass layer=2"),
        ("vit", ",layer=0", "layer must be at least 1, got 0"),
        ("bert", ",frames=3", "frames must be left out for hf:.*, a model of text, got 3"),
        ("videomae", ",frames=3", "frames must be left out for hf:.*, a model of video"),
        ("whisper", ",piece_seconds=5", "piece_seconds must be left out for hf:.*, a model of windows of sound"),
        ("vit", ",long=truncate", "long must be left out for hf:.*, a model of pictures"),
        ("vit", ",frames=3,rate=2", "frames must be left out with rate"),
        ("wav2vec2", ",piece_seconds=0.5", "piece_seconds must be 1 to 3600, got 0.5"),
        ("vit", ",weights=randm", r"weights must be one of pretrained, random, got 'randm'. Did you mean random"),
        ("vit", ",revision=main", "revision must be left out for a folder, got main"),
        ("vit", ",seed=1", "seed must be at least 0 and used with weights=random"),
        ("vit", ",keep=mean", "hf option must be one of tower, pool, layer"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(built, name, options, message):
    with pytest.raises(ValueError, match=message):
        built(name, "x", options)


def test_a_folder_is_relative_to_the_current_one(saved, built, monkeypatch):
    folder = saved("vit")
    monkeypatch.chdir(folder.parent)
    encoder = build_encoder("hf:vit,frames=2", "video")
    assert encoder.spec == "hf:vit,frames=2"
    assert encoder.weights_sha256 == built("vit", "video", ",frames=2").weights_sha256
    assert encoder.preprocessing == built("vit", "video", ",frames=2").preprocessing
    assert build_encoder(f"hf:{folder}/", "video").embed_dim == 16


def test_random_weights_are_those_of_their_seed(built):
    one, same, other = (built("vit", "video", f",weights=random{seed}") for seed in ("", ",seed=0", ",seed=1"))
    assert one.random_weights
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256


def test_only_safetensors_are_read(copied):
    folder = copied("bert")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"weights must be in model.safetensors, got pytorch_model.bin in .* hold code"
    ):
        build_encoder(f"hf:{folder}", "text")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights must be in model.safetensors, got none in"):
        build_encoder(f"hf:{folder}", "text")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_models_own_is_refused(copied, file):
    folder = copied("bert")
    change(folder / file, auto_map={"AutoModel": "modeling.Own"})
    (folder / "modeling.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match=rf"whose {file} has an auto_map to code of its own, which is never run"):
        build_encoder(f"hf:{folder}", "text")


def test_damaged_and_foreign_folders_are_refused_in_words(copied, tmp_path):
    folder = copied("bert")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"hf must name a folder with config.json, got .*empty' without"):
        build_encoder(f"hf:{tmp_path / 'empty'}", "text")
    (folder / "tokenizer.json").rename(folder / "away")
    with pytest.raises(ValueError, match=r"hf must name a folder with the model's own tokenizer, got"):
        build_encoder(f"hf:{folder}", "text")
    (folder / "away").rename(folder / "tokenizer.json")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config[:-5])
    with pytest.raises(ValueError, match=r"config.json must be JSON, got"):
        build_encoder(f"hf:{folder}", "text")
    for model_type, message in (("brt", "got 'brt'. Did you mean bert"), (None, "config.json must have a model_type")):
        (folder / "config.json").write_text(json.dumps({**json.loads(config), "model_type": model_type}))
        with pytest.raises(ValueError, match=message):
            build_encoder(f"hf:{folder}", "text")
    (folder / "config.json").write_text(config)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"weights must be those of hf:.*: .*Copy the folder again"):
        build_encoder(f"hf:{folder}", "text")


@pytest.mark.parametrize(("name", "what"), [("vit", "image processor"), ("wav2vec2", "feature extractor")])
def test_a_model_without_its_processor_is_refused(copied, name, what):
    folder = copied(name)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=rf"hf must name a folder with the model's own {what}, got .*save_pretrained"):
        build_encoder(f"hf:{folder}", "x")


def test_weights_that_a_tower_needs_must_be_there(copied):
    folder = copied("bert")
    state = load_file(folder / "model.safetensors")
    lost = "encoder.layer.1.attention.self.query.weight"
    save_file({name: x for name, x in state.items() if name != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"a file without 1 of its tensors, such as {lost}"):
        build_encoder(f"hf:{folder}", "text")
    other = {**state, lost: torch.zeros(2, 2)}
    save_file(other, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"without 1 of its tensors, such as {lost}"):
        build_encoder(f"hf:{folder}", "text")


def test_a_checkpoint_of_another_training_of_the_same_model_has_what_is_used(copied, built):
    folder = copied("bert")
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**TEXT))
    model.save_pretrained(folder)
    encoder = build_encoder(f"hf:{folder}", "text")
    assert not any("pooler" in name for name in encoder.model.state_dict())
    again = build_encoder(f"hf:{folder}", "text")
    assert again.weights_sha256 == encoder.weights_sha256 == state_sha256(encoder.model)


def test_weights_in_half_precision_are_computed_in_float32(copied):
    folder = copied("vit")
    state = {name: x.half() for name, x in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", dtype="float16")
    encoder = build_encoder(f"hf:{folder}", "video")
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}
    assert encoder.embed([encoder.prepare(frames(2))])[0].isfinite().all()


def in_hub_cache(folder: Path, cache: Path, commit: str) -> None:
    """Put a model into the Hub's cache, as a download does."""
    repository = cache / "models--some--model"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)


def test_a_name_is_found_in_the_cache_of_the_hub_without_a_network(saved, built, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    in_hub_cache(saved("vit"), tmp_path, commit)
    for spec in ("hf:some/model,frames=2", f"hf:some/model,frames=2,revision={commit}"):
        encoder = build_encoder(spec, "video")
        assert (encoder.spec, encoder.preprocessing["revision"]) == (spec, commit)
        assert_close(
            encoder.embed([encoder.prepare(frames(2))])[0],
            (other := built("vit", "video", ",frames=2")).embed([other.prepare(frames(2))])[0],
        )


def test_a_name_without_a_network_fails_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked = []

    def unreachable(*_: object, **__: object) -> None:
        asked.append(1)
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(
        FileNotFoundError, match=r"got 'some/model': no such folder here, none in .*`hf download some/model"
    ):
        build_encoder("hf:some/model", "video")
    assert len(asked) <= 2, "it asks once, and does not retry for a minute"
    for wrong in ("hf:not/a/folder", "hf:~x y"):
        with pytest.raises(FileNotFoundError, match="hf must name a folder or a model on the Hub, got"):
            build_encoder(wrong, "video")
    with pytest.raises(ValueError, match="hf must name a model or a folder, got none"):
        build_encoder("hf", "video")


def test_without_the_library_the_error_says_what_to_install(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"--encoder text=hf:x: .*transformers .*pip install 'amr-fusion\[hf\]'"):
        build_requested({"text": "hf:x"})


def test_the_list_names_each_kind():
    listed = {info.spec: info.modality for info in list_encoders("hf:*")}
    assert set(listed.values()) >= {"video", "video|text", "audio", "audio|text", "text"}
