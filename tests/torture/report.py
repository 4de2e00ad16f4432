"""What a kind of torture hands back.

A kind is a module below this folder with `run`; `KINDS` in `__main__.py` lists them:

    def run(seed: int, scale: float, folder: Path) -> Iterable[Outcome]:
        '''Torture in `folder`, empty at first. `scale` 1 is the long form; .05 does a twentieth of the tries.'''

The same seed and scale make the same tries, random moments of kills apart. `run` raises nothing for a try that is
lost: it is named in `lost`. An exception means that the torture itself is wrong, and counts as lost, too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        kind: What was done, such as "flips of a cache".
        tries: Number of tries.
        lost: The tries that broke a promise, a line each: which one, how to do it again, what was seen.
        note: What else counts, such as "904 refused, 96 harmless".
        peak_bytes: Largest memory of one process, where it was measured.
    """

    kind: str
    tries: int
    lost: tuple[str, ...] = ()
    note: str = ""
    peak_bytes: int | None = None

    @property
    def survived(self) -> int:
        """Number of tries that were not lost."""
        return max(0, self.tries - len(self.lost))


def scaled(number: int, scale: float) -> int:
    """A number of tries at a scale: at least one.

    >>> scaled(1000, 0.05), scaled(10, 0.01)
    (50, 1)
    """
    return max(1, round(number * scale))
