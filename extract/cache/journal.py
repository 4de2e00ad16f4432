"""Failures of an extraction that is still running: a file of JSON lines next to its output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        lines = [json.dumps(vars(failure) | {"fingerprint": fingerprint}) + "\n" for failure in failures]
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
        lines = [line for line, _ in self._entries(done)]
        if not lines:
            self.remove()
            return
        write_text(self.path, "".join(f"{line}\n" for line in lines), durable=True)  # their clips are marked done

    def read(self, done: Mapping[str, np.ndarray]) -> list[Failure]:
        """Failures so far, of clips that are done.

        Args:
            done: Fingerprint -> `(clips,)` bool.
        """
        return [
            Failure(entry["row"], entry["id"], entry["modality"], entry["reason"]) for _, entry in self._entries(done)
        ]

    def remove(self) -> None:
        """Delete the file. Its failures must be in the cache by now."""
        self.path.unlink(missing_ok=True)

    def _entries(self, done: Mapping[str, np.ndarray]) -> list[tuple[str, dict[str, Any]]]:
        """Each line that is a failure of a clip that is done, and what it says."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [(line, entry) for line in lines if (entry := _entry(line, done)) is not None]


def _entry(line: str, done: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Content of a line; None if it is torn, written by another program, or of a clip that is not done."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in TEXTS):
        return None
    of, row = done.get(entry["fingerprint"]), entry.get("row")
    return entry if of is not None and isinstance(row, int) and 0 <= row < len(of) and of[row] else None
