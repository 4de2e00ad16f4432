"""Failures of an extraction that is still running: a file of JSON lines next to its output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from amr.common.files import write_text

TEXTS = ("fingerprint", "id", "modality", "reason")


@dataclass(frozen=True)
class Failure:
    """A clip with a modality that could not be embedded.

    Attributes:
        row: Row of the clip.
        id: Id of the clip.
        modality: Modality that failed.
        reason: Reason, in words.
    """

    row: int
    id: str
    modality: str
    reason: str


class Journal:
    """An append-only file of failures, of which only those of finished clips count.

    A line is on disk before its batch is marked done. A line without the mark belongs to a batch that a kill
    interrupted and that is extracted again. A torn last line is one of these.

    Args:
        output: File that is being extracted.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.failures.jsonl")

    def append(self, fingerprint: str, failures: Iterable[Failure]) -> None:
        """Add failures of the embedding with this fingerprint."""
        lines = [json.dumps(asdict(failure) | {"fingerprint": fingerprint}) + "\n" for failure in failures]
        if not lines:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    def compact(self, done: Mapping[str, np.ndarray]) -> None:
        """Drop lines of clips that are not done or that belong to another file.

        Args:
            done: Fingerprint -> `(clips,)` bool.
        """
        if not self.path.exists():
            return
        lines = self._lines(done)
        if not lines:
            self.remove()
            return
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def read(self, done: Mapping[str, np.ndarray]) -> list[Failure]:
        """Failures so far, of clips that are done.

        Args:
            done: Fingerprint -> `(clips,)` bool.
        """
        entries = [json.loads(line) for line in self._lines(done)]
        return [Failure(entry["row"], entry["id"], entry["modality"], entry["reason"]) for entry in entries]

    def remove(self) -> None:
        """Delete the file. Its failures must be in the cache by now."""
        self.path.unlink(missing_ok=True)

    def _lines(self, done: Mapping[str, np.ndarray]) -> list[str]:
        if not self.path.exists():
            return []
        return [
            line
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            if _is_done(line, done)
        ]


def _is_done(line: str, done: Mapping[str, np.ndarray]) -> bool:
    """Whether a line is a failure of a clip that is done: neither torn, nor written by another program."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in TEXTS):
        return False
    of, row = done.get(entry["fingerprint"]), entry.get("row")
    return of is not None and isinstance(row, int) and 0 <= row < len(of) and bool(of[row])
