"""Flip bits of finished runs, sweeps, tables, frontiers and trainings, and cut their files; then read them.

Each command must end as on whole files, to the bit, or refuse in one sentence; a sweep fits a damaged member again, and
says so. What `amr runs` lists as damaged counts as refused. Commands that print results are judged by these and by the
exit status alone, whatever they say.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..child import Ended
from ..damage import differences, flips, tenths
from ..kills.commands import FAST, FIT, IMPORT, JOINT, SWEEP, TRAIN, Arguments, embeddings, finished, media, restored
from ..report import Outcome, scaled

NUM_FLIPS, NUM_CUTS = 200, 120
CURVES = ("events.out.tfevents.*",)
UNREAD = ("*.png", "*.h5", "frontier.csv", "evaluation.csv", "table.csv", "table.md", "table.tex", *CURVES)
PRINT_RESULTS = ("predict", "evaluate", "explain", "report")
STORE = "--store=store"
MINE, FOLDS = (*FIT, "--out=mine"), (*FIT, "--out=folds", "--folds=3")
SWEPT = (*SWEEP, "--out=swept", "--amr-ratio=none,1:1")
FRONT = ("frontier", "--cache=c", "--epochs=1", "--seeds=1", "--folds=0", "--out=front")
TABLE = ("table", "--cache=c", *FAST, "--seeds=1", "--method=naive", "--out=tab")
TRAINED = (*JOINT, "--out=enc", STORE)
ALONE = (*TRAIN, "--out=alone", STORE)
MORE = (*JOINT, "--out=enc", STORE, "--epochs=3")


def _evaluate(name: str) -> Arguments:
    return ("evaluate", name, "--noise-draws=1", "--bootstrap=0", "--device=cpu", "--json")


def _readers(name: str, clip: str) -> tuple[Arguments, ...]:
    """Commands that read a folder of results, the quick ones more often."""
    predict = ("predict", name, clip, "--device=cpu", "--json")
    listed, page = ("runs", "--json"), ("report", name, "--no-media", "--out=page.html")
    return (predict, listed, page, predict, listed, page, _evaluate(name))


@dataclass(frozen=True)
class Home:
    """A workspace with results.

    Attributes:
        inputs: Function that writes the data.
        before: Commands that make the results.
        readers: Folder below the workspace, to the commands that read what is there.
    """

    inputs: Callable[[Path], None]
    before: tuple[Arguments, ...]
    readers: dict[str, tuple[Arguments, ...]]


HOMES = (
    Home(
        embeddings,
        (IMPORT, MINE, FOLDS, SWEPT, _evaluate("swept"), FRONT, TABLE),
        {
            "runs/mine": (*_readers("mine", "c05"), ("explain", "mine", "c05", "--device=cpu", "--json"), MINE),
            "runs/folds": _readers("folds", "c05"),
            "runs/swept": (*_readers("swept", "c05"), ("frontier", "--runs=swept"), SWEPT),
            "runs/front": (*_readers("front", "c05"), FRONT),
            "runs/tab": (*_readers("tab", "c05"), TABLE),
        },
    ),
    Home(
        media,
        (TRAINED,),
        {
            "encoders/enc": (
                *_readers("enc", "media/clips/00003.mp4"),
                ("extract", "--manifest=manifest.csv", "--encoder=audio=trained:enc", "--out=new.h5", "--workers=0"),
                TRAINED,
                MORE,
            ),
            "store": (ALONE,),
        },
    ),
)


@dataclass(frozen=True)
class Try:
    """One damaged file, and the command that reads it.

    Attributes:
        file: Path below the workspace.
        name: What was done to it.
        content: Its bytes now.
        command: Command.
    """

    file: str
    name: str
    content: bytes
    command: Arguments

    def __str__(self) -> str:
        return f"{self.file}, {self.name}: amr {' '.join(self.command)}"


class Workspace:
    """Results that are damaged, one file at a time.

    Args:
        home: What is made.
        folder: Empty folder to work in.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self._home, self._folder = home, folder
        self._work, self._state = folder / "work", folder / "state"
        self._work.mkdir(parents=True)
        home.inputs(self._work)
        for arguments in home.before:
            _must_end_well(finished(self._work, arguments), arguments)
        shutil.copytree(self._work, self._state, symlinks=True)
        self._whole: dict[Arguments, tuple[Ended, Path]] = {}

    def files(self) -> list[tuple[str, Sequence[Arguments]]]:
        """Files that commands read, and those commands. Of the members of a sweep, those of the first."""
        return [
            (str(path.relative_to(self._state)), commands)
            for place, commands in self._home.readers.items()
            for path in sorted((self._state / place).rglob("*"))
            if path.is_file() and path.stat().st_size > 0 and not any(path.match(pattern) for pattern in UNREAD)
            if not any(path.is_relative_to(member) for member in sorted((self._state / place).glob("runs/*"))[1:])
        ]

    def content(self, file: str) -> bytes:
        """Bytes of a file before it is damaged."""
        return (self._state / file).read_bytes()

    def outcome(self, each: Try) -> tuple[str, str]:
        """What a try ended in: "equal", "refused", "healed" or "lost", and why it is lost."""
        whole, after = self._undamaged(each.command)
        restored(self._state, self._work)
        (self._work / each.file).write_bytes(each.content)
        ended = finished(self._work, each.command)
        if fault := ended.fault():
            return "lost", fault
        changed = [name for name in differences(self._work, after, without=CURVES) if name != each.file]
        if ended.code == whole.code and changed:
            return "lost", f"other results: {', '.join(changed[:3])}"
        return judged(each.command, ended, whole)

    def _undamaged(self, command: Arguments) -> tuple[Ended, Path]:
        """How a command ends on whole files, and the workspace after it."""
        if command not in self._whole:
            restored(self._state, self._work)
            ended = finished(self._work, command)
            _must_end_well(ended, command)
            after = self._folder / f"after-{len(self._whole)}"
            shutil.copytree(self._work, after, symlinks=True)
            self._whole[command] = ended, after
        return self._whole[command]


def judged(command: Arguments, ended: Ended, whole: Ended) -> tuple[str, str]:
    """What the output of a command on damaged files amounts to, beside that on whole ones, and why it is lost."""
    if ended.code != whole.code:
        return ("refused", "") if ended.code in (1, 2) else ("lost", f"exit status {ended.code}")
    is_said = "damaged" in ended.stdout + ended.stderr
    if _printed(ended) == _printed(whole):
        return ("healed" if is_said else "equal"), ""
    if not is_said or command[0] in PRINT_RESULTS:
        return "lost", f"prints {ended.stdout[:100]!r}"
    return ("refused" if command[0] == "runs" else "healed"), ""


def _printed(ended: Ended) -> list[str]:
    """Lines of a command's output, without times."""
    return [line for line in ended.stdout.splitlines() if not line.startswith(("seconds:", "clips_per_second:"))]


def _must_end_well(ended: Ended, arguments: Arguments) -> None:
    if ended.code != 0:
        raise RuntimeError(f"amr {' '.join(arguments)}: {ended.fault((0,))}")


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """Damage the files of each workspace. The tries are spread evenly over them."""
    spaces = [Workspace(home, folder / str(number)) for number, home in enumerate(HOMES)]
    places = [(space, file, commands) for space in spaces for file, commands in space.files()]
    rng = random.Random(seed)
    rng.shuffle(places)
    for kind, damage, most in (("flips", _flipped, NUM_FLIPS), ("truncation", _cut, NUM_CUTS)):
        most = scaled(most, scale)
        counts = {"equal": 0, "refused": 0, "healed": 0, "lost": 0}
        lost = []
        for index in range(most):
            space, file, commands = places[index % len(places)]
            turn, number = divmod(index, len(places))  # files of one kind are cut at different tenths
            name, content = damage(space.content(file), turn + number, seed)
            each = Try(file, name, content, rng.choice(commands))
            ended, why = space.outcome(each)
            counts[ended] += 1
            lost += [f"{each}: {why}"] if why else []
        note = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name != "lost")
        yield Outcome(f"{kind} of runs, sweeps and trainings", most, tuple(lost), note)


def _flipped(content: bytes, index: int, seed: int) -> tuple[str, bytes]:
    return next(flips(content, 1, seed + 1000 * index + len(content)))


def _cut(content: bytes, index: int, seed: int) -> tuple[str, bytes]:
    return [*tenths(content)][(index + seed) % 11]
