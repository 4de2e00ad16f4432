"""Faults in the decoding of chosen clips: exceptions, crashes, endless loops. And workers whose parent is killed.

Each clip with a fault fails in the modality that has it, with its id and the reason. All else is equal to the bit to an
extraction without faults, for any number of workers. No worker outlives its parent, whatever it has to hand over.
"""

from __future__ import annotations

import csv
import ctypes
import errno
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.cache.reader import Cache
from amr.extract.encoders import Encoder, Prepare
from amr.extract.pipeline import load as loading
from amr.extract.pipeline.load import ClipFiles, Loaded
from amr.extract.pipeline.workers import ClipLoader, Task

from ..child import Child, amr, command, run_child
from ..report import Outcome, scaled

NUM_CLIPS, BATCH_SIZE = 30, 8
NUM_EXTRACTIONS, NUM_KILLS = 12, 28
CLIP_TIMEOUT_SECONDS = 2
INPUT_BYTES = {"13 KB": 13_000, "98 KB": 98_000, "200 KB": 200_000, "300 KB": 300_000}  # a pipe holds 64 KiB
SECONDS_TO_END = 5.0


class OwnError(Exception):
    """An exception that cannot be pickled and has no text."""

    def __init__(self, one: object, other: object) -> None:
        super().__init__("own")
        self.lock = (one, other, lambda: 0)

    def __str__(self) -> str:
        raise RecursionError("no text")


def raising(error: Exception) -> Callable[[], None]:
    """A function that raises an exception."""

    def function() -> None:
        raise error

    return function


def recurse() -> None:
    """Never return."""
    recurse()


def crash() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def abort() -> None:
    """End as C code does that finds itself broken."""
    os.abort()


def loop() -> None:
    """Never return, in Python."""
    while True:
        pass


def sleep() -> None:
    """Never return from C code."""
    ctypes.CDLL(None).sleep(100_000)


TOO_LONG = f"decoding it takes longer than {CLIP_TIMEOUT_SECONDS} s (--clip-timeout)"
# Name -> function that a decoder runs, and the reason of the failure.
FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "permission": (raising(PermissionError(errno.EACCES, "Permission denied")), "PermissionError"),
    "long name": (raising(OSError(errno.ENAMETOOLONG, "File name too long")), "OSError"),
    "no memory": (raising(MemoryError()), "MemoryError"),
    "overflow": (raising(OverflowError("int too large")), "OverflowError: int too large"),
    "runtime": (raising(RuntimeError("odd\nand more")), "RuntimeError: odd"),
    "value": (raising(ValueError("odd")), "ValueError: odd"),
    "key": (raising(KeyError("odd")), "KeyError: 'odd'"),
    "assertion": (raising(AssertionError()), "AssertionError"),
    "stop": (raising(StopIteration()), "StopIteration"),
    "own": (raising(OwnError(1, 2)), "OwnError"),
    "recursion": (recurse, "RecursionError"),
    "crash": (crash, "decoding it kills the process (SIGSEGV)"),
    "kill": (lambda: os.kill(os.getpid(), signal.SIGKILL), "decoding it kills the process (SIGKILL)"),
    "abort": (abort, "decoding it kills the process (SIGABRT)"),
    "exit": (lambda: os._exit(0), "decoding it kills the process (exit status 0)"),
    "loop": (loop, TOO_LONG),
    "sleep": (sleep, TOO_LONG),
}
Plan = dict[tuple[str, str], str]  # (id, modality) -> name of its fault


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Faults in extractions, for 0, 1 and 2 workers in turn; kills of a process whose workers have clips ready."""
    render(SyntheticConfig(num_clips=NUM_CLIPS, num_classes=2, duration_seconds=0.3, size=32), folder / "media")
    expected = _rows(folder, extraction(folder, "whole", workers=2)(), "whole")
    rng, tries, lost = random.Random(seed), 0, list[str]()
    for number in range(max(3, scaled(NUM_EXTRACTIONS, scale))):
        plan = _plan(sorted(expected), rng)
        tries += len(plan)
        lost += [f"extraction {number}: {text}" for text in faulty(folder, plan, number % 3, expected)]
    yield Outcome("faults in the decoding of clips", tries, tuple(lost), f"{len(FAULTS)} kinds, 0 to 2 workers")
    kills = list(INPUT_BYTES) * (max(4, scaled(NUM_KILLS, scale)) // len(INPUT_BYTES))
    orphans = [text for size in kills if (text := orphaned(INPUT_BYTES[size], size))]
    yield Outcome("SIGKILL of a process whose workers have clips ready", len(kills), tuple(orphans))


def _plan(clips: list[tuple[str, str]], rng: random.Random) -> Plan:
    """Each fault once, in clips that differ; one more clip has a fault in each of its modalities."""
    ids = rng.sample(sorted({id_ for id_, _ in clips}), len(FAULTS) + 1)
    plan = {(id_, rng.choice(["audio", "video"])): fault for id_, fault in zip(ids, FAULTS, strict=False)}
    short = [fault for fault in FAULTS if FAULTS[fault][1] != TOO_LONG]
    return plan | {(ids[-1], modality): rng.choice(short) for modality in ("audio", "video")}


def extraction(folder: Path, name: str, workers: int) -> Callable[[], Any]:
    """An extraction of the clips to a cache."""
    encoders = ("--encoder", "audio=logmel", "--encoder", "video=frames")
    options = ("--workers", workers, "--batch-size", BATCH_SIZE, "--device", "cpu", "--json")
    limit = ("--clip-timeout", CLIP_TIMEOUT_SECONDS, "--out", folder / f"{name}.h5", "--overwrite")
    manifest = ("--manifest", folder / "media" / "manifest.csv")
    return partial(amr, "extract", *manifest, *encoders, *options, *limit, seconds=300, folder=folder)


def _rows(folder: Path, ended: Any, name: str) -> dict[tuple[str, str], bytes]:
    """(id, modality) -> bytes of its embedding, of those that are present."""
    if ended.fault((0,)):
        raise RuntimeError(ended.fault((0,)))
    with Cache.open(folder / f"{name}.h5") as cache:
        ids = cache.table()["id"]
        return {
            (id_, modality): row.tobytes()
            for modality in ("audio", "video")
            for id_, row, present in zip(ids, cache.embedding(modality), cache.present(modality), strict=True)
            if present
        }


def faulty(folder: Path, plan: Plan, workers: int, expected: dict[tuple[str, str], bytes]) -> list[str]:
    """What an extraction with faults loses."""
    with (folder / "media" / "manifest.csv").open(newline="") as file:
        id_of = {Path(row.get("path") or row["video_path"]).name: row["id"] for row in csv.DictReader(file)}
    real = loading.decode
    extract = command(*extraction(folder, "faulty", workers).args)

    def decode(path: Path, **requested: Any) -> Any:
        for modality, outputs in (("audio", "sample_rates_hz"), ("video", "samplings")):
            fault = plan.get((id_of[path.name], modality))
            if requested[outputs] and fault is not None:
                FAULTS[fault][0]()
        return real(path, **requested)

    def function() -> int:
        loading.decode = decode
        return extract()

    ended = run_child(function, seconds=300, folder=folder)
    if ended.fault((0,)):
        return [f"workers {workers}: {ended.fault((0,))}"]
    found = _rows(folder, ended, "faulty")
    failures = {(each["id"], each["modality"]): each["reason"] for each in json.loads(ended.stdout)["failures"]}
    wrong = dict.fromkeys(expected.keys() - plan.keys() - found.keys(), "lost")
    wrong |= {each: "another embedding" for each in found if found[each] != expected[each]}
    wrong |= {each: f"failed: {failures[each]}" for each in failures.keys() - plan.keys()}
    wrong |= {each: f"{plan[each]}, but present" for each in plan.keys() & found.keys()}
    wrong |= {
        each: f"{fault}, but {failures.get(each)!r}"
        for each, fault in plan.items()
        if FAULTS[fault][1] not in failures.get(each, "")
    }
    return [f"workers {workers}: {modality} of {id_}: {text}" for (id_, modality), text in sorted(wrong.items())]


class PrepareSize(Prepare):
    """Sound as it is."""

    sample_rate_hz = 8000

    def __call__(self, media: np.ndarray) -> torch.Tensor:
        """The samples."""
        return torch.from_numpy(media)


class Size(Encoder):
    """An encoder that only prepares."""

    modality, spec, embed_dim, max_steps, preprocessing, prepare = "audio", "size", 1, None, {}, PrepareSize()

    def embed(self, inputs: Any) -> Any:
        """Never called."""
        raise NotImplementedError


def orphaned(num_bytes: int, size: str) -> str:
    """Kill a process whose workers have clips of a size ready; why that is lost, "" if no worker outlives it."""
    ready, wait_here = os.pipe()

    def prepared(*_: object) -> Loaded:
        return Loaded({"a": torch.zeros(num_bytes // 4)}, {})

    def function() -> None:
        import amr.extract.pipeline.workers as module

        module.load = prepared
        loader = ClipLoader(
            [ClipFiles({"audio": None})] * 1000, {"a": Size()}, num_workers=2, batch_size=32, pin_memory=False
        )
        clips = loader.load([Task(row, ("a",)) for row in range(1000)])
        next(clips)
        os.write(wait_here, b"x")
        signal.pause()  # the workers load ahead, and then wait to hand over

    child = Child(function)
    os.close(wait_here)
    os.read(ready, 1)
    os.close(ready)
    child.kill()
    ended = child.wait(60, grace_seconds=SECONDS_TO_END)
    return f"{size}: {len(ended.orphans)} workers outlive the process" if ended.orphans or ended.code != -9 else ""
