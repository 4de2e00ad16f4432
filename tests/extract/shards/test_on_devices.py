"""Several devices: a process for each, joined to the bit; Ctrl-C and failures end all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import wave
from dataclasses import replace
from pathlib import Path

import pytest

from amr.common.devices import choose_device
from amr.common.files.lock import lock
from amr.common.processes import CONTEXT
from amr.extract.cache.journal import Journal
from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.extract.shards.join import remove_shards

from .conftest import ENCODERS, NUM_CLIPS, Seen


@pytest.fixture
def config(manifest, workspace) -> ExtractConfig:
    return ExtractConfig(manifest=str(manifest), encoder=ENCODERS, batch_size=4, workers=2, device="cpu,cpu")


@pytest.fixture
def forked(monkeypatch):
    """Processes of devices are forks, which have all imports; a CPU needs no process of another kind."""
    monkeypatch.setattr("amr.extract.shards.on_devices.SPAWN", CONTEXT)


def counted(seen: Seen, unit: str) -> tuple[float, float]:
    """Total and amount of the work in a unit."""
    starts = [i for i, event in enumerate(seen.events) if event[0] == "start"]
    (start,) = (i for i in starts if seen.events[i][3] == unit)
    stop = next((i for i in starts if i > start), None)
    done = sum(event[1] for event in seen.events[start:stop] if event[0] == "advance")
    return seen.events[start][1], seen.events[start][2] + done


def test_two_devices_give_the_file_of_one(config, workspace):
    seen = Seen()
    result = extract_embeddings(config, seen)
    one = extract_embeddings(replace(config, device="cpu", out=str(workspace / "one.h5")))
    assert result.cache.read_bytes() == one.cache.read_bytes()
    assert [path.name for path in result.cache.parent.iterdir()] == ["manifest.h5"]
    ours, theirs = (each.to_json() | {"cache": "", "notes": []} for each in (result, one))
    assert {**ours, "seconds": 0, "clips_per_second": 0} == {**theirs, "seconds": 0, "clips_per_second": 0}
    assert counted(seen, "clips") == (NUM_CLIPS - 1, NUM_CLIPS - 1)
    assert counted(seen, "rows") == (2 * NUM_CLIPS, 2 * NUM_CLIPS)


def test_a_cache_that_exists_is_continued_on_one_device_and_its_shards_go(config, workspace):
    first = replace(config, encoder=ENCODERS[:1])
    for shard in ("1/2", "2/2"):
        extract_embeddings(replace(first, device="cpu", shard=shard))
    extract_embeddings(replace(first, device="cpu"))
    seen = Seen()
    result = extract_embeddings(config, seen)
    assert any("is embedded on cpu alone" in str(event) for event in seen.events)
    assert [*result.embedded] == ["audio", "net"]
    assert [path.name for path in result.cache.parent.iterdir()] == ["manifest.h5"]


def test_shards_with_an_embedding_that_is_not_requested_are_refused_before_work(config, workspace, forked):
    """As `amr merge` would refuse them in the end."""
    extract_embeddings(replace(config, device="cpu", shard="2/2"))
    with pytest.raises(ValueError, match=r"--encoder must name every .* got none for net of .*shard-2-of-2\.h5"):
        extract_embeddings(replace(config, encoder=ENCODERS[:1]))
    extract_embeddings(replace(config, device="cpu", shard="1/2"))
    assert [*extract_embeddings(replace(config, encoder=ENCODERS[:1])).embedded] == ["audio", "net"]


def test_shards_of_any_division_go_once_the_cache_has_them(config, workspace, forked):
    extract_embeddings(replace(config, device="cpu", shard="1/3"))
    result = extract_embeddings(config)
    assert [path.name for path in result.cache.parent.iterdir()] == ["manifest.h5"]


def test_shards_of_other_clips_stay(config, workspace, manifest):
    first = replace(config, encoder=ENCODERS[:1])
    extract_embeddings(replace(first, device="cpu"))
    other = manifest.with_name("other.csv")
    other.write_text(manifest.read_text().replace("class-00", "class-01"))
    path = workspace / "caches/manifest.shard-1-of-2.h5"
    extract_embeddings(replace(first, manifest=str(other), device="cpu", shard="1/2", out=str(path)))
    extract_embeddings(first)
    assert path.is_file()


def test_a_wrong_encoder_is_refused_as_by_one_device(config):
    with pytest.raises(ValueError, match=r"nonsense"):
        extract_embeddings(replace(config, encoder=("net=timm:nonsense",)))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu,", "cuda:0;cuda:1"])
def test_a_name_that_is_no_device_is_refused(config, device):
    with pytest.raises(ValueError, match="--device must be one of"):
        replace(config, device=device)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"--device must be available, got cuda:99"):
        choose_device("cuda:99")


def test_a_shard_has_one_device(config):
    with pytest.raises(ValueError, match="--shard must be used with one device"):
        replace(config, shard="1/2")


@pytest.fixture
def three(tmp_path) -> ExtractConfig:
    """Clips without a file, two of six, over two devices."""
    names = [f"{number}.wav" for number in range(6)]
    (tmp_path / "three.csv").write_text("\n".join(["path,label", *(f"{name},x" for name in names)]) + "\n")
    for name in names[1:5]:
        with wave.open(str(tmp_path / name), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(1600))
    return ExtractConfig(manifest=str(tmp_path / "three.csv"), encoder=ENCODERS[:1], workers=1, device="cpu,cpu")


def test_clips_without_a_file_are_one_note_of_all(three, workspace, forked):
    seen = Seen()
    result = extract_embeddings(three, seen)
    notes = [note for note in result.notes if "no file in" in note]
    assert [note.partition(" in ")[0] for note in notes] == ["2 of 6 clips have no file"]
    assert [event[1] for event in seen.events if "no file in" in str(event)] == notes


def test_what_one_process_refuses_is_refused_before_shards_start(three, workspace):
    with pytest.raises(ValueError, match="--folder-fps must be used with clips that are folders of images"):
        extract_embeddings(replace(three, folder_fps=10, encoder=("v=frames",)))
    with pytest.raises(FileNotFoundError, match=r"--resume must be used with an existing cache, got .*three\.h5"):
        extract_embeddings(replace(three, resume=True))
    mine = workspace / "mine.h5"
    mine.write_text("mine")
    with pytest.raises(ValueError, match=r"--out must be a cache or a new file, got .*mine\.h5"):
        extract_embeddings(replace(three, out=str(mine), overwrite=True))
    assert mine.read_text() == "mine"
    for file in workspace.glob("*.wav"):
        file.unlink()
    with pytest.raises(ValueError, match=r"--manifest must name files that exist, got none of its 6 clips"):
        extract_embeddings(three)
    with pytest.raises(ValueError, match=r"--root must hold media of crema-d, got "):
        extract_embeddings(replace(three, manifest=None, dataset="crema-d", root=str(workspace)))
    assert not (workspace / "caches").exists()


def test_resume_continues_where_one_shard_has_begun(three, workspace, forked):
    extract_embeddings(replace(three, device="cpu", shard="1/2"))
    resumed = extract_embeddings(replace(three, resume=True))
    one = extract_embeddings(replace(three, device="cpu", out=str(workspace / "one.h5")))
    assert resumed.cache.read_bytes() == one.cache.read_bytes()


def test_a_shard_in_use_is_not_removed(three, workspace):
    shard = extract_embeddings(replace(three, device="cpu", shard="1/2")).cache
    journal = Journal(shard).path
    journal.write_text("")
    content = shard.read_bytes()
    with lock(shard), pytest.raises(RuntimeError, match="must be written by one extraction at a time"):
        extract_embeddings(replace(three, overwrite=True))
    assert (shard.read_bytes(), journal.exists()) == (content, True)
    whole = extract_embeddings(replace(three, device="cpu")).cache
    with lock(shard):
        remove_shards(whole, [shard])
    assert shard.is_file()
    remove_shards(whole, [shard])
    assert not shard.exists()
    assert not journal.exists()


def kill_one_of_two(is_over: threading.Event) -> None:
    """Kill the second of this process's own processes as soon as it is there."""
    while len(devices := processes_below(os.getpid())) < 2:
        if is_over.wait(0.005):
            return
    os.kill(devices[1], signal.SIGKILL)


def processes_below(pid: int) -> list[int]:
    """Processes that embed a shard for a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_a_device_whose_process_dies_ends_the_others(config, workspace):
    config = replace(config, batch_size=1)
    is_over = threading.Event()
    threading.Thread(target=kill_one_of_two, args=(is_over,), daemon=True).start()
    with pytest.raises(RuntimeError, match=r"must stay alive, got SIGKILL .*Run the same command to continue"):
        extract_embeddings(config)
    is_over.set()
    assert processes_below(os.getpid()) == []
    again = extract_embeddings(config)
    one = extract_embeddings(replace(config, device="cpu", out=str(workspace / "one.h5")))
    assert again.cache.read_bytes() == one.cache.read_bytes()


def test_ctrl_c_ends_every_process_and_says_what_is_kept(config, workspace):
    command = [sys.executable, "-c", "import sys; from amr.cli import run; sys.exit(run(sys.argv[1:]))", "extract"]
    command += ["--manifest", str(config.manifest), *(f"--encoder={each}" for each in ENCODERS)]
    command += ["--batch-size=1", "--workers=0", "--device=cpu,cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    devices: set[int] = set()
    while process.poll() is None and not any_done(workspace):
        devices |= {*processes_below(process.pid)}
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "amr: stopped. Finished clips are saved; run the same command to continue."
    assert "Traceback" not in stderr
    assert len(devices) == 2
    assert [pid for pid in devices if Path(f"/proc/{pid}").exists()] == []


def any_done(workspace: Path) -> bool:
    """Whether both shards have a clip."""
    paths = [*(workspace / "caches").glob("*.shard-?-of-2.h5")]
    done = []
    for path in paths:
        with Cache.open(path) as cache:
            done.append(cache.done("audio").any())
    return len(paths) == 2 and all(done)
