from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torchaudio import pipelines

from amr.data_manifests.manifest import Manifest, read_manifest, write_manifest
from amr.extract.encoders import Prepare, build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.extract.media.decode import decode
from amr.extract.run import embed_clips

from .conftest import NUM_CLIPS, Fake, Notes, Special, build, contents, write_samples, write_sound

TINY = {"encoder_embed_dim": 24, "encoder_num_layers": 2, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TINY |= {
    "encoder_pos_conv_groups": 2,
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
}


class Samples(Prepare):
    """The sound as it is."""

    sample_rate_hz = 8000

    def __init__(self, waveform: bool) -> None:
        self.waveform = waveform

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(media.copy())


class Deadly(Special):
    def __call__(self, media: np.ndarray) -> torch.Tensor:
        if round(float(media[0]) * 128) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(media)


class Slow(Special):
    def __call__(self, media: np.ndarray) -> torch.Tensor:
        time.sleep(0.004)
        return super().__call__(media)


def test_real_clips_as_prepare_makes_them(test_data, tmp_path):
    paths = sorted((test_data / "grid" / "clips").glob("*.mp4"))[:5]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{path},x" for path in paths)]))
    manifest = read_manifest(tmp_path / "clips.csv", root=test_data)
    specs = {
        "video": "timm:resnet18,weights=random,size=32,frames=2",
        "audio": "timm:resnet18,weights=random,size=32",
        "mel": "logmel",
    }
    encoders = {name: build_encoder(spec, name) for name, spec in specs.items()}
    store = build(tmp_path / "store", manifest, encoders, workers=2, batch_size=2)
    assert store.present.all()
    assert store.failures == []
    assert store.tensors["video"].shape == (5, 2, 3, 32, 32)
    for row, path in enumerate(paths):
        for name, encoder in encoders.items():
            sampling, rate_hz = encoder.prepare.sampling, encoder.prepare.sample_rate_hz
            decoded = decode(path, samplings={sampling} - {None}, sample_rates_hz={rate_hz} - {None})
            media = decoded.sound[rate_hz] if sampling is None else decoded.frames[sampling]
            expected = encoder.prepare(media).half()
            torch.testing.assert_close(store.tensors[name][row], expected, rtol=0, atol=0)


def test_what_fails_is_absent_and_named(sounds, tmp_path):
    (tmp_path / "0.wav").unlink()
    (tmp_path / "1.wav").write_bytes(b"no sound")
    sounds.table.loc[2, "path"] = ""
    progress = Notes()
    store = build(tmp_path / "store", sounds, {"a": Fake(Special())}, progress=progress)
    assert store.present[:, 0].tolist() == [False] * 6 + [True] * 5
    assert store.rows["a"].tolist() == [-1, 0, -1, *range(1, 9)]
    expected = torch.tensor([0, 0, 0, 0, 6, 7, 8, 9, 10]) / 128
    torch.testing.assert_close(store.tensors["a"], expected.half().view(-1, 1, 1).expand(-1, 2, 3))
    reasons = [failure["reason"] for failure in store.failures]
    assert [failure["id"] for failure in store.failures] == ["0", "1", "3", "4", "5"]
    assert reasons[0].startswith("file not found: ")
    assert reasons[2:] == [
        "cannot be prepared for a: ValueError: too quiet",
        "a: the prepared tensor is not finite",
        "a: a value of 1e+06 does not fit into float16",
    ]
    assert (progress.total, progress.advanced, progress.failures) == (9, 9, 4)
    again = build(tmp_path / "store", sounds, {"a": Fake(Special())})
    assert again.failures == store.failures
    assert torch.equal(again.present, store.present)


@pytest.fixture
def pairs(tmp_path) -> Manifest:
    """Eleven clips with a sound and a "video", of which three and two exist; clip i holds the values i and i + 50."""
    for i in (6, 7, 10):
        write_sound(tmp_path / f"a{i}.wav", i)
    for i in (1, 7):
        write_sound(tmp_path / f"v{i}.wav", i + 50)
    rows = [f"{i},a{i}.wav,v{i}.wav,x" for i in range(NUM_CLIPS)]
    (tmp_path / "clips.csv").write_text("\n".join(["id,audio_path,video_path,label", *rows]))
    return read_manifest(tmp_path / "clips.csv")


PAIR = {"v": Fake(Samples(waveform=False), modality="video"), "a": Fake(Special())}


def test_a_store_is_as_large_as_the_media_that_exist(pairs, tmp_path):
    progress = Notes()
    store = build(tmp_path / "store", pairs, PAIR, progress=progress)
    assert progress.notes == [
        f"the store needs 1.6 KiB in {tmp_path / 'store'} for 11 clips (2 with video, 3 with audio)"
    ]
    assert (progress.total, progress.advanced, progress.failures) == (4, 4, 0)
    assert {name: tuple(x.shape) for name, x in store.tensors.items()} == {"v": (2, 400), "a": (3, 2, 3)}
    assert store.num_bytes == 2 * (2 * 400 + 3 * 6)
    assert store.rows["v"].tolist() == [-1, 0, *[-1] * 5, 1, -1, -1, -1]
    assert store.rows["a"].tolist() == [*[-1] * 6, 0, 1, -1, -1, 2]
    assert (store.tensors["v"][:, 0] * 128).tolist() == [51, 57]
    assert (store.tensors["a"][:, 0, 0] * 128).tolist() == [6, 7, 10]
    for column, name in enumerate(store.tensors):
        assert torch.equal(store.present[:, column], store.rows[name] >= 0)
    assert len(store.failures) == 2 * NUM_CLIPS - 5


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_is_rebuilt_when_media_appear(pairs, tmp_path, finished):
    progress = Notes() if finished else Stopped()
    with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", pairs, PAIR, progress=progress)
    write_sound(tmp_path / "a7.wav", 99)  # another sound is not noticed: contents are not compared
    write_sound(tmp_path / "v7.wav", 99)
    (tmp_path / "v1.wav").unlink()
    for name in ("v3", "a3", "v6"):
        write_sound(tmp_path / f"{name}.wav", 9)
    progress = Notes()
    store = build(tmp_path / "store", pairs, PAIR, progress=progress)
    assert progress.notes[0] == (
        f"the store in {tmp_path / 'store'} lacks media of 2 clips that are there now: it is rebuilt"
    )
    assert progress.notes[1].endswith("for 11 clips (3 with video, 4 with audio)")
    assert (store.rows["v"] >= 0).nonzero().flatten().tolist() == [3, 6, 7]
    assert (store.rows["a"] >= 0).nonzero().flatten().tolist() == [3, 6, 7, 10]
    build(tmp_path / "fresh", pairs, PAIR)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_file_that_appears_while_others_are_decoded_waits_for_the_next_build(pairs, tmp_path):
    class Downloading(Notes):
        def advance(self, num_clips: int, num_failures: int) -> None:
            write_sound(tmp_path / "v10.wav", 9)

    first = build(tmp_path / "store", pairs, PAIR, progress=Downloading())
    assert first.present[10].tolist() == [False, True]
    assert {"id": "10", "modality": "video", "reason": f"file not found: {tmp_path / 'v10.wav'}"} in first.failures
    assert build(tmp_path / "store", pairs, PAIR).present[10].tolist() == [True, True]


def test_a_store_on_a_device_has_its_tensors_and_rows_there(pairs, tmp_path):
    store = build(tmp_path / "store", pairs, PAIR)
    away = store.to(torch.device("meta"))
    for tensors, there in ((store.tensors, away.tensors), (store.rows, away.rows)):
        assert {name: (x.shape, x.dtype) for name, x in there.items()} == {
            name: (x.shape, x.dtype) for name, x in tensors.items()
        }
        assert {x.device.type for x in there.values()} == {"meta"}
    assert (away.num_bytes, away.present) == (store.num_bytes, store.present)
    on_cpu = store.to(torch.device("cpu"))
    assert all(on_cpu.tensors[name] is store.tensors[name] for name in PAIR)


def test_waveforms_are_cut_and_padded(sounds, tmp_path):
    encoders = {"a": Fake(Samples(waveform=True))}
    store = build(tmp_path / "store", sounds, encoders, max_seconds=0.055)
    assert store.tensors["a"].shape == (NUM_CLIPS, 440)
    for i in range(NUM_CLIPS):
        whole = torch.full((400 + 10 * i,), i / 128)
        expected = torch.cat([whole, torch.full((440,), torch.nan)])[:440].half()
        torch.testing.assert_close(store.tensors["a"][i], expected, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match="max_seconds must be given for --encoder a=fake"):
        build(tmp_path / "other", sounds, encoders)


def test_a_clip_from_the_store_is_embedded_as_by_extraction(tmp_path, monkeypatch):
    """Also if it ends in silence, and is shorter than others."""
    monkeypatch.setattr(pipelines.WAV2VEC2_BASE, "_params", {**pipelines.WAV2VEC2_BASE._params, **TINY})
    encoder = build_encoder("torchaudio:WAV2VEC2_BASE,weights=random", "a")
    assert isinstance(encoder, ModelEncoder)
    rng = np.random.default_rng(0)
    for i, num_samples in enumerate((16000, 24000)):
        values = rng.integers(-99, 99, num_samples) * 64  # exact in float16
        values[num_samples // 2 :] *= i
        write_samples(tmp_path / f"{i}.wav", values, rate_hz=16000)
    (tmp_path / "clips.csv").write_text("path,label\n0.wav,x\n1.wav,x\n")
    manifest = read_manifest(tmp_path / "clips.csv")
    store = build(tmp_path / "store", manifest, {"a": encoder}, max_seconds=2.0)
    with torch.no_grad():
        trained = encoder.network()(store.tensors["a"].float())
    extracted = embed_clips([tmp_path / "0.wav", tmp_path / "1.wav"], {"a": encoder.spec}, workers=0)["a"][1].values
    for one, other in zip(trained, torch.from_numpy(extracted), strict=True):
        assert torch.linalg.vector_norm(one - other) < 1e-5 * torch.linalg.vector_norm(other)


def test_a_store_of_another_version_is_rebuilt(sounds, tmp_path):
    """As version 0.1 wrote it: one row per clip of the manifest, shapes without rows."""
    folder, encoders = tmp_path / "store", {"a": Fake(Special())}
    folder.mkdir()
    old = {"fingerprint": "0" * 64, "num_clips": NUM_CLIPS, "shapes": {"a": [2, 3]}, "failures": [], "done": True}
    (folder / "store.json").write_text(json.dumps(old))
    (folder / "store.states").write_bytes(bytes([2] * NUM_CLIPS))
    np.save(folder / "a.npy", np.zeros((NUM_CLIPS, 2, 3), np.float16))
    progress = Notes()
    build(folder, sounds, encoders, progress=progress)
    assert progress.notes[0] == (
        f"the store in {folder} has other clips or inputs, is of another version, or is damaged: it is rebuilt"
    )
    build(tmp_path / "fresh", sounds, encoders)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_other_inputs_must_have_one_shape(sounds, tmp_path):
    message = r"--encoder a=fake must give every clip the same shape, got \(400,\) and \(410,\) \(clip '1'\)\. Type"
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "store", sounds, {"a": Fake(Samples(waveform=False))})


def test_an_encoder_that_prepares_nothing_is_refused(sounds, tmp_path):
    encoders = {"a": Fake(Special()), "v": build_encoder("frames", "v")}
    with pytest.raises(RuntimeError, match="--encoder v=frames must be able to prepare some clip, got none of 11"):
        build(tmp_path / "store", sounds, encoders)


def test_a_finished_store_is_opened_unchanged(sounds, tmp_path):
    encoders = {"a": Fake(Special()), "b": Fake(Samples(waveform=True))}
    store = build(tmp_path / "store", sounds, encoders, max_seconds=0.05)
    before = contents(tmp_path / "store")
    assert sorted(before) == ["SHA256SUMS", "a.npy", "b.npy", "store.json", "store.states"]
    for i in range(NUM_CLIPS):
        (tmp_path / f"{i}.wav").unlink()
    reordered = dict(reversed(encoders.items()))
    progress = Notes()
    again = build(tmp_path / "store", sounds, reordered, max_seconds=0.05, progress=progress)
    assert progress.notes == []
    assert list(again.tensors) == ["b", "a"]
    assert all(torch.equal(again.tensors[name], store.tensors[name]) for name in "ab")
    assert torch.equal(again.present, store.present.flip(1))
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("change", ["inputs", "clips", "length", "damage"])
def test_a_store_of_other_inputs_is_rebuilt(sounds, tmp_path, change):
    folder, encoders, seconds = tmp_path / "store", {"a": Fake(Samples(waveform=True))}, 0.05
    build(folder, sounds, encoders | {"old": Fake(Special())}, max_seconds=seconds)
    encoders["old"] = Fake(Special())
    if change == "inputs":
        encoders = {"a": encoders["a"], "new": Fake(Special(), "another")}
    elif change == "clips":
        sounds = Manifest(sounds.dataset, sounds.root, sounds.table[::-1].reset_index(drop=True))
    elif change == "length":
        seconds = 0.06
    else:
        os.truncate(folder / "a.npy", 1000)
    progress = Notes()
    build(folder, sounds, encoders, max_seconds=seconds, progress=progress)
    assert "it is rebuilt" in progress.notes[0]
    assert progress.advanced == NUM_CLIPS
    build(tmp_path / "fresh", sounds, encoders, max_seconds=seconds)
    assert contents(folder) == contents(tmp_path / "fresh")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_are_as_readable_as_the_umask_says(sounds, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        build(tmp_path / "store", sounds, {"a": Fake(Special())})
        write_manifest(sounds, tmp_path / "manifest.csv")
    finally:
        os.umask(before)
    files = [*(tmp_path / "store").iterdir(), tmp_path / "manifest.csv"]
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {path.name: mode for path in files}


def test_other_files_are_left_alone(sounds, tmp_path):
    (tmp_path / "store").mkdir()
    np.save(tmp_path / "store" / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"--store must be a new folder .* which holds another a\.npy"):
        build(tmp_path / "store", sounds, {"a": Fake(Special())})
    assert np.load(tmp_path / "store" / "a.npy").tolist() == [1, 1, 1]


def test_a_disk_without_room_is_refused_before_anything_is_written(sounds, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    num_bytes = NUM_CLIPS * 400 * 2
    progress = Notes()
    options = {"progress": progress, "max_seconds": 0.05}
    encoders = {"a": Fake(Samples(waveform=True))}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=num_bytes))
    message = (
        r"^the store of 11 clips \(11 with audio\) must fit on the disk, got 9\.0 KiB for 8\.6 KiB free .* Pass --s"
    )
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "store", sounds, encoders, **options)
    assert progress.notes == [f"the store needs 8.6 KiB in {tmp_path / 'store'} for 11 clips (11 with audio)"]
    assert list((tmp_path / "store").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(num_bytes * 1.06)))
    build(tmp_path / "store", sounds, encoders, **options)
    # the space of a store can be reused by the one that replaces it
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(num_bytes * 0.06)))
    build(tmp_path / "store", sounds, {"a": Fake(Samples(waveform=True), "another")}, **options)


def test_a_disk_that_fills_up_leaves_no_store(sounds, tmp_path, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"No space left on device: .*a\.npy"):
            build(tmp_path / "store", sounds, {"a": Fake(Special())})
    build(tmp_path / "store", sounds, {"a": Fake(Special())})
    build(tmp_path / "fresh", sounds, {"a": Fake(Special())})
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


class Stopped(Notes):
    def advance(self, num_clips: int, num_failures: int) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_store_continues(sounds, tmp_path):
    (tmp_path / "2.wav").unlink()
    encoders = {"a": Fake(Special()), "b": Fake(Special())}
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "store", sounds, encoders, progress=Stopped())
    progress = Notes()
    store = build(tmp_path / "store", sounds, encoders, progress=progress)
    assert (progress.notes, progress.total, progress.done, progress.advanced) == ([], NUM_CLIPS - 1, 3, NUM_CLIPS - 4)
    build(tmp_path / "whole", sounds, encoders)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert len(store.failures) == 7


def test_a_clip_that_kills_its_worker_is_named(sounds, tmp_path):
    store = build(tmp_path / "store", sounds, {"a": Fake(Deadly())}, workers=2)
    assert {"id": "7", "modality": "audio", "reason": "decoding it kills the process (SIGKILL)"} in store.failures
    assert store.present[:, 0].tolist() == [i not in (3, 4, 5, 7) for i in range(NUM_CLIPS)]


def test_killed_at_random_moments(sounds, tmp_path):
    """The continued store has the same bytes, whenever it was killed."""
    (tmp_path / "2.wav").unlink()
    (tmp_path / "9.wav").unlink()
    encoders = {"a": Fake(Slow()), "b": Fake(Slow())}
    began = time.monotonic()
    build(tmp_path / "whole", sounds, encoders, batch_size=2)
    seconds = time.monotonic() - began
    expected = contents(tmp_path / "whole")
    rng, num_killed = random.Random(0), 0
    for _ in range(25):
        child = os.fork()
        if child == 0:
            try:
                build(tmp_path / "store", sounds, encoders, batch_size=2)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, seconds / 2))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        num_killed += os.WIFSIGNALED(status)
        if not os.WIFSIGNALED(status) or rng.random() < 0.3:
            build(tmp_path / "store", sounds, encoders, batch_size=2)
            assert contents(tmp_path / "store") == expected
            shutil.rmtree(tmp_path / "store")
    build(tmp_path / "store", sounds, encoders, batch_size=2)
    assert contents(tmp_path / "store") == expected
    assert num_killed > 10


def test_what_a_kill_after_the_end_leaves_is_removed_when_the_store_is_opened(sounds, tmp_path):
    encoders = {"a": Fake(Slow()), "b": Fake(Slow())}
    build(tmp_path / "store", sounds, encoders, batch_size=2)
    expected = contents(tmp_path / "store")
    (tmp_path / "store" / "store.failures.jsonl").write_text('{"row": 3}\n')
    (tmp_path / "store" / "store.json.lock").touch()
    build(tmp_path / "store", sounds, encoders, batch_size=2)
    assert contents(tmp_path / "store") == expected
