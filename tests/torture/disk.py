"""A disk that is full: every command says so in one sentence, and goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .report import Outcome, scaled

SECONDS = 300
KIB = 1024
# commands, and those that must have run before; each runs in a workspace on the small disk
IMPORT = "import --embeddings audio=audio.npy --embeddings video=video.npy --labels labels.txt"
IMPORT += " --splits train=40,val=10,test=10 --out caches/c.h5"
FIT = "fit --cache c --epochs 2 --device cpu --out mine"
SWEEP = "sweep --cache c --epochs 2 --device cpu --seeds 2 --head concat,sum --out many"
EVALUATE = "evaluate many --bootstrap 0 --noise-draws 1 --device cpu"
COMMANDS = (
    (IMPORT, ()),
    (FIT, (IMPORT,)),
    (SWEEP, (IMPORT,)),
    (EVALUATE, (IMPORT, SWEEP)),
    ("report many --out page.html", (IMPORT, SWEEP)),
)


class NoMount(OSError):
    """This process may not mount a disk."""


def run(seed: int, scale: float, folder: Path) -> list[Outcome]:
    """Give each command with ten sizes of what is left of the disk, then with room."""
    lost: list[str] = []
    tries = 0
    refused = 0
    for line, before in COMMANDS[: scaled(len(COMMANDS), scale)]:
        try:
            tried, full, found = _tried(line, before, seed, scaled(10, scale), folder)
        except NoMount as error:
            return [Outcome("disk full", 0, note=f"not tried: {error}")]
        tries, refused, lost = tries + tried, refused + full, lost + found
    return [Outcome("disk full", tries, tuple(lost), note=f"{refused} met a full disk")]


def _tried(line: str, before: tuple[str, ...], seed: int, sizes: int, folder: Path) -> tuple[int, int, list[str]]:
    """Number of tries, of those that met a full disk, and what was lost."""
    start, whole = folder / "start", folder / "whole"
    for each in (start, whole):
        shutil.rmtree(each, ignore_errors=True)
    start.mkdir()
    _inputs(start, seed)
    for each in before:
        _amr(each, start)
    shutil.copytree(start, whole)
    used = _bytes(whole)
    _amr(line, whole)
    needed = max(1, _bytes(whole) - used)
    lost, full = [], 0
    disk = folder / "disk"
    for number in range(sizes):
        room = round(needed * (number + 0.5) / sizes)
        with _Disk(disk, used + 64 * KIB * len(list(start.rglob("*"))) + 8 * 2**20) as grown:
            shutil.copytree(start, disk / "home")
            grown.fill(room)
            status, err = _amr(line, disk / "home", check=False)
            what = f"{line.split()[0]} with {room:,} bytes left"
            if status != 0:
                full += 1
                said = [each for each in err.splitlines() if each.startswith("amr: ")]
                if status not in (1, 2) or "Traceback" in err or len(said) != 1 or "disk" not in said[0]:
                    lost.append(f"{what}: exit status {status}: {err[-300:]!r}")
            grown.empty()
            status, err = _amr(line, disk / "home", check=False)
            if status != 0:
                lost.append(f"{what}, then with room: exit status {status}: {err[-300:]!r}")
            lost += [f"{what}, then with room: {name}" for name in _differences(whole, disk / "home")]
    return sizes, full, lost


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


def _inputs(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = np.arange(60) % 2
    for name in ("audio", "video"):
        np.save(folder / f"{name}.npy", (rng.normal(size=(60, 64)) + target[:, None]).astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"{each}\n" for each in target))


def _amr(line: str, folder: Path, *, check: bool = True) -> tuple[int, str]:
    """Exit status and stderr of a command in a process of its own."""
    env = os.environ | {"AMR_HOME": ".", "OMP_NUM_THREADS": "1", "TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-m", "amr", *line.split()]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, errors="replace"
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{line}: {done.stderr}")
    return done.returncode, done.stderr


def _bytes(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def _differences(expected: Path, found: Path) -> list[str]:
    """Files that are not those of a run on a large disk, to the bit; pictures and times aside."""
    names = [
        {path.relative_to(each).as_posix() for path in each.rglob("*") if path.is_file()} for each in (expected, found)
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
