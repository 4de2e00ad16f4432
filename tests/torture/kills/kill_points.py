"""Kill commands just before changes of the file system, give them again, and compare with an uninterrupted one.

The second command must end well, leave nothing but results, and every file must be equal to the bit. Curves of
TensorBoard carry the times of their events by design: of them, the values are compared. No other file has a time.
"""

from __future__ import annotations

import importlib.util
import random
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..child import Ended
from ..damage import differences
from ..report import Outcome, scaled
from .changes import Changes, unexplained
from .commands import CASES, ON_RAY, SECONDS, Case, finished, prepared, restored, start
from .curves import EVENTS, curves

SHORT = 100  # a command with at most as many changes is killed before each of them in the long form
MOST = 20  # points of a longer one, those of every kind among them
MOST_OF_VARIANT, MOST_OF_SLOW = 15, 4
NOT_KILLED = "not killed"


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

    def chosen(self, scale: float, seed: int) -> list[int]:
        """Numbers of all changes of a short command; of others one of each kind, and more at random.

        Of a variant, there are at most `MOST_OF_VARIANT`: what it changes is also changed by the case that it varies.
        Of one that is slow, there are `MOST_OF_SLOW`.
        """
        if len(self.changes) <= scaled(SHORT, scale) and not (self.case.is_variant or self.case.is_slow):
            return [*range(1, len(self.changes) + 1)]
        rng, most, kinds = random.Random(seed), scaled(MOST, scale), dict[tuple[str, str], int]()
        numbers = [*range(1, len(self.changes) + 1)]
        rng.shuffle(numbers)
        for number in numbers:
            kinds.setdefault(_kind(self.changes[number - 1]), number)
        others = [number for number in numbers if number not in kinds.values()]
        chosen = [*kinds.values(), *others[: max(0, most - len(kinds))]]
        limit = MOST_OF_SLOW if self.case.is_slow else MOST_OF_VARIANT if self.case.is_variant else len(chosen)
        return sorted(chosen[:limit])

    def few(self, seed: int) -> list[int]:
        """Numbers for the short form: the last change, and one at random; of long commands, that alone."""
        last = len(self.changes)
        one = random.Random(seed).randint(1, last)
        return [one] if last > SHORT or self.case.is_slow else sorted({one, last})

    def lost(self, number: int) -> str:
        """Kill before a change and give the command again.

        Returns:
            What was lost, "" if nothing was; `NOT_KILLED` if the command made fewer changes this time and ended well.
        """
        restored(self._state, self._home)
        killed = self._run(number)
        if killed.code != -signal.SIGKILL and not killed.fault((0,)):
            return NOT_KILLED
        again = finished(self._home, self.case.command, self.case.num_threads)
        differing = differences(self._whole, self._home, without=(EVENTS,))
        if killed.code != -signal.SIGKILL or killed.stopped:
            what = f"not killed, but {killed.fault((0,))}"
        elif again.fault((0,)):
            what = f"then {again.fault((0,))}"
        elif killed.orphans:
            what = "its processes stayed"
        elif differing:
            what = f"then differs in {', '.join(differing)}"
        elif curves(self._home) != self._curves:
            what = "then curves differ"
        else:
            return ""
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
        return start(self._home, self.case.command, watch, self.case.num_threads).wait(
            SECONDS, grace_seconds=self.case.grace_seconds
        )

    @staticmethod
    def _keep(folder: Path, copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy, symlinks=True)


def _kind(change: str) -> tuple[str, str]:
    """What is done, and the name of the file without what differs between runs, folds, modalities and times."""
    what, *names = change.split(" ")
    name = re.sub(r"^(audio|video)/", "", "/".join(Path(names[-1]).parts[-2:]))
    return what, re.sub(r"[^/]*(seed|fold-|clips/|_(?=[0-9a-f]{8}$)|tfevents)[\w.-]*", r"\1", name)


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Kill short commands before every change at scale 1, and longer ones before `MOST`; but for trainings."""
    on_cluster = [] if importlib.util.find_spec("ray") is None else [ON_RAY]
    yield from run_cases([case for case in CASES if not is_training(case)] + on_cluster, seed, scale, folder)


def is_training(case: Case) -> bool:
    """Whether a case trains encoders, which takes as long as all others: `training_kill_points` has these."""
    return case.command[0] == "train-encoders"


def run_cases(cases: Sequence[Case], seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Outcome of each case."""
    for case in cases:
        own = folder / re.sub(r"\W+", "-", case.name)
        own.mkdir()
        points = Points(case, own)
        numbers = points.chosen(scale, seed)
        found = [points.lost(number) for number in numbers]
        tries = len(found) - found.count(NOT_KILLED)
        lost = [text for text in found if text not in ("", NOT_KILLED)]
        lost += [f"{case.name}: {name} was changed by no change that was counted" for name in points.unexplained()]
        lost += [f"{case.name}: no command was killed"] if not tries else []
        note = f"before {tries} of {len(points.changes)} changes of the file system"
        note += f", {found.count(NOT_KILLED)} not killed" if NOT_KILLED in found else ""
        yield Outcome(f"kills, amr {case.name}", tries, tuple(lost), note)
        shutil.rmtree(own)
