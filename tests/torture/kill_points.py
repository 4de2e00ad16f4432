"""Kill commands just before changes of the file system, give them again, and compare with an uninterrupted one.

The second command must end well, leave nothing but results, and every file must be equal to the bit. Curves of
TensorBoard carry the times of their events by design: of them, the values are compared. No other file has a time.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from .changes import Changes, unexplained
from .child import Ended
from .commands import CASES, SECONDS, Case, finished, prepared, real_cases, restored, start
from .curves import EVENTS, curves
from .damage import differences
from .report import Outcome, scaled

MOST = 40  # points of a case in the long form; those of every kind are among them


class Points:
    """The points of a case: the changes that its command makes.

    Args:
        case: Case.
        folder: Empty folder to work in.

    Raises:
        RuntimeError: A command that is not killed fails.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        names = ("home", "state", "whole", "changes")
        self._home, self._state, self._whole, self._log = (folder / name for name in names)
        self._home.mkdir()
        prepared(case, self._home)
        self._keep(self._home, self._state)
        self.changes = self._all_changes()
        self._keep(self._home, self._whole)
        if case.killed:
            restored(self._state, self._home)
            self._run(len(self.changes) // 2)
            self._keep(self._home, self._state)
            self.changes = self._all_changes()

    def unexplained(self) -> list[str]:
        """Files that the command left and that no counted change explains; there must be none."""
        return unexplained(differences(self._state, self._whole), self.changes)

    def chosen(self, most: int, seed: int) -> list[int]:
        """Numbers of one change of each kind, and of more, at random, up to `most`."""
        rng, kinds = random.Random(seed), {}
        numbers = [*range(1, len(self.changes) + 1)]
        rng.shuffle(numbers)
        for number in numbers:
            kinds.setdefault(_kind(self.changes[number - 1]), number)
        others = [number for number in numbers if number not in kinds.values()]
        return sorted([*kinds.values(), *others[: max(0, most - len(kinds))]])

    def few(self, number: int, seed: int) -> list[int]:
        """Numbers of the first and the last change, and of others at random, for the short form."""
        last = len(self.changes)
        return sorted({1, last, *random.Random(seed).sample(range(1, last + 1), min(last, number - 2))})

    def lost(self, number: int) -> str | None:
        """Kill before a change and give the command again; what was lost, None if nothing was."""
        restored(self._state, self._home)
        killed = self._run(number)
        again = finished(self._home, self.case.command, self.case.num_threads)
        differing = differences(self._whole, self._home, without=(EVENTS,))
        if again.fault((0,)):
            what = f"then {again.fault((0,))}"
        elif killed.orphans:
            what = "its processes stayed"
        elif differing:
            what = f"then differs in {', '.join(differing)}"
        elif curves(self._home) != self._curves:
            what = "then curves differ"
        else:
            return None
        return f"{self.case.name}: killed before change {number} ({self.changes[number - 1]}): {what}"

    @cached_property
    def _curves(self) -> dict[str, Any]:
        return curves(self._whole)

    def _all_changes(self) -> list[str]:
        ended = self._run(None)
        if fault := ended.fault((0,)):
            raise RuntimeError(f"amr {' '.join(self.case.command)}: {fault}")
        return self._log.read_text().splitlines()

    def _run(self, number: int | None) -> Ended:
        watch = partial(Changes, self._home, self._log, number)
        return start(self._home, self.case.command, watch, self.case.num_threads).wait(SECONDS)

    @staticmethod
    def _keep(folder: Path, copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy, symlinks=True)


def _kind(change: str) -> tuple[str, str]:
    """What is done, and the name of the file without what differs between runs, folds and times."""
    what, *names = change.split(" ")
    name = "/".join(Path(names[-1]).parts[-2:])
    return what, re.sub(r"(seed|fold-|clips/|_(?=[0-9a-f]{8}$)|tfevents)[\w.-]*", r"\1", name)


def run(seed: int, scale: float, folder: Path, cases: Sequence[Case] | None = None) -> list[Outcome]:
    """Kill every case before a change of every kind and before more, up to `MOST` at scale 1."""
    outcomes = []
    for case in [*CASES, *real_cases(scaled(12, scale))] if cases is None else cases:
        own = folder / re.sub(r"\W+", "-", case.name)
        own.mkdir()
        points = Points(case, own)
        numbers = points.chosen(scaled(MOST, scale), seed)
        lost = [text for number in numbers if (text := points.lost(number)) is not None]
        lost += [f"{case.name}: {name} was changed by no change that was counted" for name in points.unexplained()]
        note = f"of {len(points.changes)} changes of the file system"
        outcomes.append(Outcome(f"kills, amr {case.name}", len(numbers), tuple(lost), note))
        shutil.rmtree(own)
    return outcomes
