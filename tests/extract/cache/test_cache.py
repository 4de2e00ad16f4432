from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.extract.cache.arrays import escape
from amr.extract.cache.journal import Failure, Journal
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.verify import inspect, verify
from amr.extract.cache.writer import Embedded, fingerprinted, open_writer, save

AUDIO = EmbeddingInfo("audio", "audio", "logmel", "", {"bands": 40, "pool": {"steps": 4}}, "float32", 3)
VIDEO = EmbeddingInfo("video", "video", "frames", "ab" * 32, {}, "float16", 2, max_steps=5, random_weights=True)


def clip_table(num_clips: int = 6, **columns: list[str]) -> ClipTable:
    ids = [f"clip{i}" for i in range(num_clips)]
    table = pd.DataFrame({"id": ids, "path": [f"{i}.mp4" for i in ids], "label": ["x"] * num_clips} | columns)
    return ClipTable("toy", "/media", "00", table)


def rows(info: EmbeddingInfo, start: int, stop: int) -> Embedded:
    rng = np.random.default_rng(start)
    steps = None if info.max_steps is None else rng.integers(1, info.max_steps, stop - start)
    return Embedded(rng.normal(size=(stop - start, *info.row_shape)), np.ones(stop - start, dtype=bool), steps)


def fill(path: Path, clips: ClipTable, *infos: EmbeddingInfo, **options: bool) -> None:
    with open_writer(path, clips, infos, **options) as writer:
        for info in infos:
            for start in range(0, len(clips.table), 2):
                if not writer.done(info.name)[start : start + 2].all():
                    writer.write(info.name, start, rows(info, start, start + 2))
        writer.finalize()


def test_reading_returns_what_was_written(tmp_path):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(group=["g"] * 6), AUDIO, VIDEO)
    with Cache.open(path) as cache:
        assert cache.complete
        assert cache.names == ["audio", "video"]
        assert cache.info("video") == fingerprinted(VIDEO, cache.table())
        assert list(cache.table()) == ["id", "path", "split", "group", "label"]
        assert list(cache.table()["group"]) == ["g"] * 6
        assert (cache.dataset, cache.root, cache.manifest_sha256) == ("toy", "/media", "00")
        expected = np.concatenate([rows(AUDIO, start, start + 2).values for start in (0, 2, 4)])
        np.testing.assert_array_equal(cache.embedding("audio"), expected.astype(np.float32))
        np.testing.assert_array_equal(cache.embedding("audio", np.array([5, 0])), expected[[5, 0]].astype(np.float32))
        assert cache.embedding("video").shape == (6, 5, 2)
        assert cache.embedding("video").dtype == np.float32
        assert cache.num_steps("audio") is None
        assert cache.num_steps("video").min() >= 1


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5),
    column=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
)
def test_any_text_survives(tmp_path_factory, values, column):
    path = tmp_path_factory.mktemp("cache") / "text.h5"
    table = pd.DataFrame({"id": [str(i) for i in range(len(values))], column if column != "id" else "x": values})
    written = ClipTable("toy", "", "", table)
    save(path, written, [])
    with Cache.open(path) as cache:
        pd.testing.assert_frame_equal(cache.table(), written.table)


def test_escaped_names_are_what_hdf5_can_hold():
    assert [escape(name) for name in ("label", "a/b", "50%", ".")] == ["label", "a%2Fb", "50%25", "%2E"]


def test_batches_change_nothing_but_their_own_rows(tmp_path):
    """A kill cannot hurt, because no byte changes outside the rows of the preallocated datasets."""
    path = tmp_path / "toy.h5"
    with open_writer(path, clip_table(), [AUDIO, VIDEO]) as writer:
        before = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        writer.write("audio", 0, rows(AUDIO, 0, 2))
        writer.write("video", 2, rows(VIDEO, 2, 4))
        after = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    assert len(before) == len(after)
    inside = np.zeros(len(before), dtype=bool)
    with h5py.File(path, "r") as file:
        for name, group in (("audio", "embeddings"), ("video", "embeddings"), ("video", "num_steps")):
            start = file[group][name].id.get_offset()
            inside[start : start + file[group][name].id.get_storage_size()] = True
        for name in ("audio", "video"):
            for group in ("present", "done", "row_crc32"):
                start = file[group][name].id.get_offset()
                inside[start : start + 6 * file[group][name].dtype.itemsize] = True
    assert (before != after).any()
    np.testing.assert_array_equal(before[~inside], after[~inside])


def test_an_unfinished_cache_is_readable_and_says_so(tmp_path):
    path = tmp_path / "toy.h5"
    with open_writer(path, clip_table(), [AUDIO]) as writer:
        writer.write("audio", 2, rows(AUDIO, 2, 4))
        with Cache.open(path) as cache:  # while it is being written
            assert not cache.complete
            assert list(cache.done("audio")) == [False, False, True, True, False, False]
    fill(path, clip_table(), AUDIO)
    fill(tmp_path / "whole.h5", clip_table(), AUDIO)
    with Cache.open(path) as resumed, Cache.open(tmp_path / "whole.h5") as whole:
        assert resumed.complete
        np.testing.assert_array_equal(resumed.embedding("audio"), whole.embedding("audio"))


def test_failures_of_interrupted_batches_are_dropped(tmp_path):
    path = tmp_path / "toy.h5"
    with open_writer(path, clip_table(), [AUDIO]) as writer:
        failed = rows(AUDIO, 0, 2)
        present = np.array([True, False])
        values = failed.values * present[:, None]
        failures = (Failure(1, "clip1", "audio", "broken"),)
        writer.write("audio", 0, replace(failed, values=values, present=present, failures=failures))
        fingerprint = writer.infos["audio"].fingerprint
        Journal(path.resolve()).append(fingerprint, [Failure(3, "clip3", "audio", "never marked done")])
    with Journal(path.resolve()).path.open("a") as file:
        file.write('{"row": 4, "id": "cl')  # the line that the kill tore
    fill(path, clip_table(), AUDIO)
    with Cache.open(path) as cache:
        assert cache.failures.to_numpy().tolist() == [["clip1", "audio", "broken"]]
    assert sorted(os.listdir(tmp_path)) == ["toy.h5"]


def test_reasons_are_those_of_the_embedding(tmp_path):
    path, other = tmp_path / "toy.h5", replace(AUDIO, name="other")
    own = [(0, "file not found"), (1, "audio: not finite"), (2, "cannot be prepared for audio: x"), (3, "other: x")]
    embedded = replace(rows(AUDIO, 0, 6), failures=tuple(Failure(i, f"clip{i}", "audio", why) for i, why in own))
    save(path, clip_table(), [(AUDIO, embedded), (other, rows(other, 0, 6))])
    with Cache.open(path) as cache:
        assert cache.reasons("audio") == {f"clip{i}": why for i, why in own[:3]}
        assert cache.reasons("other") == {f"clip{i}": why for i, why in (own[0], own[3])}


def test_leftovers_of_a_kill_are_removed(tmp_path):
    path = tmp_path / "toy.h5"
    (tmp_path / "toy.h5.tmp").write_bytes(b"half a copy")
    fill(path, clip_table(), AUDIO)
    assert sorted(os.listdir(tmp_path)) == ["toy.h5"]


def test_labels_splits_and_groups_change_without_extracting(tmp_path):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), AUDIO)
    relabeled = clip_table(label=list("abcabc"), split=["train", "test"] * 3, group=list("uvwxyz"), votes=["7"] * 6)
    with open_writer(path, relabeled, [AUDIO]) as writer:
        assert writer.done("audio").all()
        writer.finalize()
    with Cache.open(path) as cache:
        assert cache.complete
        pd.testing.assert_frame_equal(cache.table(), relabeled.table)


def test_an_encoder_is_added_to_a_complete_cache(tmp_path):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), AUDIO)
    with Cache.open(path) as cache:
        before = cache.embedding("audio")
    with open_writer(path, clip_table(), [AUDIO, VIDEO]) as writer:
        assert writer.done("audio").all()
        assert not writer.done("video").any()
    with Cache.open(path) as cache:
        assert not cache.complete
    fill(path, clip_table(), VIDEO)
    with Cache.open(path) as cache:
        assert cache.complete
        assert cache.names == ["audio", "video"]
        np.testing.assert_array_equal(cache.embedding("audio"), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"preprocessing": {"bands": 64, "pool": {"steps": 4}}},
            r"made with \(preprocessing\.bands 40\), got 64\. Pass it under another name",
        ),
        (
            {"encoder": "logmel,bands=64", "dtype": "float16"},
            r"\(encoder logmel, dtype float32\), got encoder logmel,bands=64, dtype float16",
        ),
        (  # of another spec, the rest follows
            {"encoder": "opensmile:egemaps", "weights_sha256": "ff", "preprocessing": {"level": "functionals"}},
            r"made with \(encoder logmel\), got opensmile:egemaps\. Pass it under another name to add it, or another "
            r"--out\. --overwrite replaces the whole cache\.$",
        ),
        ({"weights_sha256": "ff"}, r"\(weights_sha256 none\), got ff"),
    ],
)
def test_another_encoder_under_the_same_name_is_refused(tmp_path, change, message):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), AUDIO)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        fill(path, clip_table(), replace(AUDIO, **change))
    assert path.read_bytes() == content
    fill(path, clip_table(), replace(AUDIO, **change), overwrite=True)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (clip_table(4), "has 6 clips, the manifest 4"),
        (clip_table(path=["other.mp4"] * 6), "has another path in 6 of 6 clips, first 'clip0.mp4'"),
        (
            clip_table(start_seconds=["", "1.5", "", "", "", ""]),
            r"another start in 1 of 6 .*\(clip 'clip1'\)",
        ),
        (clip_table(audio_path=["a.wav"] * 6), "another path in 6 of 6"),
    ],
)
def test_other_clips_are_refused(tmp_path, clips, message):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), AUDIO)
    with pytest.raises(ValueError, match=message):
        fill(path, clips, VIDEO)


def test_names_keep_the_order_in_which_they_were_added(tmp_path):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), VIDEO, AUDIO)
    fill(path, clip_table(), replace(AUDIO, name="another"))
    with Cache.open(path) as cache:
        assert cache.names == ["video", "audio", "another"]
        assert cache.is_ordered


def test_a_cache_of_version_0_1_has_no_order(tmp_path):
    path = tmp_path / "toy.h5"
    shutil.copy(Path(__file__).parents[2] / "fixtures/v0_1_0/workspace/caches/imported.h5", path)
    with Cache.open(path) as cache:
        assert cache.names == ["left", "right", "above"]
        assert not cache.is_ordered


@pytest.mark.parametrize("read", [Cache.open, inspect, verify])
def test_a_cache_that_is_open_elsewhere_is_not_called_damaged(tmp_path, read):
    path = tmp_path / "toy.h5"
    fill(path, clip_table(), AUDIO)
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(
            RuntimeError, match=r"open for writing in another program.* HDF5_USE_FILE_LOCKING=FALSE"
        ) as e:
            read(path)
    finally:
        holder.communicate()
    assert "overwrite" not in str(e.value)
    assert "damaged" not in str(e.value)
    assert verify(path)["ok"]


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "toy.h5"
    with (
        open_writer(path, clip_table(), [AUDIO]),
        pytest.raises(RuntimeError, match="one extraction at a time"),
        open_writer(path, clip_table(), [AUDIO]),
    ):
        pass
    fill(path, clip_table(), AUDIO)


def test_resume_requires_a_cache(tmp_path):
    with pytest.raises(FileNotFoundError, match="--resume must be used with an existing cache"):
        fill(tmp_path / "toy.h5", clip_table(), AUDIO, resume=True)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="amr extract"):
        Cache.open(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("id,label")
    with pytest.raises(ValueError, match="cache must be an HDF5 file"):
        Cache.open(tmp_path / "text.h5")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(RuntimeError, match="must be intact, got a damaged file"):
        Cache.open(tmp_path / "cut.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(ValueError, match="must have the format amr-cache 1"):
        Cache.open(tmp_path / "other.h5")
    fill(tmp_path / "toy.h5", clip_table(), AUDIO)
    with (
        Cache.open(tmp_path / "toy.h5") as cache,
        pytest.raises(ValueError, match="embedding must be one of audio"),
    ):
        cache.embedding("video")


def test_rows_of_another_shape_are_refused(tmp_path):
    with open_writer(tmp_path / "toy.h5", clip_table(), [AUDIO]) as writer:
        with pytest.raises(ValueError, match="rows of audio must be shaped"):
            writer.write("audio", 0, rows(VIDEO, 0, 2))
        with pytest.raises(ValueError, match="end by clip 6"):
            writer.write("audio", 5, rows(AUDIO, 0, 2))


def test_the_documented_way_to_read(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[3] / "docs" / "cache-format.md").read_text()
    fill(tmp_path / "caches" / "crema-d.h5", clip_table(), AUDIO, VIDEO)
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("audio audio logmel (6, 3) {'bands': 40")
    assert lines[1].startswith("video video frames (6, 5, 2)")


def test_every_part_of_a_cache_is_documented(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "cache-format.md").read_text()
    fill(tmp_path / "toy.h5", clip_table(), AUDIO, VIDEO)
    with h5py.File(tmp_path / "toy.h5") as file:
        names = {*file, *file.attrs, *file["clips"], *file["failures"], *file["embeddings/audio"].attrs}
    assert {name for name in names if name not in text} == set()
