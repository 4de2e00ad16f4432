"""Two and three of the same command at once: one works and the others say so, or all work, and the result is the same.

Nothing is left besides the results, which are equal to the bit to those of one command alone.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..damage import differences
from ..report import Outcome, scaled
from .commands import CASES, SECONDS, Case, finished, prepared, restored, start
from .curves import EVENTS, curves

MOST = 4  # rounds of each case and number of commands in the long form
NAMES = (
    "extract",
    "extract, one more embedding",
    "import",
    "fit",
    "fit --out",
    "sweep",
    "table",
    "evaluate a sweep",
    "report",
    "train-encoders",
    "train-encoders, a list",
)
SENTENCES = r"by one \w+ at a time|must be a new file|waiting for"


class Writers:
    """Commands of a case at once, in an empty folder."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self._home, self._state, self._whole = (folder / name for name in ("home", "state", "whole"))
        self._home.mkdir()
        prepared(case, self._home)
        shutil.copytree(self._home, self._state)
        if fault := finished(self._home, case.command, case.num_threads).fault((0,)):
            raise RuntimeError(f"amr {' '.join(case.command)}: {fault}")
        shutil.copytree(self._home, self._whole)

    def lost(self, number: int) -> list[str]:
        """Start the command `number` times at once; what was lost."""
        restored(self._state, self._home)
        children = [start(self._home, self.case.command, num_threads=self.case.num_threads) for _ in range(number)]
        ended = [child.wait(SECONDS) for child in children]
        lost = [fault for each in ended if (fault := each.fault())]
        lost += [each.stderr.strip() for each in ended if each.code != 0 and not re.search(SENTENCES, each.stderr)]
        if all(each.code != 0 for each in ended):
            lost.append("none of them ended well")
        lost += [f"differs in {name}" for name in self._differences(number)]
        return [f"{number} of amr {self.case.name} at once: {text}" for text in lost]

    def _differences(self, number: int) -> list[str]:
        if self.case.name == "fit":  # each makes a run of its own
            (folder,) = (self._whole / "runs").iterdir()
            runs = [*(self._home / "runs").iterdir()]
            differing = {
                name for run in runs for name in differences(folder, run, without=("config.json", "SHA256SUMS"))
            }
            return sorted(differing) + ([] if len(runs) == number else [f"{len(runs)} runs"])
        differing = differences(self._whole, self._home, without=(EVENTS,))
        return differing or (["curves"] if curves(self._whole) != curves(self._home) else [])


def run(seed: int, scale: float, folder: Path) -> list[Outcome]:
    """Start two and three of each command at once, `MOST` times at scale 1."""
    outcomes = []
    for case in (case for case in CASES if case.name in NAMES):
        own = folder / re.sub(r"\W+", "-", case.name)
        own.mkdir()
        writers = Writers(case, own)
        rounds = [number for number in (2, 3) for _ in range(scaled(MOST, scale))]
        lost = tuple(text for number in rounds for text in writers.lost(number))
        outcomes.append(Outcome(f"two and three at once, amr {case.name}", len(rounds), lost))
        shutil.rmtree(own)
    return outcomes
