from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amr.extract.cache.arrays import write_attributes, write_text
from amr.extract.cache.journal import Failure
from amr.extract.cache.reader import EmbeddingInfo
from amr.extract.cache.seal import seal
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.verify import inspect, verify
from amr.extract.cache.writer import Embedded, open_writer, save

AUDIO = EmbeddingInfo("audio", "audio", "logmel", "", {"bands": 4}, "float32", 3)
VIDEO = EmbeddingInfo("video", "video", "timm:x,weights=random", "ab", {}, "float16", 2, 5, random_weights=True)


@pytest.fixture
def cache(tmp_path):
    table = pd.DataFrame({"id": list("abcd"), "label": ["2", "10", "2", ""], "split": ["train"] * 3 + ["test"]})
    present = np.array([True, True, False, True])
    steps = np.array([5, 2, 0, 1])
    video = np.where(np.arange(5)[None, :, None] < steps[:, None, None], np.ones((4, 5, 2)), 0)
    path = tmp_path / "toy.h5"
    with open_writer(path, ClipTable("toy", "/media", "00", table), [AUDIO, VIDEO]) as writer:
        writer.write("audio", 0, Embedded(np.arange(12.0).reshape(4, 3), np.ones(4, dtype=bool)))
        writer.write("video", 0, Embedded(video, present, steps, (Failure(2, "c", "video", "broken"),)))
        writer.finalize()
    return path


def test_inspect_describes_a_cache(cache):
    found = inspect(cache)
    assert found["clips"] == 4
    assert found["classes"] == {"2": 2, "10": 1}
    assert list(found["classes"]) == ["2", "10"]
    assert found["splits"] == {"test": 1, "train": 3}
    assert found["embeddings"]["video"]["present"] == 3
    assert found["embeddings"]["video"]["random_weights"]
    assert found["failures"] == [{"id": "c", "modality": "video", "reason": "broken"}]


def test_an_unfinished_cache_has_no_problems(tmp_path):
    path = tmp_path / "toy.h5"
    table = pd.DataFrame({"id": ["a", "b"]})
    with open_writer(path, ClipTable("toy", "", "", table), [AUDIO]) as writer:
        failure = Failure(0, "a", "audio", "broken")
        writer.write("audio", 0, Embedded(np.zeros((1, 3)), np.zeros(1, dtype=bool), None, (failure,)))
    assert verify(path)["problems"] == []
    assert not verify(path)["complete"]
    assert inspect(path)["failures"] == [{"id": "a", "modality": "audio", "reason": "broken"}]


def test_a_cache_as_written_has_no_problems(cache):
    assert verify(cache) == {
        "cache": str(cache),
        "ok": True,
        "complete": True,
        "clips": 4,
        "embedded": {"audio": 4, "video": 3},
        "problems": [],
    }


@pytest.mark.parametrize(
    ("group", "row", "value", "problem"),
    [
        ("embeddings/audio", 1, 5.5, "audio: checksum of embeddings differs"),
        ("embeddings/audio", 1, np.nan, "audio: 1 clip has values that are not finite"),
        ("embeddings/video", 2, 1.0, "video: 1 clip has values that should be 0"),
        ("embeddings/video", 3, 1.0, "video: 1 clip has values that should be 0"),
        ("present/video", 1, False, "video: checksum of present differs"),
        ("num_steps/video", 0, 9, "video: number of steps out of range in 1 clip"),
        ("done/audio", 0, False, "audio: 1 clip is not done in a cache that says it is complete"),
        ("clips/id", 0, "b", "clips/id: checksum differs"),
        ("clips/columns/label", 0, "7", "clips/columns/label: checksum differs"),
        ("failures/reason", 0, "fine", "failures/reason: checksum differs"),
    ],
)
def test_changed_values_are_found(cache, group, row, value, problem):
    with h5py.File(cache, "r+") as file:
        file[group][row] = value
    assert any(problem in found for found in verify(cache)["problems"])


def test_changed_attributes_are_found(cache):
    with h5py.File(cache, "r+") as file:
        write_attributes(file["embeddings/audio"], encoder="logmel,bands=64")
    (problem,) = verify(cache)["problems"]
    assert problem.startswith("structure: checksum differs")
    with h5py.File(cache, "r+") as file:
        seal(file)
    assert verify(cache)["problems"] == ["audio: fingerprint does not match its clips and encoder"]


def test_ids_are_unique(cache):
    with h5py.File(cache, "r+") as file:
        del file["clips/id"]
        write_text(file["clips"], "id", ["a", "a", "c", "d"])
        seal(file)
    assert "clips/id: not unique" in verify(cache)["problems"]


@pytest.mark.parametrize("name", ["clips/columns/label", "clips/group", "num_steps/video"])
def test_a_part_that_was_left_out_is_missed(cache, name):
    with h5py.File(cache, "r+") as file:
        del file[name]
    assert any(problem.startswith("structure") for problem in verify(cache)["problems"])


def test_a_cache_without_embeddings_has_a_problem(tmp_path):
    save(tmp_path / "none.h5", ClipTable("toy", "", "", pd.DataFrame({"id": ["a"]})), [])
    assert verify(tmp_path / "none.h5")["problems"] == ["embeddings: there are none"]


def test_damaged_rows_of_an_unfinished_cache_are_found(tmp_path):
    path = tmp_path / "toy.h5"
    table = pd.DataFrame({"id": ["a", "b", "c"]})
    with open_writer(path, ClipTable("toy", "", "", table), [AUDIO]) as writer:
        writer.write("audio", 0, Embedded(np.ones((2, 3)), np.ones(2, dtype=bool)))
    with h5py.File(path, "r+") as file:
        file["embeddings/audio"][1, 2] = 5
        file["embeddings/audio"][2, 2] = 5  # not done: what is there does not count
    assert verify(path)["problems"] == ["audio: checksum of 1 row differs, the data was damaged"]


def test_missing_parts_are_found(cache):
    with h5py.File(cache, "r+") as file:
        del file["present/audio"]
    assert any("audio" in problem for problem in verify(cache)["problems"])
    with pytest.raises(RuntimeError, match="must be intact, got a damaged file"):
        inspect(cache)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_off_and_overwritten_files_give_problems(cache, tmp_path, data):
    content = cache.read_bytes()
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert not verify(damaged)["ok"]
    start = data.draw(st.integers(0, len(content) - 64))
    noise = data.draw(st.binary(min_size=64, max_size=64))
    damaged.write_bytes(content[:start] + noise + content[start + 64 :])
    verify(damaged)  # may have hit unused bytes; must not raise


def test_missing_files_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="amr extract"):
        verify(tmp_path / "absent.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    assert verify(tmp_path / "other.h5")["problems"] == ["not a cache of format amr-cache 1 or 2"]


def test_a_file_of_another_kind_is_called_so(tmp_path):
    (tmp_path / "notes.md").write_text("# Notes\n")
    assert verify(tmp_path / "notes.md")["problems"] == ["not an HDF5 file"]
