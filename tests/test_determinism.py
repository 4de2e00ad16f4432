"""Commands given twice write the same bytes on a CPU, for any number of workers, batch sizes of extraction and threads.

What depends on threads or batches is in the tests that say "near", and in docs/reliability.md. Each test runs commands
in one folder, so that paths are the same, and compares what they leave to the bit; of curves of TensorBoard, which have
times, it compares the values.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amr.extract.cache.reader import Cache
from amr.fusion.frontier import settings

from .torture.damage import differences
from .torture.kills.commands import (
    AUDIO,
    EXTRACT,
    FIT,
    IMPORT,
    JOINT,
    SWEEP,
    TRAIN,
    VIDEO,
    Arguments,
    embeddings,
    finished,
    media,
)
from .torture.kills.curves import EVENTS, curves

TIMM = "--encoder=picture=timm:test_efficientnet,size=32,frames=2,weights=random"
EVALUATE = ("evaluate", "mine", "--noise-draws=2", "--bootstrap=50")


class Workspace:
    """A workspace that commands begin anew in, with the same inputs."""

    def __init__(self, folder: Path, inputs, before: Sequence[Arguments] = ()) -> None:
        self._home, self._inputs, self._kept = folder / "home", folder / "inputs", folder / "kept"
        self._inputs.mkdir()
        inputs(self._inputs)
        self._before = before
        self._number = 0

    def results(self, *commands: Arguments, num_threads: int = 1) -> Path:
        """Run commands, and return a copy of the workspace after them."""
        shutil.rmtree(self._home, ignore_errors=True)
        shutil.copytree(self._inputs, self._home)
        for arguments in (*self._before, *commands):
            ended = finished(self._home, arguments, num_threads)
            assert ended.fault((0,)) == ""
        self._number += 1
        kept = self._kept / str(self._number)
        shutil.copytree(self._home, kept)
        return kept


def assert_equal(*folders: Path) -> None:
    """All folders hold the same bytes."""
    first, *others = folders
    for other in others:
        assert differences(first, other, without=(EVENTS,)) == []
        assert curves(first) == curves(other)


def assert_near(file: Path, other: Path) -> None:
    """Two files of weights differ in their last digits only."""
    ours, theirs = load_file(file), load_file(other)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture
def on_embeddings(tmp_path):
    return Workspace(tmp_path, embeddings, (IMPORT,))


@pytest.fixture
def on_media(tmp_path):
    return Workspace(tmp_path, media)


def test_an_import(tmp_path):
    space = Workspace(tmp_path, embeddings)
    assert_equal(space.results(IMPORT), space.results(IMPORT))


def test_an_extraction(on_media):
    command = ("extract", "--manifest=manifest.csv", "--out=caches/c.h5", AUDIO, VIDEO)
    assert_equal(
        on_media.results((*command, "--workers=0")),
        on_media.results((*command, "--workers=0", "--batch-size=1"), num_threads=2),
        on_media.results((*command, "--workers=1", "--batch-size=5")),
        on_media.results((*command, "--workers=2", "--batch-size=3"), num_threads=2),
    )


def test_an_extraction_by_a_network(on_media):
    command = ("extract", "--manifest=manifest.csv", "--out=caches/c.h5", TIMM)
    first, *others, other_batch = (
        on_media.results((*command, "--workers=0")),
        on_media.results((*command, "--workers=0"), num_threads=2),
        on_media.results((*command, "--workers=2")),
        on_media.results((*command, "--workers=0", "--batch-size=1")),  # kernels are chosen by the size of a batch
    )
    assert_equal(first, *others)
    with Cache.open(first / "caches" / "c.h5") as ours, Cache.open(other_batch / "caches" / "c.h5") as theirs:
        np.testing.assert_allclose(ours.embedding("picture"), theirs.embedding("picture"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("more", [(), ("--folds=3",)])
def test_a_fit(on_embeddings, more):
    command = (*FIT, "--amr-ratio=1:1", *more)
    assert_equal(*(on_embeddings.results(command, num_threads=threads) for threads in (1, 1, 2)))


def test_a_fit_of_large_layers_is_the_same_with_as_many_threads_and_near_with_others(on_embeddings):
    """Steps of 2**26 products use all threads, which divide the sums of large products."""
    command = (*FIT, "--out=mine", "--adapter=mlp", "--adapter-dim=1024", "--batch-size=64")
    one, two, two_again = (on_embeddings.results(command, num_threads=threads) for threads in (1, 2, 2))
    assert_equal(two, two_again)
    assert_near(one / "runs" / "mine" / "weights.safetensors", two / "runs" / "mine" / "weights.safetensors")


def test_a_sweep(on_embeddings):
    command = (*SWEEP, "--head=concat,gated", "--amr-ratio=none,1:1,3:1")
    assert_equal(*(on_embeddings.results(command, num_threads=threads) for threads in (1, 2, 3)))


def test_a_table(on_embeddings):
    command = ("table", "--cache=c", "--epochs=2", "--seeds=2")
    assert_equal(*(on_embeddings.results(command, num_threads=threads) for threads in (1, 2)))


def test_a_frontier(on_embeddings, monkeypatch):
    for name in ("WEIGHTS", "NOISES", "DECAYS"):  # commands are forks of this process
        monkeypatch.setattr(settings, name, getattr(settings, name)[:2])
    command = ("frontier", "--cache=c", "--epochs=1", "--seeds=1")
    assert_equal(*(on_embeddings.results(command, num_threads=threads) for threads in (1, 2)))


def test_an_evaluation_a_page_and_predictions(on_embeddings):
    commands = (
        (*SWEEP, "--out=mine"),
        EVALUATE,
        ("report", "mine", "--out=page.html"),
        ("predict", "mine/runs/naive_concat_plain_seed0", "c05", "c06", "--out=predicted.csv"),
    )
    assert_equal(*(on_embeddings.results(*commands, num_threads=threads) for threads in (1, 2)))


def test_pictures_of_an_explanation_and_of_a_page_with_media(on_media):
    commands = (
        (*EXTRACT, AUDIO, VIDEO),
        (*FIT, "--out=mine"),
        *(("explain", "mine", "media/clips/00001.mp4", f"--out=picture.{suffix}") for suffix in ("png", "svg", "pdf")),
        ("report", "mine", "--out=page.html"),
    )
    assert_equal(on_media.results(*commands), on_media.results(*commands, num_threads=2))


@pytest.mark.parametrize("command", [TRAIN, (*JOINT, "--method=umt", "--amr-ratio=1:1")])
def test_a_training_of_encoders_is_the_same_with_as_many_threads_and_near_with_others(on_media, command):
    command = (*command, "--out=mine")
    one, two = on_media.results(command), on_media.results(command, num_threads=2)
    assert_equal(one, on_media.results((*command, "--workers=1")), on_media.results((*command, "--workers=2")))
    assert_equal(two, on_media.results((*command, "--workers=2"), num_threads=2))
    for file in sorted((one / "encoders" / "mine").rglob("weights.safetensors")):
        assert_near(file, two / file.relative_to(one))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: it sums products in another order than a CPU")
def test_a_fit_on_a_gpu_is_the_same_twice_and_near_that_on_a_cpu(on_embeddings):
    places = [on_embeddings.results((*FIT, "--out=mine", f"--device={device}")) for device in ("cpu", "cuda", "cuda")]
    on_cpu, *on_gpu = (load_file(place / "runs" / "mine" / "weights.safetensors") for place in places)
    for name, value in on_cpu.items():
        torch.testing.assert_close(on_gpu[0][name], value, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(on_gpu[1][name], on_gpu[0][name], rtol=1e-5, atol=1e-6)
