"""Damage of a cache comes out as one kind of error, and nothing else comes out as damage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from amr.extract.cache.arrays import CHUNK_BYTES
from amr.extract.cache.damage import DamagedCache, Finding, NotInCache, intact
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.seal import seal
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.verify import verify
from amr.extract.cache.writer import Embedded, open_writer, save

FIXTURE = Path(__file__).parents[2] / "fixtures/v0_1_0/workspace/caches/clips.h5"
AUDIO = EmbeddingInfo("audio", "audio", "logmel", "", {}, "float32", 1024)
NUM_CLIPS = 600  # more than two chunks


@pytest.fixture
def cache(tmp_path):
    table = pd.DataFrame({"id": [f"{i}" for i in range(NUM_CLIPS)]})
    values = 1 + np.random.default_rng(0).random((NUM_CLIPS, 1024))
    present = np.arange(NUM_CLIPS) % 7 != 0
    rows = Embedded(values * present[:, None], present)
    save(tmp_path / "toy.h5", ClipTable("toy", "", "", table), [(AUDIO, rows)])
    return tmp_path / "toy.h5"


@pytest.mark.parametrize("error", [KeyError, TypeError, IndexError, AttributeError, OSError, RuntimeError, ValueError])
def test_every_error_of_hdf5_is_one_of_damage(error):
    message = r"^cache 'x\.h5' must be intact, got a damaged file \(.*broken.*\)\. See amr verify, or extract or import"
    with pytest.raises(DamagedCache, match=message), intact(Path("x.h5")):
        raise error("broken\nmore")


def test_errors_of_checks_are_in_their_own_words():
    with pytest.raises(DamagedCache, match=r"got a damaged file \(labels differ\)"), intact(Path("x.h5")):
        raise Finding("labels differ")


def test_too_little_memory_is_no_damage():
    with pytest.raises(RuntimeError, match="must fit into memory") as found, intact(Path("x.h5")):
        raise MemoryError
    assert not isinstance(found.value, DamagedCache)


def test_wrong_requests_are_no_damage(cache):
    with Cache.open(cache) as opened:
        with pytest.raises(NotInCache, match="embedding must be one of audio, got 'video'"):
            opened.embedding("video")
        with pytest.raises(IndexError):
            opened.embedding("audio", np.array([NUM_CLIPS]))
    with pytest.raises(ValueError, match=r"cache must be open, got .* closed"):
        opened.table()


def test_a_slice_is_that_of_all_rows(cache):
    with Cache.open(cache) as opened:
        whole = opened.embedding("audio")
        for rows in (slice(3, 500), slice(None, None, 7), slice(599, None), slice(0, 0), slice(-10, None)):
            np.testing.assert_array_equal(opened.embedding("audio", rows), whole[rows])


def chunk_of(path: Path, index: int) -> tuple[int, int]:
    with h5py.File(path) as file:
        info = file["embeddings/audio"].id.get_chunk_info(index)
    return info.byte_offset, info.size


@pytest.mark.parametrize("version", [1, 2])
def test_a_flipped_value_is_refused(cache, tmp_path, version):
    name, path = ("audio", cache) if version == 2 else ("", Path(shutil.copy(FIXTURE, tmp_path / "old.h5")))
    with Cache.open(path) as opened:
        name = opened.names[0]
        assert opened.version == version
    with h5py.File(path) as file:
        data = file["embeddings"][name]
        offset = data.id.get_offset() if version == 1 else data.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 4
    path.write_bytes(content)
    with Cache.open(path) as opened, pytest.raises(DamagedCache, match="must be intact"):
        opened.embedding(name)
    assert not verify(path)["ok"]


def test_a_flipped_value_is_not_copied(cache):
    start, _ = chunk_of(cache, 1)
    content = bytearray(cache.read_bytes())
    content[start + 5] ^= 4
    cache.write_bytes(content)
    with Cache.open(cache) as opened:
        clips = ClipTable("toy", "", "", opened.table())
    with pytest.raises(DamagedCache), open_writer(cache, clips, [replace(AUDIO, name="more")]):
        pass
    assert cache.read_bytes() == content
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]


def test_a_chunk_of_zeros_is_refused(cache):
    """Fletcher32 of zeros is zero: a block of the disk that was lost passes the filter."""
    offset, size = chunk_of(cache, 1)
    assert size >= CHUNK_BYTES
    with cache.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    with h5py.File(cache) as file:
        assert not file["embeddings/audio"][256:512].any()
    with Cache.open(cache) as opened:
        for rows in (None, slice(300, 310), np.array([0, 300])):
            with pytest.raises(DamagedCache, match="embeddings/audio: checksum differs"):
                opened.embedding("audio", rows)
        opened.embedding("audio", slice(0, 256))


def test_chunks_that_are_zero_by_right_are_read(tmp_path):
    table = pd.DataFrame({"id": [f"{i}" for i in range(NUM_CLIPS)]})
    rows = Embedded(np.zeros((NUM_CLIPS, 1024)), np.ones(NUM_CLIPS, bool))
    save(tmp_path / "zero.h5", ClipTable("toy", "", "", table), [(AUDIO, rows)])
    with Cache.open(tmp_path / "zero.h5") as opened:
        assert not opened.embedding("audio").any()


def test_the_seal_covers_attributes_that_no_checksum_of_values_does(cache):
    content = cache.read_bytes()
    for old, new in ((b"logmel", b"logmem"), (b"random_weights", b"random_weighTs"), (b"group\0", b"grouq\0")):
        assert old in content
        cache.write_bytes(content.replace(old, new))
        with pytest.raises(DamagedCache, match="structure: checksum differs"):
            Cache.open(cache)


def test_shapes_are_checked_even_under_a_seal(cache):
    with h5py.File(cache, "r+") as file:
        del file["present/audio"]
        file["present/audio"] = np.ones(3, bool)
        seal(file)
    with pytest.raises(DamagedCache, match=r"present/audio is shaped \(3,\) for 600 clips"):
        Cache.open(cache)


def test_a_cache_that_is_a_link_is_followed(cache, tmp_path):
    (tmp_path / "link.h5").symlink_to(cache)
    with Cache.open(tmp_path / "link.h5") as opened:
        assert opened.num_clips == NUM_CLIPS


def test_links_in_a_cache_of_version_1_are_refused(tmp_path):
    path = Path(shutil.copy(FIXTURE, tmp_path / "old.h5"))
    with h5py.File(path, "r+") as file:
        del file["clips/split"]
        file["clips/split"] = h5py.ExternalLink(str(FIXTURE), "/clips/split")
    with pytest.raises(DamagedCache, match="clips/split is a link to another place"):
        Cache.open(path)
    assert verify(path)["problems"] == ["cannot be read: clips/split is a link to another place"]
