"""The parts of `python benchmarks/gpu`: commands with a time limit and an aim."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_END = 5
MISSING = re.compile(r"No module named '?([\w.]+)'?")
OWN = ("amr", "rounds", "sweep", "step", "encoders", "extraction", "tests")  # missing, these are faults


@dataclass(frozen=True)
class Part:
    """A command.

    Args:
        title: Heading in the report.
        aim: What the figures are to be compared with.
        seconds: Time limit.
        command: Function from the device and the scale to the arguments of Python.
    """

    title: str
    aim: str
    seconds: float
    command: Callable[[str, float], tuple[str, ...]]


@dataclass(frozen=True)
class Outcome:
    """What came of a part.

    Args:
        part: The part.
        command: Its command, as typed.
        summary: Done, failed, out of time or left out, and why.
        failed: Whether it failed or ran out of time.
        output: Text that it printed.
        errors: Last lines of its error output.
        seconds: Seconds that it took.
    """

    part: Part
    command: str
    summary: str
    failed: bool
    output: str = ""
    errors: str = ""
    seconds: float = 0.0


def run_part(part: Part, device: str, scale: float, seconds_left: float) -> Outcome:
    """Run a part in a process group of its own, at most as long as it may and as there is time."""
    arguments = part.command(device, scale)
    typed = shlex.join(["python", *arguments])
    limit = seconds_left - SECONDS_TO_END
    limit = min(part.seconds, limit) if device == "cuda" else limit
    if limit < 10:
        return Outcome(part, typed, "left out: no time was left", failed=False)
    began = time.monotonic()
    paths = [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "160"}
    environment |= {"PYTHONUNBUFFERED": "1", "GPU_PART_SECONDS": f"{limit:.0f}"}
    environment |= {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    seconds = time.monotonic() - began
    summary, failed = _summary(status, errors, limit)
    return Outcome(part, typed, summary, failed, output, errors if failed else "", seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and its own; it may say where it was."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_END)


def _summary(status: int | None, errors: str, limit: float) -> tuple[str, bool]:
    """What came of a part, and whether it failed."""
    if status is None:
        return f"out of time after {limit:.0f} s", True
    if status == 0:
        return "done", False
    last = errors.strip().splitlines()[-1] if errors.strip() else f"exit status {status}"
    missing = MISSING.search(last)
    if missing and missing[1].split(".")[0] not in OWN:
        return f"left out: Python has no package {missing[1]}", False
    return f"failed: {last}", True


def _scaled(number: int, scale: float, least: int = 1) -> str:
    return str(max(least, round(number * scale)))


def _tests(device: str, scale: float) -> tuple[str, ...]:
    files = ["tests/gpu", "tests/fusion/train/test_graphs.py"]
    files += ["tests/fusion/evaluate/test_evaluate.py", "tests/test_determinism.py"] if find_spec("av") else []
    chosen = files if device == "cuda" else ["tests/gpu/test_training.py", "-k", "test_steps_in_time and shapley"]
    quiet = ("-q", "-rs", "-p", "no:cacheprovider", "--continue-on-collection-errors", "--tb=short")
    return ("-m", "pytest", *quiet, "-m", "gpu", *chosen)


PARTS = {
    "tests": Part("Tests", "All pass; what a missing package leaves out is named.", 120, _tests),
    "graphs": Part(
        "Recorded graphs against ordinary steps",
        "Recorded steps are kept if they are at least 2 times as fast, else they go.",
        50,
        lambda device, s: (
            "benchmarks/gpu/graphs.py",
            "--device",
            device,
            "--steps",
            _scaled(100, s, 2),
            "--scale",
            str(s),
        ),
    ),
    "sweep": Part(
        "The sweep against the loop",
        "50 times as fast as the in-memory loop.",
        60,
        lambda device, s: (
            *("benchmarks/gpu/recorded_sweep.py", "--device", device, "--rounds", "1", "--loop-only-memory"),
            *("--clips", _scaled(5954, s, 128), "--hidden", f"0,{_scaled(256, s)}"),
        ),
    ),
    "step": Part(
        "AMR's step",
        "2.2 times a plain step for one linear head, 2.6 for a hidden layer, 4.5 for linear heads in a group.",
        50,
        lambda device, s: (
            *("benchmarks/step.py", "--device", device, "--rounds", _scaled(3, s)),
            *("--runs", "1,65" if s == 1 else "2", "--steps", _scaled(20, s)),
        ),
    ),
    "table": Part(
        "Table 1, 10 seeds, at VGGSound's size",
        "2 minutes.",
        150,
        lambda device, s: ("benchmarks/gpu/table.py", "--device", device, "--scale", str(s)),
    ),
    "encoding": Part(
        "Encoding: pinned memory and autocast",
        "No slower pinned than pageable; autocast faster than float32.",
        30,
        lambda device, s: (
            *("benchmarks/gpu/encoding.py", "--device", device, "--clips", _scaled(256, s, 2)),
            *("--frames", _scaled(8, s), "--rounds", _scaled(3, s)),
        ),
    ),
    "extraction": Part(
        "Extraction: overlap of decoding and encoding",
        "0.9 of the slower of the two.",
        60,
        lambda device, s: (
            *("benchmarks/extraction.py", "--device", device, "--rounds", "1", "--clips", _scaled(128, s, 2)),
        ),
    ),
    "training": Part(
        "Training encoders in bfloat16",
        "Faster than in float32, at nearly the same loss.",
        50,
        lambda device, s: (
            *("benchmarks/gpu/bfloat16.py", "--device", device, "--steps", _scaled(8, s)),
            *("--batch", _scaled(64, s, 2), "--dataset", "crema-d,vggsound" if s == 1 else "crema-d"),
        ),
    ),
}
