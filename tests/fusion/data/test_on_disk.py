import errno
import re
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amr.cli import run
from amr.common.files.memory import address_space
from amr.common.files.temporary import NoRoom
from amr.console import refusals
from amr.extract.cache.reader import Cache
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_dataset, read_embedding
from amr.fusion.data.normalization import moments
from amr.fusion.data.on_disk import DiskClips, empty
from amr.fusion.fit import fit
from amr.fusion.run_axis import seeds
from amr.fusion.run_axis.seeds import generator, in_blocks
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

from ..conftest import make_clips

CACHES = Path(__file__).parents[2] / "fixtures/v0_1_0/workspace/caches"


def test_tensors_on_disk_hold_their_values_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    values = torch.randn(1000, 3, 7).half()
    stored = empty(values.shape, values.dtype, on_disk=True)
    stored.copy_(values)
    assert torch.equal(stored, values)
    assert not list(tmp_path.iterdir())
    assert empty((0, 5), torch.float32, on_disk=True).shape == (0, 5)


def test_a_full_disk_is_one_sentence_before_anything_is_written(small_cache, monkeypatch, capsys):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    monkeypatch.setattr("os.posix_fallocate", full)
    assert run(["fit", "--cache", str(small_cache), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"must have room for 4.7 KiB, got .* free. Free space there, or set TMPDIR", said)


@contextmanager
def limited(which: int, num_bytes: int):
    """Lower a limit of this process while the block runs."""
    before = resource.getrlimit(which)
    resource.setrlimit(which, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


@pytest.mark.parametrize(
    ("which", "num_bytes", "message"),
    [
        (
            resource.RLIMIT_AS,
            lambda: address_space() + 2**26,
            r"the addresses of a process must have room for 256\.0 MiB in a temporary file, got "
            r"'Cannot allocate memory'\. Raise `ulimit -v`",
        ),
        (
            resource.RLIMIT_FSIZE,
            lambda: 2**20,
            r"the temporary folder '.*' must have room for 256\.0 MiB, got 'File too large'\. "
            r"Raise `ulimit -f`, or set TMPDIR",
        ),
    ],
)
def test_limits_of_a_process_are_named_in_one_sentence(which, num_bytes, message):
    with limited(which, num_bytes()), pytest.raises(NoRoom, match=message) as error:
        empty((2**28,), torch.int8, on_disk=True)
    assert refusals._disk_full(error.value, ["fit"]) is None  # whose words would be those of a full disk
    assert error.value.__suppress_context__


def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(
        NoRoom, match=rf"{tmp_path}' must take a file, got 'Read-only file system'\. Set TMPDIR to another folder"
    ):
        empty((8,), torch.int8, on_disk=True)


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


def test_a_cache_of_version_1_is_checked_on_its_way_to_the_disk(tmp_path):
    path = Path(shutil.copy(CACHES / "clips.h5", tmp_path / "old.h5"))
    with h5py.File(path, "r") as file:
        name = next(iter(file["embeddings"]))
        offset = file["embeddings"][name].id.get_offset()
    with Cache.open(path) as cache:
        values = [read_embedding(cache, name, on_disk=on)[0] for on in (False, True)]
        assert cache.version == 1
        assert torch.equal(*values)
    with path.open("r+b") as file:
        file.seek(offset)
        first = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([first ^ 1]))
    with Cache.open(path) as cache, pytest.raises(RuntimeError, match="checksum"):
        read_embedding(cache, name, on_disk=True)


ORDER = torch.randperm(20, generator=torch.Generator().manual_seed(0))
NEXT = torch.tensor([2, 2, 0, 1, 4, 3, 6])
SELECTIONS = {
    "take": lambda c: c.take(ORDER[:5]),
    "mask": lambda c: c.take(c.target == 0),
    "only": lambda c: c.only("audio"),
    "permuted": lambda c: c.with_permuted("video", ORDER),
    "permuted twice": lambda c: c.with_permuted("video", ORDER).with_permuted("video", ORDER),
    "permuted, taken": lambda c: c.with_permuted("video", ORDER).take(c.target == 0),
    "permuted, only": lambda c: c.with_permuted("video", ORDER).only("video"),
    "view": lambda c: c.view(ORDER[:5]),
    "view of a mask, permuted": lambda c: c.view(c.target == 1).with_permuted("audio", NEXT),
    "pool": lambda c: c.with_permuted("audio", ORDER).pool_steps(),
}


@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
def test_clips_on_disk_are_selected_as_those_in_memory(select):
    clips = make_clips(20)
    clips.present[::3, 1] = False
    expected, found = select(clips), select(DiskClips(clips.embeddings, clips.present, clips.target))
    assert isinstance(found, DiskClips)
    index = torch.arange(len(expected)).flip(0)[None]
    for batch, other in (
        (expected.slice(1, 9, 2), found.slice(1, 9, 2)),
        (expected.gather(index, 2), found.gather(index, 2)),
    ):
        assert torch.equal(batch.target, other.target)
        assert torch.equal(batch.present, other.present)
        assert all(torch.equal(other.embeddings[m], e) for m, e in batch.embeddings.items())


@pytest.mark.parametrize("kind", [Clips, DiskClips])
def test_permuted_clips_and_views_copy_no_embedding(kind, monkeypatch):
    monkeypatch.setattr("amr.fusion.data.on_disk.empty", None)  # no file
    clips = make_clips(20)
    clips = kind(clips.embeddings, clips.present, clips.target)
    for select in ("permuted", "permuted twice", "view", "view of a mask, permuted"):
        found = SELECTIONS[select](clips)
        assert all(found.embeddings[m] is e for m, e in clips.embeddings.items())
    order = ORDER.flip(0)
    batch = clips.with_permuted("video", ORDER).with_permuted("audio", order).slice(3, 7, 1)
    assert torch.equal(batch.embeddings["video"][0], clips.embeddings["video"][ORDER[3:7]])
    assert torch.equal(batch.embeddings["audio"][0], clips.embeddings["audio"][order[3:7]])


@pytest.mark.parametrize("method", ["naive", "ogm-ge", "gradient-blending", "umt"])
def test_a_fit_on_disk_equals_one_in_memory_bit_for_bit(small_cache, monkeypatch, method):
    config = FitConfig(cache=str(small_cache), method=method, adapter="linear", epochs=2, device="cpu")
    expected = fit(config)
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    found = fit(config)
    assert any("do not fit into memory" in note for note in found.record.notes)
    assert (found.val, found.test) == (expected.val, expected.test)


def test_batches_are_the_same_in_memory_and_on_disk(small_cache, monkeypatch):
    monkeypatch.setattr("amr.fusion.data.clips.BLOCK_BYTES", 160)  # two clips
    monkeypatch.setattr(seeds, "BLOCKS_PER_WINDOW", 4)
    base = FitConfig(cache=str(small_cache), epochs=4, device="cpu", amr_ratio="1:1", seed=1)
    table = sweep(SweepConfig(base, amr_ratio=("none", "1:1"), seed=(0, 1))).table
    member = table[(table["amr_ratio"] == "1:1") & (table["seed"] == 1) & (table["part"] == "test")]
    in_memory = fit(base)
    assert member["share_audio"].item() == pytest.approx(in_memory.test["share"]["audio"], abs=1e-6)
    monkeypatch.setattr("amr.fusion.data.folds.memory_at_hand", lambda: 0)
    on_disk = fit(base)
    assert (on_disk.val, on_disk.test) == (in_memory.val, in_memory.test)
    monkeypatch.setattr(seeds, "BLOCKS_PER_WINDOW", 1000)
    assert fit(base).test["share"] != on_disk.test["share"]


def test_an_order_in_blocks_is_a_permutation_that_reads_few_blocks_at_a_time(monkeypatch):
    monkeypatch.setattr(seeds, "BLOCKS_PER_WINDOW", 8)
    num_clips, block = 10_000, 20
    order = in_blocks(num_clips, block, generator(0, "order"))
    assert torch.equal(order.sort().values, torch.arange(num_clips))
    for part in order.split(8 * block):
        assert len((part // block).unique()) <= 9
    assert not torch.equal(order, in_blocks(num_clips, block, generator(1, "order")))
    assert torch.equal(in_blocks(50, 50, generator(0, "order")), torch.randperm(50, generator=generator(0, "order")))


@given(st.data())
def test_moments_are_those_of_numpy(data):
    rows, offset, scale = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([0, 1, 1e4])), 0.1
    x = np.random.default_rng(rows).normal(offset, scale, (rows, 3)).astype(np.float32)
    x = np.sort(x, axis=0) if data.draw(st.booleans()) else x
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amr.fusion.data.clips.CACHED_NUMBERS", 60)
        count, mean, std = moments(torch.from_numpy(x), torch.arange(rows))
    assert count == rows
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(std, x.astype(np.float64).std(0), rtol=1e-6, atol=1e-8)
