"""Small caches and groups for the fusion tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.train.recipe import Recipe


def make_clips(num_clips: int = 90, dims: dict[str, int] | None = None, num_classes: int = 3, seed: int = 0) -> Clips:
    """Clips whose class shows in every modality, with noise."""
    generator = torch.Generator().manual_seed(seed)
    dims = dims or {"audio": 8, "video": 6}
    target = torch.arange(num_clips) % num_classes
    embeddings = {}
    for name, dim in dims.items():
        centers = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(dim))
        embeddings[name] = centers[target] + torch.randn(num_clips, dim, generator=generator)
    return Clips(embeddings, torch.ones(num_clips, len(dims), dtype=torch.bool), target)


def make_recipe(clips: Clips, num_classes: int = 3, **changes: object) -> Recipe:
    """A recipe for the clips. `changes` are fields of Recipe, or head, hidden, adapter, method, output, pooling."""
    defaults = {"head": "concat", "hidden": 0, "adapter": "none", "method": "naive", "output": "probability"}
    defaults |= {"pooling": "l2"}
    names = {key: changes.pop(key, value) for key, value in defaults.items()}
    shape = ModelShape.of(
        {m: e.shape[-1] for m, e in clips.embeddings.items()},
        num_classes,
        head=names["head"],
        hidden=names["hidden"],
        adapter=names["adapter"],
        adapter_dim=5,
    )
    fields = {
        "shape": shape,
        "method": methods[names["method"]],
        "options": methods[names["method"]].Options(),
        "attributor": Attributor(names["output"], names["pooling"]),
        "epochs": 4,
        "batch_size": 32,
        "optimizer": "adamw",
        "lr": 1e-2,
        "weight_decay": 1e-2,
        "amr_optimizer": "shared",
        "select": "accuracy",
    }
    return Recipe(**(fields | changes))


def write_small_cache(folder: Path) -> Path:
    """Write `caches/small.h5` into a workspace: 120 clips of 12 actors and three classes, with splits and two labels.

    Audio is better than video.
    """
    rng = np.random.default_rng(0)
    target = np.arange(120) % 3
    for name, noise in (("audio", 1.0), ("video", 2.5)):
        centers = np.random.default_rng(len(name)).normal(size=(3, 10))
        np.save(folder / f"{name}.npy", (centers[target] * 2 + noise * rng.normal(size=(120, 10))).astype(np.float32))
    np.savetxt(folder / "labels.txt", target, fmt="%d")
    (folder / "ids.txt").write_text("".join(f"a{i // 10:02d}_c{i:03d}\n" for i in range(120)))
    (folder / "columns.csv").write_text(
        "id,parity\n" + "".join(f"a{i // 10:02d}_c{i:03d},{'odd' if i % 2 else 'even'}\n" for i in range(120))
    )
    import_embeddings(
        ImportConfig(
            embeddings=(f"audio={folder / 'audio.npy'}", f"video={folder / 'video.npy'}"),
            labels=str(folder / "labels.txt"),
            ids=str(folder / "ids.txt"),
            groups=r"ids:^a\d+",
            splits="train=80,val=20,test=20",
            columns=str(folder / "columns.csv"),
            out=str(folder / "caches" / "small.h5"),
        )
    )
    return folder / "caches" / "small.h5"


def write_task_cache(folder: Path) -> None:
    """Write `caches/x.h5`: 90 clips whose columns tags, score, dog, cat and car depend on both modalities."""
    draws = np.random.default_rng(0)
    audio, video = draws.normal(size=(2, 90, 6)).astype(np.float32)
    names = ("dog", "cat", "car")
    has = np.stack([audio[:, 0] > 0, video[:, 1] > 0.3, audio[:, 2] + video[:, 2] > 0.5], 1)
    table = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(90)],
            "tags": [";".join(n for n, h in zip(names, row, strict=True) if h) for row in has],
            "score": np.round(audio[:, 0] + 0.5 * video[:, 0], 3),
            **{name: has[:, i].astype(int) for i, name in enumerate(names)},
        }
    )
    table.loc[0, "tags"] = "absent"
    table.to_csv(folder / "c.csv", index=False)
    np.save(folder / "audio.npy", audio)
    np.save(folder / "video.npy", video)
    (folder / "ids.txt").write_text("\n".join(table["id"]))
    (folder / "splits.txt").write_text("\n".join(["train"] * 50 + ["val"] * 20 + ["test"] * 20))
    (folder / "caches").mkdir()
    import_embeddings(
        ImportConfig(
            embeddings=(f"audio={folder}/audio.npy", f"video={folder}/video.npy"),
            ids=f"{folder}/ids.txt",
            labels=f"{folder}/c.csv:dog",
            columns=f"{folder}/c.csv",
            splits=f"{folder}/splits.txt",
            out=str(folder / "caches" / "x.h5"),
        )
    )


@pytest.fixture
def small_cache(workspace: Path) -> Path:
    """The cache of `write_small_cache`, in the workspace of the test."""
    return write_small_cache(workspace)


@pytest.fixture(scope="module")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with that cache, for the tests of a module; $AMR_HOME points at it meanwhile."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(home))
        write_small_cache(home)
        yield home


@pytest.fixture
def offline_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights & Biases without a network; fails if there was an attempt to reach one."""
    import wandb

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(0)
        for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        wandb.teardown()
        yield
        wandb.teardown()
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with small trainings of encoders (`make_trainings`). Do not change it."""
    from .trainings import make_trainings  # needs what decodes media, which a machine with a GPU may lack

    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(home))
        make_trainings(home)
    return home


@pytest.fixture
def trained(trained_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace of `trained_once`, as that of the test."""
    monkeypatch.setenv("AMR_HOME", str(trained_once))
    return trained_once
