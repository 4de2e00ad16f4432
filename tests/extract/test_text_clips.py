"""Text as a modality of an extraction: from a column, from files, beside sound and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.data_manifests.coverage import report_on
from amr.data_manifests.manifest import read_manifest
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import inspect, verify
from amr.extract.config import ExtractConfig, ImportConfig, MergeConfig
from amr.extract.encoders import build_encoder
from amr.extract.import_embeddings import import_embeddings
from amr.extract.named_clips import named_clips
from amr.extract.pipeline.preview import cached_media, decode_media
from amr.extract.run import embed_clips, extract_embeddings
from amr.extract.shards.merge import merge_shards

TEXTS = ["bin blue now", "", "  ", 'set "red", please', "lay\ngreen", "早上好"]
SRT = "1\n00:00:00,000 --> 00:00:01,000\n<i>bin blue now</i>\n\n2\n00:00:01,000 --> 00:00:02,000\nset red\n"


def write(folder: Path, name: str, header: str, *rows: tuple[str, ...]) -> Path:
    lines = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in rows]
    (folder / name).write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return folder / name


def extract(manifest: Path, *encoders: str, **settings):
    config = {"manifest": str(manifest), "encoder": encoders, "workers": 0, "device": "cpu", "batch_size": 2}
    return extract_embeddings(ExtractConfig(**{**config, **settings}))


def hashed(text: str) -> np.ndarray:
    return build_encoder("hashing", "text").prepare.of_text(text).numpy()


@pytest.fixture
def cells(workspace: Path) -> Path:
    return write(workspace, "cells.csv", "text,label", *[(text, str(i % 2)) for i, text in enumerate(TEXTS)])


def test_cells_alone_need_no_path_and_an_empty_one_is_an_absent_clip(cells):
    result = extract(cells)
    assert (result.embedded, result.failures, result.present) == ({"text": 4}, [], 4)
    assert result.absent == {"text": ["1", "2"]}
    assert any("2 of 6 clips have no text" in note for note in result.notes)
    with Cache.open(result.cache) as cache:
        assert cache.table()["id"].tolist() == ["0", "1", "2", "3", "4", "5"]
        assert cache.table()["text"].tolist() == ["bin blue now", "", "  ", *TEXTS[3:]]
        for row in (0, 3, 4, 5):
            assert np.array_equal(cache.embedding("text")[row], hashed(TEXTS[row]))
        assert decode_media(cached_media(cache, 3), 1).text == TEXTS[3]
    assert verify(result.cache)["ok"]
    assert inspect(result.cache)["embeddings"]["text"]["modality"] == "text"


def test_files_of_text_and_of_subtitles(workspace):
    (workspace / "a.txt").write_text("\ufeffbin blue now", encoding="utf-8")
    (workspace / "a.srt").write_text(SRT)
    (workspace / "latin.txt").write_bytes(b"\xe9")
    (workspace / "empty.vtt").write_text("WEBVTT\n")
    rows = [
        ("txt", "a.txt", "", "", ""),
        ("srt", "a.srt", "", "1", ""),
        ("srt2", "a.srt", "1", "2", ""),
        ("cell", "a.srt", "", "", "set red"),
        ("latin", "latin.txt", "", "", ""),
        ("silent", "empty.vtt", "", "", ""),
        ("gone", "gone.txt", "", "", ""),
        ("none", "", "", "", ""),
    ]
    manifest = write(
        workspace, "files.csv", "id,text_path,start_seconds,end_seconds,text,label", *[(*row, "x") for row in rows]
    )
    result = extract(manifest, "text=hashing")
    assert result.embedded == {"text": 4}
    assert result.absent == {"text": ["silent", "none"]}
    reasons = {failure["id"]: failure["reason"] for failure in result.failures}
    assert reasons["gone"].startswith("file not found: ")
    assert reasons["latin"].startswith("the text cannot be read: a text file must be UTF-8, got byte 0xe9")
    with Cache.open(result.cache) as cache:
        values = cache.embedding("text")
    assert [np.array_equal(values[row], hashed(text)) for row, text in enumerate(["bin blue now"] * 2)] == [True, True]
    assert np.array_equal(values[2], hashed("set red"))
    assert np.array_equal(values[2], values[3])


def test_text_files_in_path_hold_text_alone(workspace):
    (workspace / "a.txt").write_text("bin blue now")
    manifest = write(workspace, "paths.csv", "path,label", ("a.txt", "x"))
    result = extract(manifest)
    assert result.embedded == {"text": 1}  # the preset has no encoder for what is not there
    result = extract(manifest, "audio=logmel", "text=hashing", out="both")
    assert result.absent == {"audio": ["a"], "text": []}
    assert result.failures == []


def test_three_modalities_of_one_clip_in_one_command(workspace):
    render(SyntheticConfig(num_classes=2, num_clips=8, train_share=0.5, val_share=0.25), workspace / "clips")
    table = read_manifest(workspace / "clips/manifest.csv").table
    rows = [
        (f"clips/{path}", label, f"this is {label}") for path, label in zip(table["path"], table["label"], strict=True)
    ]
    manifest = write(workspace, "three.csv", "path,label,text", *rows)
    result = extract(manifest, "text=hashing,buckets=64", "audio=logmel", "video=frames")
    assert result.embedded == {"text": 8, "audio": 8, "video": 8}
    assert result.failures == []
    preset = extract(manifest, out="preset")
    assert list(preset.embedded) == ["audio", "video", "text"]
    report = report_on(read_manifest(manifest))
    assert report.found == {"audio": 8, "video": 8, "text": 8}


def test_another_text_is_another_clip_but_another_label_is_not(cells):
    first = extract(cells)
    changed = [("bin blue soon" if i == 0 else text, str(i % 2)) for i, text in enumerate(TEXTS)]
    write(cells.parent, "cells.csv", "text,label", *changed)
    with pytest.raises(
        ValueError, match=r"another text in 1 of 6 clips, first 'bin blue now' where .* 'bin blue soon'"
    ):
        extract(cells)
    write(cells.parent, "cells.csv", "text,label", *[(text, str(i)) for i, text in enumerate(TEXTS)])
    again = extract(cells)
    assert again.extracted == 0
    with Cache.open(first.cache) as cache:
        assert cache.table()["label"].tolist() == list("012345")


def test_a_resumed_extraction_and_merged_shards_are_one_extraction(cells, monkeypatch):
    whole = extract(cells, out="whole")
    real = build_encoder("hashing", "text")

    def failing(inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(real), "embed", lambda self, inputs: failing(inputs) if len(inputs) == 1 else list(inputs))
    with pytest.raises(KeyboardInterrupt):
        extract(cells, out="resumed")
    monkeypatch.undo()
    monkeypatch.setenv("AMR_HOME", str(cells.parent))
    resumed = extract(cells, out="resumed")
    shards = [extract(cells, shard=f"{i}/2").cache for i in (1, 2)]
    merged = merge_shards(MergeConfig(tuple(map(str, shards)), out="merged"))
    contents = []
    for path in (whole.cache, resumed.cache, merged.cache):
        assert verify(path)["ok"]
        with Cache.open(path) as cache:
            contents.append((cache.embedding("text"), cache.info("text").fingerprint, cache.table()))
    for values, fingerprint, table in contents[1:]:
        assert np.array_equal(values, contents[0][0])
        assert fingerprint == contents[0][1]
        assert table.equals(contents[0][2])


def test_imported_embeddings_keep_a_column_of_texts_and_get_an_encoder_of_text(workspace, cells):
    np.save(workspace / "audio.npy", np.ones((6, 3), np.float32))
    columns = write(workspace, "columns.csv", "id,text,label", *[(str(i), t, "ab"[i % 2]) for i, t in enumerate(TEXTS)])
    config = ImportConfig(
        embeddings=(f"text={workspace / 'audio.npy'}",), columns=str(columns), out=str(workspace / "mine.h5")
    )
    import_embeddings(config)
    with Cache.open(workspace / "mine.h5") as cache:
        before = cache.info("text").fingerprint
        assert decode_media(cached_media(cache, 0), 1).text == "bin blue now"
    import_embeddings(replace(config, columns=None, labels=f"{columns}:label", out=str(workspace / "bare.h5")))
    with Cache.open(workspace / "bare.h5") as cache:
        assert cache.info("text").fingerprint == before  # no text shaped it
    result = extract(columns, "words=hashing", out=str(workspace / "mine.h5"))
    assert result.embedded == {"words": 4}
    assert verify(workspace / "mine.h5")["ok"]


def test_an_encoder_of_text_without_any_text_is_refused(workspace):
    manifest = write(workspace, "none.csv", "path,label", ("a.mp4", "x"))
    (workspace / "a.mp4").touch()
    with pytest.raises(ValueError, match=r"must be used with clips that have text, got none in none.csv. Add a column"):
        extract(manifest, "text=hashing")


def test_a_column_of_labels_is_no_text(workspace):
    render(SyntheticConfig(num_classes=2, num_clips=8, train_share=0.5, val_share=0.25), workspace / "clips")
    table = read_manifest(workspace / "clips/manifest.csv").table
    rows = [(f"clips/{path}", label) for path, label in zip(table["path"], table["label"], strict=True)]
    manifest = write(workspace, "labels.csv", "path,text", *rows)
    assert list(extract(manifest, label_column="text").embedded) == ["audio", "video"]
    with pytest.raises(ValueError, match="--label-column must be another column where text is embedded, got text"):
        extract(manifest, "text=hashing", label_column="text", out="text")


def test_a_note_for_a_name_of_another_modality(cells):
    notes = extract(cells, "video=hashing").notes
    assert any("the embedding video is made from text: hashing reads text only" in note for note in notes)


def test_clips_named_on_the_command_line(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    Path("new").mkdir()
    for name in ("a.mp4", "a.srt", "b.txt", "c.wav"):
        Path("new", name).write_text("x")
    kinds = ("audio", "text", "video")
    clips = {
        clip.name: {m: path and path.name for m, path in clip.files.paths.items()}
        for clip in named_clips(["new"], kinds)
    }
    assert clips == {
        "new/a.mp4": {"audio": "a.mp4", "text": "a.srt", "video": "a.mp4"},
        "new/b.txt": {"audio": None, "text": "b.txt", "video": None},
        "new/c.wav": {"audio": "c.wav", "text": None, "video": None},
    }
    assert [clip.name for clip in named_clips(["new"])] == ["new/a.mp4", "new/c.wav"]
    (note,) = named_clips(["new/b.txt"], kinds)
    assert note.files.paths == {"audio": None, "text": Path("new/b.txt"), "video": None}
    write(workspace, "texts.csv", "id,text", ("x", "hello"), ("y", ""))
    hello, nothing = named_clips(["texts.csv"], kinds)
    assert (hello.name, hello.files.text) == ("x", "hello")
    assert (nothing.files, nothing.problem) == (None, "the row has no path and no text")
    assert [clip.problem for clip in named_clips(["texts.csv"])] == ["no such file", "no such file"]  # ids


def test_sound_of_clips_that_are_only_text_is_refused_before_a_cache_is_written(workspace):
    manifest = write(workspace, "said.csv", "id,text,label", ("x", "hello", "a"), ("y", "", "b"))
    advice = r"Add a column path or audio_path with the file of each clip, or pass --encoder text=hashing\."
    with pytest.raises(ValueError, match=rf"have audio, got none in said\.csv\. {advice}"):
        extract(manifest, "audio=logmel", out=str(workspace / "q.h5"))
    assert not (workspace / "q.h5").exists()


def test_files_in_memory(workspace):
    (workspace / "a.txt").write_text("bin blue now")
    (info, rows) = embed_clips(workspace / "a.txt", {"text": "hashing"}, device="cpu", workers=0)["text"]
    assert info.modality == "text"
    assert torch.equal(torch.from_numpy(rows.values[0]), torch.from_numpy(hashed("bin blue now")))
