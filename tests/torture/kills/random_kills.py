"""Kill a command with SIGKILL at random moments, give it again until it ends, and compare with an uninterrupted one.

Point by point, `kill_points` kills between changes of the file system; a random kill also hits amid them, and amid
computing, decoding and the death of workers. Each case gets its number of kills: a round that ends begins anew.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from amr.extract.cache.verify import verify

from ..damage import differences
from ..report import Outcome, scaled
from .commands import CASES, SECONDS, Case, finished, prepared, restored, start
from .curves import EVENTS, curves

KILLED = {
    "extract": ("extract", "extract, one more embedding", "extract, other labels"),
    "train-encoders": ("train-encoders", "train-encoders, joint, umt", "train-encoders, a list"),
}
MOST = 100  # kills of each command in the long form


def kill_at_random(case: Case, num_kills: int, seed: int, folder: Path) -> tuple[list[str], int]:
    """Kill a case at random moments of its running time, again and again.

    Returns:
        What was lost, and the number of rounds that went on to their end.
    """
    home, state, whole = (folder / name for name in ("home", "state", "whole"))
    home.mkdir()
    prepared(case, home)
    shutil.copytree(home, state)
    first = finished(home, case.command, case.num_threads)
    if fault := first.fault((0,)):
        return [f"{case.name}: {fault}"], 0
    shutil.copytree(home, whole)
    expected, rng = curves(whole), random.Random(seed)
    lost: list[str] = []
    kills = rounds = 0
    while kills < num_kills and not lost:
        rounds += 1
        restored(state, home)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL and not lost:
            child = start(home, case.command, num_threads=case.num_threads)
            if kills < num_kills:
                time.sleep(first.seconds * rng.uniform(0, 1.2))
                child.kill()
            result = child.wait(SECONDS)
            code = result.code
            kills += code == -signal.SIGKILL
            faults = [problem for cache in (home / "caches").glob("*.h5") for problem in verify(cache)["problems"]]
            faults += [fault] if code != -signal.SIGKILL and (fault := result.fault((0,))) else []
            faults += ["its processes stayed"] if result.orphans else []
            faults += [result.fault()] if result.stopped else []  # ended by its bound, not by the kill
            lost += [f"{case.name}: after kill {kills} of seed {seed}: {fault}" for fault in faults]
        differing = differences(whole, home, without=(EVENTS,))
        if not lost and (differing or curves(home) != expected):
            lost.append(f"{case.name}: round {rounds} of seed {seed}: differs in {', '.join(differing) or 'curves'}")
    return lost, rounds


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Kill extractions and trainings of encoders, `MOST` times each at scale 1."""
    by_name = {case.name: case for case in CASES}
    for command, names in KILLED.items():
        lost, rounds, each = [], 0, -(-scaled(MOST, scale) // len(names))
        for name in names:
            own = folder / re.sub(r"\W+", "-", name)
            own.mkdir()
            more, ended = kill_at_random(by_name[name], each, seed, own)
            lost, rounds = lost + more, rounds + ended
            shutil.rmtree(own)
        note = f"{rounds} commands went on to their end"
        yield Outcome(f"random kills, amr {command}", each * len(names), tuple(lost), note)
