from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

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

    def urlopen(url, timeout):
        requested.append(url)
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
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


def test_weights_are_downloaded_once(hub, monkeypatch, tmp_path):
    remote = tmp_path / "small-0123.pth"
    remote.write_bytes(b"weights")
    file = WeightsFile(remote.as_uri())
    assert find_weights("pretrained", file, "small").read_bytes() == b"weights"
    remote.unlink()
    assert find_weights("pretrained", file, "small") == hub / "small-0123.pth"
    assert [path.name for path in hub.iterdir()] == ["small-0123.pth"]


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
    with pytest.raises(ValueError, match="of tensors only"):
        read_state(tmp_path / "whole.pt")
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
