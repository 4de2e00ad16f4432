"""One extraction of a corpus of good, bad and odd media, and each clip of it alone.

Nothing ends the extraction: each (clip, modality) is present, failed or absent, and only one of them. The embedding of
a clip is the same to the bit alone and among the others. No worker takes a gigabyte, no file but the clips is opened,
no connection is made, and nothing is left.
"""

from __future__ import annotations

import csv
import os
import pickle
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from amr.extract.cache.reader import Cache
from amr.extract.encoders import Encoder, build_encoder
from amr.extract.media.decode import decode
from amr.extract.pipeline.load import ClipFiles
from amr.extract.run import embed_batches

from ..child import Child, Ended, run_child
from ..report import Outcome
from .corpus.broken import WHOLE
from .corpus.encode import Sound
from .corpus.make import corpus

ENCODERS = {
    "logmel": "logmel",
    "logmel-steps": "logmel,keep=steps",
    "frames": "frames",
    "frames-steps": "frames,keep=steps,frames=4",
    "net": "timm:resnet18,weights=random,size=128,rate=2,keep=steps",
}
MODALITY = {"logmel": "audio", "logmel-steps": "audio", "frames": "video", "frames-steps": "video", "net": "video"}
MAX_BYTES = 2**30  # of one process
STEP = 2  # a scale of 2 takes the whole corpus
SECONDS, SECONDS_ALONE = 1500.0, 400.0
INTERVALS = (("0.2", "0.5"), ("0.9", ""), ("5", ""), ("", "1e-6"), ("0", "9e6"), ("9e6", ""))
ROOT = Path(__file__).resolve().parents[3]
FOLDER = "O_DIRECTORY"  # folders of clips are listed
OPENED = re.compile(r'open(?:at)?\((?:[^",]+, )?"((?:[^"\\]|\\.)*)".*(?: = \d+|<unfinished)')
CONNECTED = re.compile(r"(?:connect|sendto)\(.*AF_INET")


@dataclass(frozen=True)
class Medium:
    """One row of the manifest: a file, and the part of it."""

    path: str
    start: str = ""
    end: str = ""

    def __str__(self) -> str:
        return self.path + (f" [{self.start}:{self.end}]" if self.start or self.end else "")


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Make the corpus, embed it at once, then each clip alone. At scale 1/n, every n-th of `STEP`."""
    media_folder = folder / "media"
    names = corpus(media_folder, seed, real_media(), step=max(1, round(STEP / scale)))
    media = [Medium(name) for name in names if not name.startswith("elsewhere/")]
    media += [Medium("whole-h264.mp4", *interval) for interval in INTERVALS]
    ended, trace = extract(folder, media_folder, media)
    lost = [fault] if (fault := ended.fault((0,))) else []
    worker_bytes = ended.worker_peak_bytes
    lost += [f"a worker took {worker_bytes / 2**20:.0f} MiB"] if worker_bytes > MAX_BYTES else []
    lost += [f"left behind: {name}" for name in leftovers(folder)]
    rows = states(folder / "cache.h5", len(media)) if ended.code == 0 else []
    counts = Counter(row.state for embeddings in rows for row in embeddings.values())
    note = ", ".join(f"{number} {state}" for state, number in counts.items()) + " embeddings" if rows else ""
    yield Outcome("media: one extraction of all", len(media), tuple(lost), note, worker_bytes)
    pointing = sum("points-" in medium.path or "link-" in medium.path for medium in media) if trace else 0
    note = "" if trace else "not tried: strace is not installed"
    yield Outcome(
        "media: other files and hosts", pointing, tuple(touched(trace, media_folder, media)), note, worker_bytes
    )
    alone = all_alone(media_folder, media)
    wrong = [f"{medium}: {why}" for medium, own in zip(media, alone, strict=True) if (why := own.fault())]
    wrong += [
        f"{medium}: {name}: {why}"
        for medium, embeddings, own in zip(media, rows, alone, strict=False)
        for name, row in embeddings.items()
        if (why := difference(name, row, own, must_be_present=MODALITY[name] in whole_modalities(medium)))
    ]
    peak = max(each.ended.worker_peak_bytes for each in alone)
    yield Outcome("media: each clip alone", len(media), tuple(wrong), peak_bytes=peak)


def real_media() -> Path | None:
    """The folder of real media, None without one."""
    folder = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


def extract(folder: Path, media_folder: Path, media: Sequence[Medium]) -> tuple[Ended, str]:
    """Embed the media with one command. Returns how it ended and, where strace is installed, its system calls."""
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "path", "label", "start_seconds", "end_seconds"])
        rows.writerows([str(i), each.path, f"c{i % 2}", each.start, each.end] for i, each in enumerate(media))
    command = [
        sys.executable,
        "-m",
        "amr",
        "extract",
        "--manifest=clips.csv",
        f"--root={media_folder}",
        "--out=cache.h5",
    ]
    command += ["--workers=2", "--batch-size=8", "--device=cpu"]
    command += [f"--encoder={name}={spec}" for name, spec in ENCODERS.items()]
    trace = folder.with_name(folder.name + ".strace")
    if strace := shutil.which("strace"):
        calls = "trace=open,openat,connect,sendto"
        command = [strace, "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", calls, "-o", str(trace), *command]
    ended = Child(partial(os.execvp, command[0], command), folder=folder).wait(SECONDS)
    text = trace.read_text(errors="replace") if trace.exists() else ""
    trace.unlink(missing_ok=True)
    return ended, text


def leftovers(folder: Path) -> list[str]:
    """Names of what the extraction left besides the cache."""
    return sorted({path.name for path in folder.iterdir()} - {"cache.h5", "clips.csv", "media"})


def touched(trace: str, media_folder: Path, media: Sequence[Medium]) -> list[str]:
    """Files of the corpus that were opened and are no clips, and connections to hosts."""
    ours = {os.path.normpath(media_folder / medium.path) for medium in media}
    lines = [line for line in trace.splitlines() if FOLDER not in line]
    names = [found.group(1) for line in lines if (found := OPENED.search(line))]
    opened = {name.encode("latin-1", "replace").decode("unicode_escape") for name in names}
    opened = {os.path.normpath(name.encode("latin-1", "replace").decode("utf-8", "replace")) for name in opened}
    inside = {name for name in opened if name.startswith(f"{media_folder}{os.sep}")}
    strange = {name for name in inside if not any(name == clip or name.startswith(clip + os.sep) for clip in ours)}
    return [f"opened {name}" for name in sorted(strange)] + [
        line for line in trace.splitlines() if CONNECTED.search(line)
    ]


@dataclass(frozen=True)
class Row:
    """What one clip gives for one embedding.

    Attributes:
        values: The embedding as bytes, None if it is not present.
        reason: Reason of the failure, "" without one.
    """

    values: bytes | None
    reason: str

    @property
    def state(self) -> str:
        """present, failed, absent, or what must not be."""
        if self.values is not None and self.reason:
            return "present and failed"
        return "present" if self.values is not None else "failed" if self.reason else "absent"


@dataclass(frozen=True)
class Alone:
    """One clip embedded alone: how that ended, what it gave, and whether the file has sound and pictures."""

    ended: Ended
    rows: Mapping[str, Row]
    streams: Mapping[str, bool]

    def fault(self) -> str:
        """What is wrong with how it ended; "" if nothing is."""
        if why := self.ended.fault((0,)):
            return f"alone: {why}"
        num_bytes = self.ended.worker_peak_bytes
        return f"alone: takes {num_bytes / 2**20:.0f} MiB" if num_bytes > MAX_BYTES else ""


def all_alone(media_folder: Path, media: Sequence[Medium]) -> list[Alone]:
    """Each clip embedded alone, in a process of its own, two side by side."""
    encoders = {name: build_encoder(spec, name) for name, spec in ENCODERS.items()}
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda i: one_alone(media_folder, media[i], encoders, f"alone-{i}"), range(len(media))))


def one_alone(media_folder: Path, medium: Medium, encoders: Mapping[str, Encoder], name: str) -> Alone:
    """One clip embedded alone."""
    path, result = media_folder / medium.path, media_folder.parent / name

    def embed() -> None:
        times = (float(each) if each else None for each in (medium.start, medium.end))
        clip, found = ClipFiles({"audio": path, "video": path}, *times), {}
        embed_batches([clip], ["0"], encoders, lambda _, rows: found.update(rows), device=torch.device("cpu"))
        rows = {
            name: Row(
                each.values[0].tobytes() if each.present[0] else None,
                "; ".join(failure.reason for failure in each.failures),
            )
            for name, each in found.items()
        }
        streams = {}
        if any(row.state == "absent" for row in rows.values()):
            seen = decode(path)
            streams = {"audio": seen.has_audio, "video": seen.has_video}
        result.write_bytes(pickle.dumps((rows, streams)))

    ended = run_child(embed, SECONDS_ALONE)
    rows, streams = pickle.loads(result.read_bytes()) if result.exists() else ({}, {})
    result.unlink(missing_ok=True)
    return Alone(ended, rows, streams)


def states(cache_path: Path, num_clips: int) -> list[dict[str, Row]]:
    """What each clip gave for each embedding, from the cache."""
    rows: list[dict[str, Row]] = [{} for _ in range(num_clips)]
    with Cache.open(cache_path) as cache:
        for name in ENCODERS:
            values, present, reasons = cache.embedding(name), cache.present(name), cache.reasons(name)
            for i, row in enumerate(rows):
                row[name] = Row(values[i].tobytes() if present[i] else None, reasons.get(str(i), ""))
    return rows


def whole_modalities(medium: Medium) -> set[str]:
    """Modalities that a file surely has, undamaged; none if that is not known, or if only a part of it is read."""
    if medium.start or medium.end:
        return set()
    _, tracks = WHOLE.get(medium.path.removeprefix("whole-"), ("", ()))
    return {"audio" if isinstance(track, Sound) else "video" for track in tracks}


def difference(name: str, row: Row, alone: Alone, *, must_be_present: bool) -> str:
    """What is wrong with an embedding of a clip; "" if nothing is."""
    if row.state == "present and failed":
        return f"is present and failed: {row.reason}"
    if must_be_present and row.state != "present":
        return f"is {row.state}, though the file is whole: {row.reason}"
    if name not in alone.rows:
        return ""  # said of the clip
    if row.state != (state := alone.rows[name].state):
        return f"is {row.state} among others and {state} alone: {row.reason or alone.rows[name].reason}"
    if row.values != alone.rows[name].values:
        return "differs from itself alone"
    if row.state == "absent" and alone.streams.get(MODALITY[name]):
        return f"is absent, though the file has {MODALITY[name]}"
    return ""
