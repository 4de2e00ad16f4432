"""A disk that is full: every command says so in one sentence, and goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .kills.commands import finished, media
from .kills.curves import EVENTS
from .report import Outcome, scaled

SECONDS = 300
KIB = 1024
LARGE = 2**28
IMPORT = "import --embeddings audio=audio.npy --embeddings video=video.npy --labels labels.txt"
IMPORT += " --splits train=40,val=10,test=10 --out caches/c.h5"
FIT = "fit --cache c --epochs 2 --device cpu --out mine"
SWEEP = "sweep --cache c --epochs 2 --device cpu --seeds 2 --head concat,sum --out many"
EVALUATE = "evaluate many --bootstrap 0 --noise-draws 1 --device cpu"
EXTRACT = "extract --manifest manifest.csv --device cpu --workers 0 --out caches/c.h5"
EXTRACT += " --encoder audio=logmel --encoder video=frames"
TRAIN = "train-encoders --manifest manifest.csv --device cpu --workers 0 --out mine --epochs 2"
TRAIN += " --encoder audio=timm:test_efficientnet,size=32,weights=random,channels=1"
TRAIN += " --encoder video=timm:test_efficientnet,size=32,weights=random,frames=1"


def embeddings(folder: Path) -> None:
    """Write embeddings of 60 clips, and labels."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 2
    for name in ("audio", "video"):
        np.save(folder / f"{name}.npy", (rng.normal(size=(60, 64)) + target[:, None]).astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"{each}\n" for each in target))


@dataclass(frozen=True)
class Case:
    """A command that meets a full disk, in a workspace that lies on it.

    Attributes:
        command: Command.
        before: Commands that have run before, with room.
        inputs: Function that writes the data.
    """

    command: str
    before: tuple[str, ...] = ()
    inputs: Callable[[Path], None] = embeddings

    def __str__(self) -> str:
        return self.command.split()[0]


CASES = (
    Case(IMPORT),
    Case(FIT, (IMPORT,)),
    Case(EXTRACT, inputs=media),
    Case(TRAIN, inputs=media),
    Case(SWEEP, (IMPORT,)),
    Case(EVALUATE, (IMPORT, SWEEP)),
    Case("report many --out page.html", (IMPORT, SWEEP)),
)


class NoMount(OSError):
    """This process may not mount a disk."""


def run(seed: int, scale: float, folder: Path) -> list[Outcome]:
    """Give each command with ten sizes of what is left of the disk, then with room."""
    outcomes = []
    for case in CASES[: scaled(len(CASES), scale)]:
        own = folder / str(case)
        own.mkdir()
        try:
            outcomes.append(tried(case, scaled(10, scale), own))
        except NoMount as error:
            return [Outcome("disk full", 0, note=f"not tried: {error}")]
    return outcomes


def tried(case: Case, sizes: int, folder: Path) -> Outcome:
    """Give a command with so many sizes of what is left, in an empty folder; one of them at least is too little."""
    start, whole, disk = (folder / name for name in ("start", "whole", "disk"))
    start.mkdir()
    case.inputs(start)
    for each in case.before:
        _must_end_well(each, start)
    used = _bytes(start)
    with _Disk(disk, LARGE):  # in the same place: caches and stores know where their clips are
        shutil.copytree(start, disk / "home")
        _must_end_well(case.command, disk / "home")
        shutil.copytree(disk / "home", whole)
    needed = max(1, _bytes(whole) - used)
    lost: list[str] = []
    full = 0
    for number in range(sizes):
        room = round(needed * (number + 0.5) / sizes)
        with _Disk(disk, used + 64 * KIB * len(list(start.rglob("*"))) + 8 * 2**20) as grown:
            shutil.copytree(start, disk / "home")
            grown.fill(room)
            status, err = _with_little(case.command, disk / "home", as_program=number % 2 == 0)
            what = f"{case} with {room:,} bytes left"
            if status != 0:
                full += 1
                said = [each for each in err.splitlines() if each.startswith("amr: ")]
                if status not in (1, 2) or "Traceback" in err or len(said) != 1 or "disk" not in said[0]:
                    lost.append(f"{what}: exit status {status}: {err[-300:]!r}")
            grown.empty()
            if fault := finished(disk / "home", tuple(case.command.split())).fault((0,)):
                lost.append(f"{what}, then with room: {fault}")
            lost += [f"{what}, then with room: {name}" for name in _differences(whole, disk / "home")]
    if full == 0:
        lost.append(f"{case}: no try met a full disk")
    return Outcome(f"disk full, amr {case}", sizes, tuple(lost), note=f"{full} met a full disk")


def _must_end_well(line: str, folder: Path) -> None:
    if fault := finished(folder, tuple(line.split())).fault((0,)):
        raise RuntimeError(f"amr {line}: {fault}")


def _with_little(line: str, folder: Path, *, as_program: bool) -> tuple[int, str]:
    """Exit status and stderr of a command, as a fork or as people start it: libraries may fail once it has ended."""
    if not as_program:
        ended = finished(folder, tuple(line.split()))
        return ended.code, ended.stderr
    env = os.environ | {"AMR_HOME": ".", "OMP_NUM_THREADS": "1", "TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-m", "amr", *line.split()]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, errors="replace"
    )
    return done.returncode, done.stderr


class _Disk:
    """A file system in memory of a given size, mounted while the block runs."""

    def __init__(self, place: Path, num_bytes: int) -> None:
        self.place = place
        self.num_bytes = num_bytes

    def __enter__(self) -> _Disk:
        self.place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.num_bytes}", "tmpfs", str(self.place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise NoMount(str(error)) from error
        if done.returncode != 0:
            raise NoMount(done.stderr.strip())
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def fill(self, room: int) -> None:
        """Leave about so many bytes."""
        num_bytes = max(0, shutil.disk_usage(self.place).free - room)
        with (self.place / "filler").open("wb") as file:
            for _ in range(num_bytes // KIB):
                file.write(b"\0" * KIB)

    def empty(self) -> None:
        """Make room again."""
        (self.place / "filler").unlink()


def _bytes(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def _differences(expected: Path, found: Path) -> list[str]:
    """Files that are not those of a run on a large disk, to the bit; pictures and times aside."""
    names = [
        {
            path.relative_to(each).as_posix()
            for path in each.rglob("*")
            if path.is_file() and not path.match(EVENTS)  # they have the time in their names
        }
        for each in (expected, found)
    ]
    wrong = [f"{name} is left or missing" for name in sorted(names[0] ^ names[1])]
    compared = [
        name
        for name in sorted(names[0] & names[1])
        if name.endswith((".safetensors", "results.csv", "evaluation.csv", ".h5"))
    ]
    return wrong + [
        f"{name} differs" for name in compared if (expected / name).read_bytes() != (found / name).read_bytes()
    ]
