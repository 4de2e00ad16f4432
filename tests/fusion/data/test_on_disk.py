import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from amr.extract.cache.reader import Cache
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig, SweepConfig
from amr.fusion.data import on_disk
from amr.fusion.data.dataset import read_dataset
from amr.fusion.data.on_disk import DiskClips, empty
from amr.fusion.fit import fit
from amr.fusion.run_axis.seeds import BLOCKS_PER_WINDOW, generator, windowed
from amr.fusion.sweep.sweep import sweep

from ..conftest import make_clips


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)


def test_tensors_on_disk_hold_their_values_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = torch.randn(1000, 3, 7).half()
    stored = empty(values.shape, values.dtype, on_disk=True)
    stored.copy_(values)
    assert torch.equal(stored, values)
    assert not list(tmp_path.iterdir())
    assert empty((0, 5), torch.float32, on_disk=True).shape == (0, 5)


def test_a_full_disk_is_seen_before_anything_is_written(monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"must have room for the embeddings, .* set TMPDIR"):
        empty((10, 10), torch.float32, on_disk=True)


@pytest.fixture
def steps_cache(workspace):
    values = np.random.default_rng(0).normal(size=(30, 5, 4)).astype(np.float32)
    values[::3, 3:] = np.nan
    np.save(workspace / "x.npy", values)
    (workspace / "labels.txt").write_text("a\nb\nc\n" * 10)
    config = ImportConfig((f"x={workspace / 'x.npy'}",), labels=str(workspace / "labels.txt"), out="steps")
    return import_embeddings(config).cache


@pytest.mark.parametrize("keep_steps", [False, True])
@pytest.mark.parametrize("name", ["small_cache", "steps_cache"])
def test_embeddings_are_read_to_disk_as_to_memory(request, name, keep_steps):
    with Cache.open(request.getfixturevalue(name)) as cache:
        memory, disk = (read_dataset(cache, keep_steps=keep_steps, on_disk=on) for on in (False, True))
    assert torch.equal(memory.present, disk.present)
    for m, embedding in memory.embeddings.items():
        torch.testing.assert_close(disk.embeddings[m], embedding, rtol=0, atol=0, equal_nan=True)


def test_clips_on_disk_are_selected_as_those_in_memory():
    clips = make_clips(20)
    stored = DiskClips(clips.embeddings, clips.present, clips.target)
    order = torch.randperm(20)
    for select in (
        lambda c: c.take(order[:5]),
        lambda c: c.take(c.target == 0),
        lambda c: c.only("audio"),
        lambda c: c.with_permuted("video", order),
        lambda c: c.pool_steps(),
    ):
        expected, found = select(clips), select(stored)
        assert isinstance(found, DiskClips)
        assert torch.equal(found.target, expected.target)
        assert torch.equal(found.present, expected.present)
        assert all(torch.equal(found.embeddings[m], e) for m, e in expected.embeddings.items())


@pytest.mark.parametrize("method", ["naive", "ogm-ge", "gradient-blending", "umt"])
def test_a_fit_on_disk_equals_one_in_memory_bit_for_bit(small_cache, monkeypatch, method):
    config = FitConfig(cache=str(small_cache), method=method, adapter="linear", epochs=2, device="cpu")
    expected = fit(config)
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    found = fit(config)
    assert any("do not fit into memory" in note for note in found.record.notes)
    assert (found.val, found.test) == (expected.val, expected.test)


@pytest.mark.usefixtures("no_memory")
def test_members_of_a_sweep_on_disk_equal_fits_on_disk(small_cache, monkeypatch):
    monkeypatch.setattr(on_disk, "WINDOW_BYTES", 16 * 80)  # windows of 16 clips
    base = FitConfig(cache=str(small_cache), epochs=4, device="cpu")
    table = sweep(SweepConfig(base, amr_ratio=("none", "1:1"), seed=(0, 1))).table
    alone = fit(replace(base, amr_ratio="1:1", seed=1))
    member = table[(table["amr_ratio"] == "1:1") & (table["seed"] == 1) & (table["part"] == "test")]
    assert member["share_audio"].item() == pytest.approx(alone.test["share"]["audio"], abs=1e-6)
    monkeypatch.undo()
    assert fit(replace(base, amr_ratio="1:1", seed=1)).test["share"] != alone.test["share"]


def test_windows_are_a_permutation_that_reads_few_blocks_at_a_time():
    num_clips, window = 10_000, 1280
    order = windowed(num_clips, window, generator(0, "order"))
    assert torch.equal(order.sort().values, torch.arange(num_clips))
    size = window // BLOCKS_PER_WINDOW
    for part in order.split(window):
        assert len((part // size).unique()) <= BLOCKS_PER_WINDOW + 1
    assert not torch.equal(order, windowed(num_clips, window, generator(1, "order")))
    assert torch.equal(windowed(50, 50, generator(0, "order")), torch.randperm(50, generator=generator(0, "order")))
