"""Changes of a cache: conversion of version 1, damaged rows, what may be replaced, and disks that are full."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable, clips_of
from amr.extract.cache.verify import verify
from amr.extract.cache.writer import Embedded, check_replaceable, open_writer, save

CACHES = Path(__file__).parents[2] / "fixtures/v0_1_0/workspace/caches"
AUDIO = EmbeddingInfo("audio", "audio", "logmel", "", {}, "float32", 64)
NUM_CLIPS = 1000
CLIPS = ClipTable("toy", "", "", pd.DataFrame({"id": [f"{i}" for i in range(NUM_CLIPS)]}))
ROWS = Embedded(1 + np.random.default_rng(0).random((NUM_CLIPS, 64)).astype(np.float32), np.ones(NUM_CLIPS, bool))


def part(start: int, stop: int) -> Embedded:
    return Embedded(ROWS.values[start:stop], ROWS.present[start:stop])


def content(path: Path) -> dict[str, object]:
    with Cache.open(path) as cache:
        read = {
            "clips": cache.table().to_json(),
            "facts": [cache.dataset, cache.root, cache.manifest_sha256, cache.is_ordered, cache.created_by],
            "failures": cache.failures.to_json(),
        }
        for name in cache.names:
            steps = cache.num_steps(name)
            rows = cache.embedding(name).tobytes(), cache.present(name).tobytes(), cache.done(name).tobytes()
            read[name] = (cache.info(name), rows, None if steps is None else steps.tobytes())
        return read


def test_faces_are_kept_by_what_is_continued_and_carried_over(tmp_path):
    path, found = tmp_path / "c.h5", np.linspace(0, 1, NUM_CLIPS, dtype=np.float32)
    info = replace(AUDIO, preprocessing={"face": {"detector": "x"}}, max_steps=2, embed_dim=32)
    rows = Embedded(ROWS.values.reshape(-1, 2, 32), ROWS.present, np.full(NUM_CLIPS, 2), (), found)
    with open_writer(path, CLIPS, [info, replace(AUDIO, name="plain")]) as writer:
        writer.write("audio", 0, rows.cut(slice(400)))
    assert verify(path)["problems"] == []
    with open_writer(path, CLIPS, [info]) as writer:
        assert writer.done("audio").sum() == 400
        writer.write("audio", 400, rows.cut(slice(400, None)))
        writer.finalize()
    with Cache.open(path) as cache:
        np.testing.assert_array_equal(cache.faces("audio"), found)
        assert (cache.faces("plain"), cache.num_without_face("audio"), cache.num_without_face("plain")) == (None, 1, 0)
    assert verify(path)["problems"] == []


def test_damaged_faces_of_an_unfinished_embedding_are_seen(tmp_path):
    path, info = tmp_path / "c.h5", replace(AUDIO, preprocessing={"face": {}})
    with open_writer(path, CLIPS, [info]) as writer:
        writer.write("audio", 0, replace(part(0, 400), faces=np.full(400, 0.25)))
        place = writer._places["faces/audio"]
    with path.open("r+b") as file:
        file.seek(place.offset + 7 * place.row_bytes)
        file.write(np.float32(1).tobytes())
    with Cache.open(path) as cache:
        assert sum(block.damaged.sum() for block in cache.blocks("audio")) == 1


def test_only_a_cache_with_faces_has_a_place_for_them(tmp_path):
    for info in (AUDIO, replace(AUDIO, preprocessing={"face": {}})):
        save(tmp_path / "c.h5", CLIPS, [(info, ROWS)])
        with h5py.File(tmp_path / "c.h5") as file:
            assert ("faces" in file) == info.has_faces


@pytest.mark.parametrize("name", ["clips", "imported", "trained"])
def test_the_next_change_converts_version_1_to_the_bit(tmp_path, name):
    path = Path(shutil.copy(CACHES / f"{name}.h5", tmp_path / "old.h5"))
    before = content(path)
    with Cache.open(path) as cache:
        assert cache.version == 1
        clips, infos = clips_of(cache), [cache.info(each) for each in cache.names]
    with open_writer(path, clips, infos) as writer:
        writer.finalize()
    with Cache.open(path) as cache:
        assert cache.version == 1, "nothing was to be written"
    with open_writer(path, ClipTable("renamed", clips.root, clips.manifest_sha256, clips.table), infos) as writer:
        writer.finalize()
    with Cache.open(path) as cache:
        assert cache.version == 2
        assert cache.complete
    before["facts"][0] = "renamed"
    assert content(path) == before
    assert verify(path)["ok"]
    assert os.listdir(tmp_path) == ["old.h5"]


def test_an_unfinished_cache_of_version_1_goes_on_as_version_2(tmp_path):
    path = Path(shutil.copy(CACHES / "clips.h5", tmp_path / "old.h5"))
    with Cache.open(path) as cache:
        clips, info = clips_of(cache), cache.info(cache.names[0])
        last = cache.num_clips - 1
        row = next(block for block in cache.blocks(info.name) if block.start <= last)
    before = content(path)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
        file["done"][info.name][last] = False
        for group in ("embeddings", "present", "num_steps"):
            if info.name in file[group]:
                del file[group][info.name].attrs["sha256"]
                file[group][info.name][last] = 0
    with open_writer(path, clips, [info]) as writer:
        assert np.flatnonzero(~writer.done(info.name)).tolist() == [last]
        steps = None if row.num_steps is None else row.num_steps[-1:]
        writer.write(info.name, last, Embedded(row.values[-1:], row.present[-1:], steps))
        writer.finalize()
    assert content(path) == before
    assert verify(path)["ok"]


def test_rows_that_were_damaged_before_the_end_are_made_again(tmp_path):
    path = tmp_path / "toy.h5"
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        writer.write("audio", 0, ROWS)
        damage(path, "audio", 7)
        with Cache.open(path) as cache, pytest.raises(RuntimeError, match="checksum of 1 rows differs"):
            cache.embedding("audio")
        with pytest.raises(RuntimeError, match=r"got 1 rows that changed .* run the same command again"):
            writer.finalize()
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        assert np.flatnonzero(~writer.done("audio")).tolist() == [7]
        writer.write("audio", 7, part(7, 8))
        writer.finalize()
    with Cache.open(path) as cache:
        np.testing.assert_array_equal(cache.embedding("audio"), ROWS.values)


MORE = EmbeddingInfo("more", "audio", "x", "", {}, "float16", 2)


def damage(path: Path, name: str, row: int) -> None:
    with Cache.open(path) as cache:
        place = cache.places([name])[f"embeddings/{name}"]
    with path.open("r+b") as file:
        file.seek(place.offset + row * place.row_bytes)
        file.write(b"damage")


@pytest.mark.parametrize("stop", [500, NUM_CLIPS])
@pytest.mark.parametrize("first", [[AUDIO], [AUDIO, MORE]], ids=["new", "unfinished"])
def test_damaged_rows_of_an_unfinished_embedding_do_not_hinder_others(tmp_path, stop, first):
    """Whether it ends at its last clip or before, and whether the others are there or added."""
    path = tmp_path / "toy.h5"
    more = Embedded(np.ones((NUM_CLIPS, 2)), np.ones(NUM_CLIPS, bool))
    failure = Failure(7, "7", "audio", "of the row that is damaged")
    with open_writer(path, CLIPS, first) as writer:
        writer.write("audio", 0, replace(part(0, stop), failures=(failure,)))
    damage(path, "audio", 7)
    with open_writer(path, CLIPS, [MORE]) as writer:
        writer.write("more", 0, more)
        writer.finalize()
        assert writer.notes == ["1 row of audio changed since written: made again once audio is extracted"]
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        assert np.flatnonzero(~writer.done("audio")).tolist() == [7, *range(stop, NUM_CLIPS)]
        assert writer.notes == []
        writer.write("audio", 7, part(7, 8))
        if stop < NUM_CLIPS:
            writer.write("audio", stop, part(stop, NUM_CLIPS))
        writer.finalize()
    with Cache.open(path) as cache:
        assert cache.complete
        assert len(cache.failures) == 0
        np.testing.assert_array_equal(cache.embedding("audio"), ROWS.values)
        np.testing.assert_array_equal(cache.embedding("more"), more.values)
    assert verify(path)["ok"]


def interrupted(path: Path) -> Failure:
    """Write a cache whose extraction is killed at its end, with one failure."""
    failure = Failure(7, "7", "audio", "boom")
    present = ROWS.present.copy()
    present[7] = False
    values = np.where(present[:, None], ROWS.values, 0)
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        writer.write("audio", 0, Embedded(values, present, failures=(failure,)))
    return failure


def test_failures_of_a_killed_end_are_kept_where_labels_have_changed(tmp_path):
    path = tmp_path / "toy.h5"
    failure = interrupted(path)
    with open_writer(path, replace(CLIPS, dataset="renamed", manifest_sha256="other"), [AUDIO]) as writer:
        writer.finalize()
    with Cache.open(path) as cache:
        assert cache.complete
        assert [*map(tuple, cache.failures.to_numpy())] == [(failure.id, failure.modality, failure.reason)]
    assert os.listdir(tmp_path) == ["toy.h5"]


def test_a_cache_whose_writer_was_killed_last_of_all_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "toy.h5"
    interrupted(path)
    with monkeypatch.context() as patched, open_writer(path, CLIPS, [AUDIO]) as writer:
        patched.setattr(Journal, "remove", lambda self: None)
        writer.finalize()
    before = path.read_bytes()
    assert Journal(path).path.exists()
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        writer.finalize()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["toy.h5"]


def test_resume_tries_failures_of_an_interrupted_extraction_again(tmp_path):
    path = tmp_path / "toy.h5"
    interrupted(path)
    with open_writer(path, CLIPS, [AUDIO], resume=True, again={"audio": np.ones(NUM_CLIPS, bool)}) as writer:
        assert np.flatnonzero(~writer.done("audio")).tolist() == [7]
        writer.write("audio", 7, part(7, 8))
        writer.finalize()
    with Cache.open(path) as cache:
        assert len(cache.failures) == 0
        np.testing.assert_array_equal(cache.embedding("audio"), ROWS.values)


def test_a_cache_that_is_not_replaced_keeps_its_failures(tmp_path):
    path = tmp_path / "toy.h5"
    interrupted(path)

    def parts() -> Iterator[Embedded]:
        yield part(0, 8)
        raise ValueError("not finite")

    with pytest.raises(ValueError, match="not finite"):
        save(path, CLIPS, [(AUDIO, parts())])
    with open_writer(path, CLIPS, [AUDIO]) as writer:
        writer.finalize()
    with Cache.open(path) as cache:
        assert len(cache.failures) == 1


def test_a_finished_embedding_is_copied_as_it_is(tmp_path):
    save(tmp_path / "toy.h5", CLIPS, [(AUDIO, ROWS)])
    with Cache.open(tmp_path / "toy.h5") as cache:
        info = cache.info("audio")
    with open_writer(tmp_path / "toy.h5", CLIPS, [AUDIO, EmbeddingInfo("more", "audio", "x", "", {}, "float16", 2)]):
        pass
    with Cache.open(tmp_path / "toy.h5") as cache:
        assert cache.info("audio") == info
        np.testing.assert_array_equal(cache.embedding("audio"), ROWS.values)
        assert not cache.done("more").any()


def test_parts_are_saved_as_all_rows(tmp_path):
    save(tmp_path / "whole.h5", CLIPS, [(AUDIO, ROWS)])
    save(tmp_path / "parts.h5", CLIPS, [(AUDIO, (part(i, i + 300) for i in range(0, NUM_CLIPS, 300)))])
    assert content(tmp_path / "whole.h5") == content(tmp_path / "parts.h5")
    assert verify(tmp_path / "parts.h5")["ok"]


def test_only_a_cache_is_replaced(tmp_path):
    path = tmp_path / "toy.h5"
    check_replaceable(path)
    save(path, CLIPS, [(AUDIO, ROWS)])
    whole = path.read_bytes()
    check_replaceable(path)
    for damaged in (whole[: len(whole) // 2], whole[:5000], whole[:2000] + bytes(len(whole) - 2000)):
        path.write_bytes(damaged)
        check_replaceable(path)
    for old in CACHES.glob("*.h5"):
        path.write_bytes(old.read_bytes()[:6000])
        check_replaceable(path)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["weights"] = np.ones(3)
        file.attrs["backend"] = "tensorflow"
    (tmp_path / "notes.md").write_text("amr-cache")
    (tmp_path / "none").write_bytes(b"")
    for name in ("model.h5", "notes.md", "none"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match=r"--out must be a cache or a new file, got .* Choose another name"):
            save(tmp_path / name, CLIPS, [(AUDIO, ROWS)])
        with (
            pytest.raises(ValueError, match="--out must be a cache"),
            open_writer(tmp_path / name, CLIPS, [AUDIO], overwrite=True),
        ):
            pass
        assert (tmp_path / name).read_bytes() == before


def test_what_the_disk_has_no_room_for_is_not_begun(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    num_bytes = NUM_CLIPS * 64 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * num_bytes - 1))
    with (
        pytest.raises(ValueError, match=r"--out must fit on the disk, got 500\.0 KiB for 500\.0 KiB free"),
        open_writer(tmp_path / "toy.h5", CLIPS, [AUDIO]),
    ):
        pass
    assert os.listdir(tmp_path) == []
    save(tmp_path / "toy.h5", CLIPS, [(AUDIO, ROWS)])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(num_bytes - 1))
    with pytest.raises(ValueError, match="--out must fit on the disk"):
        save(tmp_path / "other.h5", CLIPS, [(AUDIO, ROWS)])


def end_as_hdf5_does(status: int) -> None:
    """End a fork with HDF5's part of a process's end, without that of libraries whose threads a fork does not have."""
    library = re.search(r"/\S*/libhdf5(_serial)?[-.]\S*", Path("/proc/self/maps").read_text())
    assert library is not None
    ctypes.CDLL(library[0]).H5close()
    os._exit(status)


@pytest.mark.parametrize("limit", [0, 100, 4096, 20_000, 100_000, 250_000, 262_000, 270_000])
@pytest.mark.parametrize("write", ["save", "extract"])
def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, limit, write):
    """A process that may write no file larger than `limit` ends with an OSError, not with a crash at its exit."""
    path = tmp_path / "toy.h5"

    def work() -> None:
        if write == "save":
            save(path, CLIPS, [(AUDIO, ROWS)])
        else:
            with open_writer(path, CLIPS, [AUDIO]) as writer:
                writer.write("audio", 0, ROWS)
                writer.finalize()

    child = os.fork()
    if child == 0:
        status = 3
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            work()
            status = 4
        except OSError as error:
            status = 1 if error.filename else 2
        finally:
            end_as_hdf5_does(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] in ([], ["toy.h5"])
    work()
    with Cache.open(path) as cache:
        assert cache.complete
        np.testing.assert_array_equal(cache.embedding("audio"), ROWS.values)
