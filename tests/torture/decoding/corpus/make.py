"""The corpus: good, bad and odd media, made once for a seed and kept in a folder.

`python -m tests.torture.decoding.corpus.make FOLDER` makes it, and prints what cannot be written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ...child import run_child
from .broken import broken
from .elsewhere import elsewhere
from .forms import forms
from .odd import odd
from .recipes import Recipe

SECONDS = 120.0
DEFAULT_SEED = 0
WHOLE = "whole-"


def corpus(folder: Path, seed: int, real: Path | None = None, step: int = 1) -> list[str]:
    """Names of the files below a folder, which are made if they are not there. Forms that cannot be written are not.

    Args:
        folder: Absolute folder of the corpus.
        seed: Seed of what is rendered and of where it is damaged.
        real: Folder of real media, None without them.
        step: 1 for all files; n for every n-th, and the whole ones that damaged ones are made from.
    """
    listed = folder / f"corpus-{seed}-{step}.json"
    if not listed.exists():
        every = recipes(folder, seed, real)
        names = make(folder, [each for i, each in enumerate(every) if i % step == 0 or each.name.startswith(WHOLE)])
        listed.write_text(json.dumps(names, indent=0), encoding="utf-8")
    return list(json.loads(listed.read_text(encoding="utf-8")))


def recipes(folder: Path, seed: int, real: Path | None = None) -> list[Recipe]:
    """Every file of the corpus. Damaged ones come after those that they are made from."""
    return [*forms(seed), *odd(seed), *broken(seed, real), *elsewhere(folder, seed)]


def make(folder: Path, recipes: Sequence[Recipe]) -> list[str]:
    """Make files in processes that go on with the next where one crashes: encoders are asked for nonsense here."""
    folder.mkdir(parents=True, exist_ok=True)
    tried = folder / "tried.txt"
    tried.touch()
    for _ in recipes:
        if (begun := tried.read_text().count("begun")) == len(recipes):
            break
        run_child(lambda begun=begun: _make_all(folder, recipes[begun:], tried), SECONDS)
    made = {int(line.split()[1]) for line in tried.read_text().splitlines() if line.startswith("made")}
    tried.unlink()
    return [recipe.name for index, recipe in enumerate(recipes) if index in made]


def _make_all(folder: Path, recipes: Sequence[Recipe], tried: Path) -> None:
    begun = tried.read_text().count("begun")
    for index, recipe in enumerate(recipes, begun):
        with tried.open("a") as log:
            log.write(f"begun {index}\n")
        path = folder / recipe.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            recipe.make(path)
        except Exception as error:
            sys.stderr.write(f"{recipe.name}: {error}\n")
            path.unlink(missing_ok=True)
        else:
            with tried.open("a") as log:
                log.write(f"made {index}\n")


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    found = corpus(place, DEFAULT_SEED)
    sys.stdout.write(f"{len(found)} of {len(recipes(place, DEFAULT_SEED))} can be made here\n")
