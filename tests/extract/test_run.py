from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imsave

from amr.common.progress import Progress
from amr.console.progress import LineProgress
from amr.data_manifests.dataset import PRESETS
from amr.extract import request
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.cache.writer import CacheWriter, Embedded
from amr.extract.config import ExtractConfig, ImportConfig
from amr.extract.encoders import Encoder, Prepare, registry
from amr.extract.import_embeddings import import_embeddings
from amr.extract.pipeline import load as loading
from amr.extract.pipeline import workers
from amr.extract.pipeline.background import BackgroundWriter
from amr.extract.pipeline.load import Loaded
from amr.extract.request import read_request
from amr.extract.run import embed_clips, extract_embeddings

NUM_CLIPS = 10


class FirstSamples(Prepare):
    sample_rate_hz = 8000

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(media[:4].copy())


class Fake(Encoder):
    """The first four samples of a clip, changed by `spoil`."""

    modality, embed_dim, max_steps = "audio", 4, None

    def __init__(self, spec: str, prepare: Prepare | None = None, spoil=None) -> None:
        self.spec = spec
        self.preprocessing = {"name": spec}
        self.prepare = prepare or FirstSamples()
        self.spoil = spoil or (lambda inputs: inputs)
        self.num_embedded = 0

    def embed(self, inputs):
        self.num_embedded += len(inputs)
        return list(self.spoil(list(inputs)))


@pytest.fixture
def fakes(monkeypatch):
    """Encoders by spec that `extract` finds instead of real ones."""
    known: dict[str, Encoder] = {}

    def build(spec: str, name: str) -> Encoder:
        return known.setdefault(spec, known.get(spec) or Fake(spec))

    monkeypatch.setattr(registry, "build_encoder", build)
    return known


def write_sound(path: Path, value: int, num_samples: int = 400) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(num_samples, value * 256, dtype="<i2").tobytes())


@pytest.fixture
def sounds(tmp_path):
    """Ten sounds and their manifest; clip i holds the value i / 128."""
    for i in range(NUM_CLIPS):
        write_sound(tmp_path / f"{i}.wav", i)
    rows = [f"{i}.wav,{i % 2},{'train' if i < 8 else 'test'}" for i in range(NUM_CLIPS)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split", *rows]))
    return ExtractConfig(
        manifest=str(tmp_path / "clips.csv"),
        encoder=("a=first",),
        out=str(tmp_path / "cache.h5"),
        batch_size=4,
        workers=0,
        device="cpu",
    )


def read(config: ExtractConfig, name: str = "a") -> np.ndarray:
    assert verify(Path(str(config.out)))["problems"] == []
    with Cache.open(Path(str(config.out))) as cache:
        return cache.embedding(name)


def expected_rows() -> np.ndarray:
    return np.repeat(np.arange(NUM_CLIPS, dtype=np.float32)[:, None] / 128, 4, axis=1)


def test_rows_are_in_the_order_of_the_manifest(sounds, fakes):
    result = extract_embeddings(sounds)
    np.testing.assert_allclose(read(sounds), expected_rows())
    assert result.to_json() | {"seconds": 0, "clips_per_second": 0} == {
        "cache": str(sounds.out),
        "clips": 10,
        "present": 10,
        "embedded": {"a": 10},
        "failed": 0,
        "seconds": 0,
        "clips_per_second": 0,
        "extracted": 10,
        "absent": {"audio": []},
        "failures": [],
        "notes": [],
    }
    assert any(result.embedded.values())
    with Cache.open(Path(str(sounds.out))) as cache:
        assert (cache.dataset, cache.root) == ("clips", str(Path(str(sounds.manifest)).parent))
        assert list(cache.table()["split"]) == ["train"] * 8 + ["test"] * 2


def test_workers_give_what_one_process_gives(sounds):
    config = replace(sounds, encoder=("a=logmel", "steps=logmel,keep=steps"))
    extract_embeddings(config)
    parallel = replace(config, workers=2, out=f"{config.out}2.h5")
    extract_embeddings(parallel)
    for name in ("a", "steps"):
        np.testing.assert_array_equal(read(config, name), read(parallel, name))


def test_each_file_is_decoded_once(sounds, monkeypatch, calls):
    def counting(path, **requested):
        calls.add(path.name, len(requested["samplings"]), len(requested["sample_rates_hz"]))
        return real(path, **requested)

    real = loading.decode
    monkeypatch.setattr(loading, "decode", counting)
    names = ("a=logmel", "b=logmel,sample_rate=8000", "c=logmel,bands=20", "d=frames", "e=frames,frames=3")
    extract_embeddings(replace(sounds, encoder=names))
    assert calls.all() == [(f"{i}.wav", 2, 2) for i in range(NUM_CLIPS)]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_nothing_is_decoded_in_this_process(sounds, monkeypatch, calls, num_workers):
    real = loading.decode
    monkeypatch.setattr(loading, "decode", lambda path, **options: calls.add(os.getpid()) or real(path, **options))
    extract_embeddings(replace(sounds, encoder=("a=logmel",), workers=num_workers))
    embed_clips([Path(str(sounds.manifest)).parent / "0.wav"], {"a": "logmel"}, workers=num_workers)
    assert len(calls.all()) == NUM_CLIPS + 1
    assert (os.getpid(),) not in calls.all()


def test_without_workers_no_clip_is_loaded_before_it_is_needed(sounds, monkeypatch, calls, fakes):
    real = loading.decode
    monkeypatch.setattr(loading, "decode", lambda path, **options: calls.add(path.name) or real(path, **options))
    seen = []
    fakes["first"] = Fake("first", spoil=lambda inputs: seen.append(len(calls.all())) or inputs)
    extract_embeddings(sounds)
    assert seen == [4, 8, 10]


def test_an_interrupted_extraction_continues(sounds, fakes):
    def break_off(inputs):
        if inputs[0][0] > 3 / 128:
            raise KeyboardInterrupt
        return inputs

    fakes["first"] = Fake("first", spoil=break_off)
    with pytest.raises(KeyboardInterrupt):
        extract_embeddings(sounds)
    with Cache.open(Path(str(sounds.out))) as cache:
        assert list(cache.done("a")) == [True] * 4 + [False] * 6
    fakes["first"] = Fake("first")
    result = extract_embeddings(replace(sounds, resume=True))
    assert result.extracted == 6
    assert fakes["first"].num_embedded == 6
    assert result.embedded == {"a": 10}
    np.testing.assert_allclose(read(sounds), expected_rows())


def test_encoders_are_added_and_labels_refreshed(sounds, fakes):
    extract_embeddings(sounds)
    manifest = Path(str(sounds.manifest))
    manifest.write_text(manifest.read_text().replace(",0,", ",zero,"))
    result = extract_embeddings(replace(sounds, encoder=("a=first", "b=second")))
    assert (fakes["first"].num_embedded, fakes["second"].num_embedded) == (10, 10)
    assert result.embedded == {"a": 10, "b": 10}
    with Cache.open(Path(str(sounds.out))) as cache:
        assert set(cache.table()["label"]) == {"zero", "1"}
    assert extract_embeddings(sounds).extracted == 0
    with pytest.raises(ValueError, match=r"--encoder a must be the one the cache was made with \(encoder first"):
        extract_embeddings(replace(sounds, encoder=("a=second",)))
    assert extract_embeddings(replace(sounds, encoder=("a=second",), overwrite=True)).extracted == 10


def test_columns_are_added_without_extracting(sounds, fakes):
    extract_embeddings(sounds)
    csv = Path(str(sounds.manifest))
    header, *rows = csv.read_text().splitlines()
    csv.write_text("\n".join([f"{header},votes_voice_x", *(f"{row},3" for row in rows)]))
    assert extract_embeddings(sounds).extracted == 0
    with Cache.open(Path(str(sounds.out))) as cache:
        assert set(cache.table()["votes_voice_x"]) == {"3"}


def test_absent_failed_and_missing_clips_are_distinguished(sounds, tmp_path):
    (tmp_path / "0.wav").write_bytes(b"not a sound")
    (tmp_path / "1.wav").unlink()
    result = extract_embeddings(replace(sounds, encoder=("audio=logmel", "video=frames")))
    reasons = {(failure["id"], failure["modality"]): failure["reason"] for failure in result.failures}
    assert set(reasons) == {(id_, modality) for id_ in "01" for modality in ("audio", "video")}
    assert reasons["1", "audio"].startswith("file not found: ")
    assert result.failed == 4
    assert result.absent == {"audio": [], "video": [str(i) for i in range(2, NUM_CLIPS)]}
    assert result.embedded == {"audio": 8, "video": 0}
    assert any(result.embedded.values())


def test_missing_clips_lead_and_only_decoded_ones_count(sounds, fakes, tmp_path, monkeypatch, calls):
    for i in range(NUM_CLIPS):
        (tmp_path / f"{i}.wav").unlink() if i != 7 else None
    real = loading.decode
    monkeypatch.setattr(loading, "decode", lambda path, **options: calls.add(path.name) or real(path, **options))
    progress = Progress()
    said, advanced = [], []
    progress.note = said.append
    progress.start = lambda total, done=0, unit="clips": said.append((total, done))
    progress.advance = lambda amount, failures=0: advanced.append(amount)
    result = extract_embeddings(sounds, progress)
    assert calls.all() == [("7.wav",)]
    assert said == [
        f"9 of 10 clips have no file in {tmp_path}: not embedded. amr inspect lists them.",
        (1, 0),
    ]
    assert sum(advanced) == 1
    assert (result.clips, result.present, result.extracted, result.failed) == (10, 1, 1, 9)
    assert next(iter(result.summary().items())) == ("present", "1 of 10 clips")
    assert result.failures[0] == {
        "id": "0",
        "modality": "audio",
        "reason": f"file not found: {tmp_path / '0.wav'}",
    }
    assert "clips" not in result.summary(), "it is said once"
    np.testing.assert_allclose(read(sounds)[7], expected_rows()[7])
    again = extract_embeddings(sounds, progress)
    assert (again.extracted, said[-1]) == (0, (1, 1))


def test_15446_absent_clips_are_written_in_few_blocks(workspace, fakes, monkeypatch):
    write_sound(workspace / "glLQrEijrKg_000300.wav", 5)
    written = []
    put = BackgroundWriter.put
    monkeypatch.setattr(BackgroundWriter, "put", lambda self, *row: written.append(row[1]) or put(self, *row))
    config = ExtractConfig(
        dataset="vggsound", root=str(workspace), encoder=("a=first",), out=str(workspace / "o.h5"), workers=0
    )
    result = extract_embeddings(config)
    assert (result.clips, result.present, result.embedded) == (15446, 1, {"a": 1})
    assert len(result.absent["audio"]) == 15445
    assert written == [0, 32]
    assert verify(workspace / "o.h5")["problems"] == []


def test_notes_on_the_manifest_are_said(sounds, fakes, tmp_path):
    rows = [f"{i}.wav,{i % 2},{'train' if i < 8 else 'test'},ann" for i in range(NUM_CLIPS)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split,group", *rows]))
    progress = Progress()
    said = []
    progress.note = said.append
    extract_embeddings(sounds, progress)
    assert said[0].startswith("split: 1 of 1 groups has clips in more than one of train, val and test")


def test_absolute_and_backslashed_paths_are_embedded(sounds, fakes, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "list").mkdir()
    write_sound(tmp_path / "sub" / "x.wav", 3)
    (tmp_path / "list" / "clips.csv").write_text(f"path,label\n{tmp_path}/5.wav,a\n..\\sub\\x.wav,b\n")
    with pytest.raises(
        ValueError, match=r"path must stay inside the root, got '\.\./sub/x\.wav'.*write an absolute path"
    ):
        extract_embeddings(replace(sounds, manifest=str(tmp_path / "list" / "clips.csv")))
    config = replace(sounds, manifest=str(tmp_path / "list" / "clips.csv"), root=str(tmp_path / "list"))
    (tmp_path / "list" / "clips.csv").write_text(f"path,label\n{tmp_path}/5.wav,a\n{tmp_path}/sub/x.wav,b\n")
    extract_embeddings(config)
    np.testing.assert_allclose(read(sounds)[:, 0] * 128, [5, 3])


def test_nothing_embedded_is_not_ok(sounds, fakes, tmp_path):
    for i in range(NUM_CLIPS):
        (tmp_path / f"{i}.wav").write_bytes(b"")
    assert not any(extract_embeddings(sounds).embedded.values())


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (float("nan"), "float32", "a: the embedding is not finite"),
        (float("inf"), "float16", "a: the embedding is not finite"),
        (1e6, "float16", "a: a value of 1e+06 does not fit into float16; pass --dtype float32"),
    ],
)
def test_values_that_cannot_be_stored_are_failures(sounds, fakes, value, dtype, reason):
    def spoil(inputs):
        return [torch.full_like(x, value) if x[0] == 3 / 128 else x for x in inputs]

    fakes["first"] = Fake("first", spoil=spoil)
    result = extract_embeddings(replace(sounds, dtype=dtype))
    assert result.failures == [{"id": "3", "modality": "audio", "reason": reason}]
    assert not read(sounds)[3].any()


def test_a_clip_that_the_encoder_refuses_spoils_no_other(sounds, fakes):
    def refuse(inputs):
        if any(x[0] == 3 / 128 for x in inputs):
            raise RuntimeError("too short\nand more")
        return inputs

    fakes["first"] = Fake("first", spoil=refuse)
    result = extract_embeddings(sounds)
    assert result.failures == [{"id": "3", "modality": "audio", "reason": "a: RuntimeError: too short"}]
    assert result.embedded == {"a": 9}

    def broken(inputs):
        raise RuntimeError("no kernel")

    fakes["first"] = Fake("first", spoil=broken)
    with pytest.raises(RuntimeError, match=r"encoder first must embed some clip of a batch.*no kernel"):
        extract_embeddings(replace(sounds, overwrite=True))


class Deadly(FirstSamples):
    def __call__(self, media: np.ndarray) -> torch.Tensor:
        if media[0] == 5 / 128:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(media)


def test_a_clip_that_kills_its_worker_is_named_and_the_others_are_embedded(sounds, fakes):
    fakes["first"] = Fake("first", prepare=Deadly())
    result = extract_embeddings(replace(sounds, workers=2))
    assert result.failures == [{"id": "5", "modality": "audio", "reason": "decoding it kills the process (SIGKILL)"}]
    rows = read(sounds)
    np.testing.assert_allclose(np.delete(rows, 5, axis=0), np.delete(expected_rows(), 5, axis=0))


def test_workers_that_keep_dying_end_the_extraction(sounds, fakes, monkeypatch, tmp_path):
    fakes["first"] = Fake("first", prepare=Deadly())
    monkeypatch.setattr(workers, "_load_apart", lambda clips, task: Loaded())
    for i in range(NUM_CLIPS):
        write_sound(tmp_path / f"{i}.wav", 5 if i > 4 else i)
    with pytest.raises(RuntimeError, match=r"workers must stay alive, got 3 killed.*SIGKILL.*Pass fewer --workers"):
        extract_embeddings(replace(sounds, workers=1))
    with Cache.open(Path(str(sounds.out))) as cache:
        assert list(cache.done("a")) == [True] * 4 + [False] * 6


def test_errors_of_writing_are_raised(tmp_path):
    class Broken:
        def write(self, name, start, batch):
            raise OSError("disk is gone")

    def write_all():
        with BackgroundWriter(Broken(), max_waiting=1) as background:
            for _ in range(10):
                background.put("a", 0, Embedded(np.zeros((1, 2)), np.ones(1, bool)), 1)

    with pytest.raises(OSError, match="disk is gone"):
        write_all()


def test_absent_rows_cost_no_looks_no_tasks_and_no_writes_of_their_own(tmp_path, monkeypatch):
    present = [7, 300, 301, 990]
    (tmp_path / "clips").mkdir()
    for row in present:
        write_sound(tmp_path / "clips" / f"{row}.wav", 1)
    rows = [f"clips/{row}.wav,x" for row in range(1000)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    config = ExtractConfig(
        manifest=str(tmp_path / "list.csv"), encoder=("a=logmel",), out=str(tmp_path / "a.h5"), workers=0
    )
    looks, writes, tasks = [], [], []
    write, decode, stat, scandir = CacheWriter.write, workers.ClipLoader._decode, os.stat, os.scandir
    monkeypatch.setattr(CacheWriter, "write", lambda *args: writes.append(args[2]) or write(*args))
    monkeypatch.setattr(workers.ClipLoader, "_decode", lambda *args: tasks.extend(args[1]) or decode(*args))
    clips = str(tmp_path / "clips")
    monkeypatch.setattr(os, "stat", lambda path, **more: looks.append(str(path)) or stat(path, **more))
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(str(path)) or scandir(path))
    result = extract_embeddings(config)
    assert [path for path in looks if path.startswith(clips)] == [clips]
    assert [task.row for task in tasks] == present
    assert len(writes) == 1
    assert (result.present, result.embedded) == (4, {"a": 4})
    assert len(result.failures) == 996
    assert result.failures[0]["reason"] == f"file not found: {tmp_path / 'clips' / '0.wav'}"


def test_embedding_in_memory_is_what_a_cache_holds(sounds):
    config = replace(sounds, encoder=("a=logmel", "v=frames"))
    extract_embeddings(config)
    paths = [Path(str(sounds.manifest)).parent / f"{i}.wav" for i in range(NUM_CLIPS)]
    rows = embed_clips(paths, {"a": "logmel", "v": "frames"}, batch_size=4, device="cpu", workers=0)
    info, sound = rows["a"]
    np.testing.assert_array_equal(sound.values, read(config))
    assert info.encoder == "logmel"
    assert sound.present.all()
    assert not rows["v"][1].present.any()
    (_, one) = embed_clips(str(paths[3]), {"a": "logmel"}, device="cpu", workers=0)["a"]
    np.testing.assert_array_equal(one.values, sound.values[3:4])
    with pytest.raises(FileNotFoundError, match="clip must be an existing file"):
        embed_clips([Path("absent.wav")], {"a": "logmel"})


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_more_workers_than_cores_or_clips_are_not_started(sounds, monkeypatch, recwarn):
    started = []

    class Counted(workers._Worker):
        def __init__(self, *args) -> None:
            started.append(args)
            super().__init__(*args)

    monkeypatch.setattr(workers, "_Worker", Counted)
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    progress = Notes()
    extract_embeddings(replace(sounds, encoder=("a=logmel",), workers=1000), progress)
    assert (len(started), list(recwarn)) == (2, [])
    assert progress.notes == ["--workers 1000: 2 are used, because there are 2 cores"]
    monkeypatch.setattr(workers, "available_cores", lambda: 64)
    assert workers.useful_workers(60, 10, progress) == 10
    assert [workers.useful_workers(*each, progress) for each in ((None, 10), (0, 10), (8, 10), (8, 0))] == [10, 0, 8, 0]
    assert len(progress.notes) == 1


def test_an_embedding_named_like_another_modality_is_noted(sounds):
    progress = Notes()
    result = extract_embeddings(replace(sounds, encoder=("audio=frames", "video=logmel", "mine=logmel")), progress)
    assert result.notes == progress.notes
    assert result.notes == [
        "the embedding audio is made from video: frames reads video only. If that is not meant, pass "
        "--encoder video=frames.",
        "the embedding video is made from audio: logmel reads audio only. If that is not meant, pass "
        "--encoder audio=logmel.",
    ]


def test_the_summary_holds_what_says_something(sounds, fakes):
    first = extract_embeddings(sounds).summary()
    assert list(first) == [
        "cache",
        "clips",
        "present",
        "embedded",
        "failed",
        "seconds",
        "clips_per_second",
        "extracted",
    ]
    assert (first["failed"], first["extracted"]) == (0, 10)
    assert "clips_per_second" not in extract_embeddings(sounds).summary()
    Path(str(sounds.manifest)).write_text("id,path,label\na,0.wav,x\nb,,y\nc,absent.wav,x\n", "utf-8")
    summary = extract_embeddings(replace(sounds, overwrite=True)).summary()
    assert (summary["without_any"], "absent" in summary) == (1, False)
    assert len(summary["failures"]) == 1


def test_advice_about_missing_media_keeps_the_root(workspace, tmp_path):
    (tmp_path / "my lfs").mkdir()
    command = "amr manifest --dataset crema-d --root '.*/my lfs'"
    with pytest.raises(ValueError, match=rf"none of its 7442 clips\. See {command}\."):
        extract_embeddings(ExtractConfig(dataset="crema-d", root=tmp_path / "my lfs", encoder="a=logmel"))
    write_sound(tmp_path / "my lfs" / "1001_DFA_ANG_XX.wav", 5)
    result = extract_embeddings(
        ExtractConfig(dataset="crema-d", root=tmp_path / "my lfs", encoder="a=logmel", workers=0, device="cpu")
    )
    assert re.search(rf"7,441 of 7,442 clips have no file in .* {command} lists them", result.notes[0])


def test_python_types_of_every_kind_are_accepted(sounds):
    config = ExtractConfig(
        manifest=Path(str(sounds.manifest)),
        encoder={"a": "logmel"},
        out=Path(str(sounds.out)),
        batch_size=np.int64(4),
        workers=np.int32(0),
        device="cpu",
    )
    assert config == replace(sounds, encoder=("a=logmel",))
    assert extract_embeddings(config).embedded == {"a": 10}
    assert ExtractConfig(manifest="x.csv", encoder=["a=logmel", "v=frames"]).encoders == {"a": "logmel", "v": "frames"}
    with pytest.raises(ValueError, match="--batch-size must be a whole number"):
        ExtractConfig(manifest="x.csv", batch_size=2.5)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_cache_is_as_readable_as_the_umask_says(sounds, fakes, umask, mode):
    before = os.umask(umask)
    try:
        extract_embeddings(sounds)
        extract_embeddings(replace(sounds, encoder=("a=first", "b=second")))  # written to a copy
    finally:
        os.umask(before)
    assert Path(str(sounds.out)).stat().st_mode & 0o777 == mode


def test_a_name_is_one_in_the_workspace_and_an_h5_file_is_where_it_says(sounds, fakes, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    found = [extract_embeddings(replace(sounds, out=out)).cache for out in ("mine", "o.h5", "./other", None)]
    assert found == [workspace / "caches" / "mine.h5", Path("o.h5"), Path("other"), workspace / "caches" / "clips.h5"]
    assert all(path.is_file() for path in found)


def test_a_cache_that_its_name_does_not_find_is_noted(sounds, fakes):
    out = str(sounds.out).replace(".h5", ".txt")
    assert extract_embeddings(replace(sounds, out=out)).notes == [
        f"--out {out} does not end with .h5: the cache is found by its path only, not by its name"
    ]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "1.wav/x.h5",
            r"--out must be a place that can be written to, got '.*1\.wav' \(Not a directory\)\. Pass --out",
        ),
        (
            "/proc/x.h5",
            r"--out must be a place that can be written to, got '/proc' .*\. Pass --out with a cache",
        ),
        ("folder", r"--out must be a file, got the folder '.*folder'\. Pass --out .*folder/NAME\.h5\."),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_first(sounds, fakes, tmp_path, out, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=message):
        extract_embeddings(replace(sounds, encoder=("a=nosuch",), out=str(tmp_path / out)))
    (tmp_path / "a.npy").touch()  # is not read
    with pytest.raises(ValueError, match=message):
        import_embeddings(
            ImportConfig((f"a={tmp_path / 'a.npy'}",), labels=str(tmp_path / "a.npy"), out=str(tmp_path / out))
        )


def test_presets(sounds, tmp_path):
    notes = []
    progress = Progress()
    progress.note = notes.append
    result = extract_embeddings(replace(sounds, encoder=()), progress)
    assert result.embedded == {"audio": 10, "video": 0}
    assert "--preset pretrained is usually better (audio=timm:conv" in notes[0]
    only = tmp_path / "only.csv"
    only.write_text("id,audio_path,label\na,1.wav,x\n")
    result = extract_embeddings(replace(sounds, encoder=(), manifest=str(only), out=str(tmp_path / "o.h5")), progress)
    assert result.embedded == {"audio": 1}


@pytest.mark.parametrize("preset", ["emotion", "sound-events", "actions", "pretrained"])
def test_a_preset_of_a_task_is_its_pair(sounds, preset, monkeypatch):
    built = {}
    monkeypatch.setattr(request, "build_encoder", lambda spec, name: built.setdefault(name, Fake(spec)))
    task = "sound-events" if preset == "pretrained" else preset
    read_request(replace(sounds, encoder=(), preset=preset), Progress())
    assert {name: encoder.spec for name, encoder in built.items()} == PRESETS[task]


def test_progress_in_lines(sounds, fakes):
    stream = io.StringIO()
    extract_embeddings(sounds, LineProgress(stream, seconds_between=0))
    lines = stream.getvalue().splitlines()
    assert [line.split(" clips")[0] for line in lines] == ["4/10", "8/10", "10/10"]
    assert lines[-1].endswith("0:00 left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "must have one of --dataset and --manifest, got neither"),
        ({"dataset": "x", "manifest": "y"}, "got --dataset x and --manifest y"),
        ({"dataset": "x", "label_column": "emotion"}, "--label-column must be used with --manifest, got --dataset x"),
        ({"dataset": "x", "batch_size": 0}, "--batch-size must be 1 or more, got 0"),
        ({"dataset": "x", "workers": -1}, "--workers must be 0 or more, got -1"),
        ({"dataset": "x", "clip_timeout": 0}, "--clip-timeout must be above 0 and at most 1000000, got 0"),
        ({"dataset": "x", "clip_timeout": -5.0}, "--clip-timeout must be above 0"),
        ({"dataset": "x", "clip_timeout": float("inf")}, "--clip-timeout must be above 0"),
        ({"dataset": "x", "dtype": "float61"}, r"--dtype must be one of float32, float16.*Did you mean float16\?"),
        ({"dataset": "x", "encoder": ("logmel",)}, r"--encoder must be NAME=SPEC, got 'logmel'\. Pass --encoder"),
        ({"dataset": "x", "encoder": ("a/b=logmel",)}, "--encoder NAME must be letters, digits"),
        ({"dataset": "x", "encoder": ("a=logmel", "a=frames")}, "must name each embedding once, got a for logmel"),
        ({"dataset": "x", "encoder": ("a=logmel",), "preset": "weightless"}, "--preset must be used without --encoder"),
        ({"dataset": "x", "resume": True, "overwrite": True}, "--resume must be used without --overwrite"),
    ],
)
def test_wrong_requests(options, message):
    with pytest.raises(ValueError, match=message):
        ExtractConfig(**options)


def test_options_are_read_without_torch():
    code = "import sys, amr.extract.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_real_vggsound(test_data, tmp_path):
    config = ExtractConfig(
        manifest=str(test_data / "vggsound" / "labels.csv"),
        root=str(test_data / "vggsound"),
        allow_unlabelled=True,
        encoder=("audio=logmel", "video=frames"),
        out=str(tmp_path / "vggsound.h5"),
    )
    assert extract_embeddings(config).embedded == {"audio": 14, "video": 14}


def test_the_real_crema_d(test_data, tmp_path):
    config = ExtractConfig(
        dataset="crema-d", root=str(test_data / "cremad"), out=str(tmp_path / "crema-d.h5"), batch_size=512
    )
    result = extract_embeddings(config)
    assert result.clips == 7442
    assert result.embedded == {"audio": 18, "video": 6}
    assert result.failed == 0


def test_messy_folder(test_data, tmp_path):
    clip = next((test_data / "grid" / "clips").glob("*.mp4")).read_bytes()
    strange = "with 'quotes\" & spaces ü€.mp4"
    for name, content in {
        strange: clip,
        "cut.mp4": clip[: len(clip) // 2],
        "empty.mp4": b"",
        "text.mp4": b"hello\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    write_sound(tmp_path / "sound.wav", 7, 8000)
    imsave(tmp_path / "picture.png", np.full((32, 32, 3), 128, dtype=np.uint8))
    names = [strange, "cut.mp4", "empty.mp4", "text.mp4", "sound.wav", "picture.png", "absent.mp4"]
    quoted = ['"' + name.replace('"', '""') + '",x' for name in names]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *quoted]))
    out = tmp_path / "messy.h5"
    result = extract_embeddings(ExtractConfig(manifest=str(tmp_path / "clips.csv"), out=str(out)))
    assert result.embedded == {"audio": 2, "video": 2}
    assert result.absent == {"audio": ["picture"], "video": ["sound"]}
    bad = ("cut", "empty", "text", "absent")
    assert {(each["id"], each["modality"]) for each in result.failures} == {
        (id_, modality) for id_ in bad for modality in ("audio", "video")
    }
    assert result.failed == 8
    assert verify(out)["problems"] == []


def test_a_disk_that_is_not_mounted_is_refused_before_anything_is_written(sounds, fakes, tmp_path):
    for i in range(NUM_CLIPS):
        (tmp_path / f"{i}.wav").rename(tmp_path / f"{i}.away")
    with pytest.raises(ValueError, match=r"--manifest must name files that exist, got none of its 10 clips"):
        extract_embeddings(sounds)
    assert not Path(sounds.out).exists()
    for i in range(NUM_CLIPS):
        (tmp_path / f"{i}.away").rename(tmp_path / f"{i}.wav")
    assert extract_embeddings(sounds).present == NUM_CLIPS


def test_resume_tries_failed_clips_again(sounds, fakes, tmp_path):
    whole = replace(sounds, encoder=("a=first", "b=second"), out=str(tmp_path / "whole.h5"))
    extract_embeddings(whole)
    (tmp_path / "3.wav").rename(tmp_path / "3.away")
    content = (tmp_path / "5.wav").read_bytes()
    (tmp_path / "5.wav").write_bytes(b"broken")
    config = replace(whole, out=str(tmp_path / "part.h5"))
    assert extract_embeddings(config).failed == 2
    (tmp_path / "3.away").rename(tmp_path / "3.wav")
    (tmp_path / "5.wav").write_bytes(content)
    assert extract_embeddings(config).extracted == 0

    one = extract_embeddings(replace(config, encoder=("a=first",), resume=True))
    assert one.embedded == {"a": NUM_CLIPS}
    with Cache.open(tmp_path / "part.h5") as cache:
        assert set(cache.reasons("b")) == {"3", "5"}  # which b still has
    assert extract_embeddings(replace(config, resume=True)).failed == 0
    with Cache.open(tmp_path / "part.h5") as cache, Cache.open(tmp_path / "whole.h5") as expected:
        assert cache.complete
        assert cache.failures.empty
        for name in ("a", "b"):
            assert cache.embedding(name).tobytes() == expected.embedding(name).tobytes()
            assert cache.present(name).all()
    assert verify(tmp_path / "part.h5")["ok"]


def test_resume_keeps_failures_that_last(sounds, fakes, tmp_path):
    (tmp_path / "3.wav").unlink()
    (tmp_path / "5.wav").write_bytes(b"broken")
    first = extract_embeddings(sounds)
    again = extract_embeddings(replace(sounds, resume=True))
    assert again.failures == first.failures
    assert again.extracted > 0
    assert verify(Path(str(sounds.out)))["ok"]
