"""Files that are small and claim, or hold, very much: each is embedded or a failure, within 1 GiB of a worker."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from amr.common.processes import CONTEXT, begin_process, end_process, start_process
from amr.extract.encoders import Prepare, build_encoder
from amr.extract.encoders.families.torchaudio import PrepareWaveform
from amr.extract.pipeline.load import ClipFiles, Loaded, load
from amr.extract.pipeline.workers import begin_loading

from ..report import Outcome, scaled
from .bombs import BOMBS, write_folder, write_sound

LIMIT_BYTES = 512 << 20  # of a clip; with torch and the encoders, about 450 MiB, that is less than 1 GiB
MAX_SECONDS = 500.0
SPECS = {
    "audio": "logmel",
    "video": "frames",
    "rate": "timm:test_vit,weights=random,rate=2",
    "pieces": "torchvision:mc3_18,weights=random,rate=2",
    "picture": "timm:test_vit,weights=random,modality=audio",
}


@dataclass(frozen=True)
class Measured:
    """What became of a clip in a worker.

    Attributes:
        loaded: The clip, as another process gets it; None if the worker died.
        peak_bytes: Largest memory of the worker.
        clip_bytes: The part of it that came with the clip.
        seconds: Time it took.
        problem: Why there is no clip.
    """

    loaded: Loaded | None
    peak_bytes: int
    clip_bytes: int
    seconds: float
    problem: str = ""

    @property
    def result(self) -> str:
        """One line."""
        if self.loaded is None:
            return self.problem
        shapes = [f"{name} {tuple(x.shape)}" for name, x in self.loaded.inputs.items()]
        return "; ".join([*shapes, *dict.fromkeys(self.loaded.failures.values())]) or "absent"


@dataclass(frozen=True)
class Prepares:
    """Functions that prepare clips, as a worker has them, with their modalities."""

    of: Mapping[str, Prepare]
    modalities: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def every_kind(cls) -> Prepares:
        """Of each kind of encoder, one."""
        encoders = {name: build_encoder(spec, name) for name, spec in SPECS.items()}
        modalities = {name: encoder.modality for name, encoder in encoders.items()}
        prepares = {name: encoder.prepare for name, encoder in encoders.items()}
        return cls(prepares | {"waveform": PrepareWaveform(16000, True)}, modalities | {"waveform": "audio"})


def measure(clip: ClipFiles, prepares: Prepares) -> Measured:
    """Load a clip in a process of its own, as a worker does."""
    here, there = CONTEXT.Pipe()
    began = time.monotonic()
    process = start_process(_work, there, clip, prepares)
    there.close()
    try:
        if not here.poll(MAX_SECONDS):
            return Measured(None, 0, 0, MAX_SECONDS, "no end")
        (loaded, seconds), (before, peak) = here.recv(), here.recv()
        here.send(None)
        return Measured(loaded, peak, peak - before, seconds)
    except EOFError:
        process.join()
        return Measured(None, 0, 0, time.monotonic() - began, f"the worker ended: {process.exitcode}")
    finally:
        end_process(process)


def _work(parent: int, pipe: Connection, clip: ClipFiles, prepares: Prepares) -> None:
    begin_process(parent)
    begin_loading()
    began, before = time.monotonic(), _peak()
    loaded = load(clip, prepares.modalities, prepares.of)
    pipe.send((loaded, time.monotonic() - began))
    pipe.send((before, _peak()))
    pipe.recv()  # files are handed over by this process


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def both(path: Path, **interval: Any) -> ClipFiles:
    """A clip whose sound and pictures are in one file."""
    return ClipFiles({"audio": path, "video": path}, **interval)


def problem_of(measured: Measured, prepares: Prepares) -> str:
    """Broken promise; empty if there is none."""
    if measured.loaded is None:
        return measured.problem
    if measured.clip_bytes > LIMIT_BYTES:
        return f"{measured.clip_bytes >> 20} MiB"
    both_ways = measured.loaded.inputs.keys() & measured.loaded.failures.keys()
    return f"embedded and failed: {both_ways}" if both_ways else ""


def run(seed: int, scale: float, folder: Path) -> list[Outcome]:
    """Load each bomb, and each odd interval of a small clip."""
    prepares = Prepares.every_kind()
    names = list(BOMBS)[: max(8, scaled(len(BOMBS), scale))]
    lost, peak = [], 0
    clips = {}
    for name in names:
        BOMBS[name](folder / name)
        clips[name] = both(folder / name)
    write_folder(folder / "folder", 200_001)
    clips["folder"] = both(folder / "folder")
    write_sound(folder / "short.flac", "flac", 3)
    for start, end in ((1e13, None), (None, 1e305), (1e300, 1e305), (2.0, 1e13), (5e-324, 1e-323)):
        clips[f"{start} to {end}"] = both(folder / "short.flac", start_seconds=start, end_seconds=end)
    for name, clip in clips.items():
        measured = measure(clip, prepares)
        peak = max(peak, measured.peak_bytes)
        if problem := problem_of(measured, prepares):
            lost.append(f"{name}: {problem}")
    return [Outcome("bombs: media", len(clips), tuple(lost), peak_bytes=peak)]
