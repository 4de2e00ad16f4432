from __future__ import annotations

import hashlib
import io
import pickle
import threading
import urllib.error
import urllib.request
from contextlib import nullcontext
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.response import addinfourl

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from amr.extract.encoders.families.trained import save_trained
from amr.extract.encoders.registry import build_encoder
from amr.extract.encoders.weights import (
    WeightsFile,
    find_weights,
    read_state,
    seeded,
    set_weights,
    state_sha256,
)

PLAIN = WeightsFile("https://example.org/models/small-0123.pth")
IN_REPO = WeightsFile("https://example.org/timm/small/resolve/main/model.safetensors", "timm/small")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for torch's downloads; it is empty, as is that of Hugging Face."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hugging"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requested URLs, none of which gets an answer."""
    requested = []

    def no_answer(opener, url, timeout):
        requested.append(url)
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", no_answer)
    return requested


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("file", [PLAIN, IN_REPO])
def test_without_file_and_network_the_error_names_both(hub, no_network, file):
    with pytest.raises(FileNotFoundError) as error:
        find_weights("pretrained", file, "timm:small")
    assert no_network == [file.url]  # requested once
    assert file.url in str(error.value)
    assert str(file.place) in str(error.value)
    assert file.place.parent == hub
    assert list(hub.iterdir()) == []
    file.place.touch()  # what the error says to do
    assert find_weights("pretrained", file, "timm:small") == file.place


def test_downloads_of_hugging_face_are_found(hub, no_network, tmp_path):
    repo = tmp_path / "hugging" / "models--timm--small"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "snapshots" / "abc" / "model.safetensors").touch()
    found = find_weights("pretrained", IN_REPO, "timm:small")
    assert found == repo / "snapshots" / "abc" / "model.safetensors"
    assert no_network == []


def test_weights_are_downloaded_once_and_are_what_was_published(hub, tmp_path):
    name = f"small-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    remote = tmp_path / name
    file = WeightsFile(remote.as_uri())
    remote.write_bytes(b"other weights")
    with pytest.raises(RuntimeError, match="weights of small must have the sha256"):
        find_weights("pretrained", file, "small")
    assert list(hub.iterdir()) == []
    remote.write_bytes(b"weights")
    assert find_weights("pretrained", file, "small").read_bytes() == b"weights"
    remote.unlink()
    assert find_weights("pretrained", file, "small") == hub / name
    assert [path.name for path in hub.iterdir()] == [name]


class Hub(BaseHTTPRequestHandler):
    """A server that answers as Hugging Face: a checksum, and a redirect to the content."""

    def do_GET(self):
        self.send_response(302)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(b"weights").hexdigest()}"')
        self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Hub) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_the_checksum_of_hugging_face_is_checked_and_redirects_stay_encrypted(hub, server, monkeypatch):
    file = WeightsFile(f"http://127.0.0.1:{server.server_port}/model.safetensors", "timm/small")
    server.location = f"http://127.0.0.1:{server.server_port}/elsewhere"
    with pytest.raises(FileNotFoundError, match="which is not encrypted"):
        find_weights("pretrained", file, "small")
    server.location = "https://example.org/content"
    for content, fits in ((b"other", False), (b"weights", True)):
        answer = addinfourl(io.BytesIO(content), Message(), "", 200)
        answer.msg = "OK"
        monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", lambda *_, answer=answer: answer)
        with nullcontext() if fits else pytest.raises(RuntimeError, match="must have the sha256"):
            assert find_weights("pretrained", file, "small") == file.place
        assert file.place.is_file() == fits


class Payload:
    """An object that makes a file when it is read from a pickle."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return (Path.touch, (self.made,))


def pickled(path: Path, payload: Payload, how: str) -> None:
    """Write a file that would run code: with torch.save in its two formats, plainly, or as an array of objects."""
    state = {"0.weight": torch.zeros(2), "other": payload}
    if how == "npz":
        np.savez(path.with_suffix(".npz"), weight=np.array([payload], dtype=object))
        path.with_suffix(".npz").rename(path)
    elif how == "plain":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")


SPECS = ("timm:test_vit", "timm:test_resnet", "torchvision:r3d_18", "torchaudio:WAV2VEC2_BASE")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("how", ["zip", "legacy", "plain", "npz"])
def test_no_file_of_weights_runs_code(tmp_path, suffix, how):
    made = tmp_path / "ran"
    pickled(tmp_path / f"weights{suffix}", Payload(made), how)
    for spec in SPECS if (suffix, how) in ((".pt", "zip"), (".npz", "npz")) else SPECS[:2]:
        name = "audio" if spec.startswith("torchaudio") else "video"
        with pytest.raises(ValueError, match=r"weights must "):
            build_encoder(f"{spec},weights={tmp_path / f'weights{suffix}'}", name)
    assert not made.exists()


def test_no_trained_encoder_runs_code(tmp_path):
    encoder = build_encoder("timm:test_resnet,weights=random", "video")
    save_trained(tmp_path / "enc", encoder, "timm:test_resnet,weights=random")
    made = tmp_path / "ran"
    pickled(tmp_path / "enc" / "weights.safetensors", Payload(made), "zip")
    with pytest.raises(ValueError, match=r"weights\.safetensors must be"):
        build_encoder(f"trained:{tmp_path / 'enc'}", "video")
    description = tmp_path / "enc" / "encoder.json"
    pickled(tmp_path / "mine.pt", Payload(made), "zip")
    description.write_text(description.read_text().replace("weights=random", f"weights={tmp_path / 'mine.pt'}"))
    with pytest.raises(ValueError, match="must "):
        build_encoder(f"trained:{tmp_path / 'enc'}", "video")
    assert not made.exists()


def test_files_that_are_named(tmp_path):
    (tmp_path / "mine.pt").touch()
    assert find_weights(str(tmp_path / "mine.pt"), None, "small") == tmp_path / "mine.pt"
    with pytest.raises(FileNotFoundError, match="weights must be pretrained, random or a file"):
        find_weights(str(tmp_path / "other.pt"), PLAIN, "small")
    with pytest.raises(ValueError, match="small, which has no published ones, got pretrained"):
        find_weights("pretrained", None, "small")


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth", "state_dict", "model", "parallel"])
def test_every_kind_of_file_gives_the_same_weights(tmp_path, kind):
    saved, loaded = model(), model()
    state = saved.state_dict()
    path = tmp_path / f"weights.{kind if kind in ('safetensors', 'pth') else 'pt'}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save({kind: state} if kind in ("state_dict", "model") else state, path)
    assert state_sha256(loaded) != state_sha256(saved)
    set_weights(loaded, path, unused=("head.",))
    assert state_sha256(loaded) == state_sha256(saved)


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "weights.safetensors"
    state = model().state_dict()
    save_file({**state, "head.weight": torch.zeros(2)}, path)
    set_weights(model(), path, unused=("head.",))
    for wrong in (
        {name: tensor for name, tensor in state.items() if name != "0.bias"},
        {**state, "0.weight": torch.zeros(3, 3)},
        {**state, "other": torch.zeros(1)},
    ):
        save_file(wrong, path)
        with pytest.raises(ValueError, match="weights must hold the model's tensors"):
            set_weights(model(), path, unused=("head.",))


def test_files_without_weights(tmp_path):
    for name, content in (("a.pt", b"rubbish"), ("a.safetensors", b"rubbish")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"weights must be a \.safetensors file or a \.pt file"):
            read_state(tmp_path / name)
    torch.save(model(), tmp_path / "whole.pt")  # would run code on being read
    with pytest.raises(
        ValueError, match=r"only, got .*Sequential objects, which cannot be read without running code\. "
    ):
        read_state(tmp_path / "whole.pt")
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "table.csv").write_text("path,label\na.wav,x\n")
    for name, reason in (
        ("a.pt", "something that torch.save did not write"),
        ("table.csv", "something that torch.save did not write"),
        ("script.pt", "a TorchScript archive"),
        ("empty.pt", "something that torch.save did not write"),
    ):
        with pytest.raises(ValueError, match=rf"{reason}\. Save model\.state_dict") as refused:
            read_state(tmp_path / name)
        assert "weights_only" not in str(refused.value)  # PyTorch advises to switch it off
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="state dict of tensors"):
        read_state(tmp_path / "list.pt")


def test_seeded_numbers_repeat_and_do_not_change_the_global_state():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded():
        first = torch.rand(3)
    torch.testing.assert_close(torch.rand(3), expected)
    with seeded():
        torch.testing.assert_close(torch.rand(3), first)
