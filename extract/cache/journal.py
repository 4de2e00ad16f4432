"""Failures of an extraction that is still running, one JSON line each, beside what it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from amr.common.files import write_text


@dataclass(frozen=True)
class Failure:
    """A clip whose modality is there and could not be embedded.

    Attributes:
        row: of the clip.
        id: of the clip.
        modality: that failed.
        reason: in words.
    """

    row: int
    id: str
    modality: str
    reason: str


class Journal:
    """An append-only file of failures; only those of clips that are done count.

    A line is on disk before its batch is marked done: a line without the mark belongs to a batch that a kill
    cut short and that is extracted again, and a torn last line is one of those.

    Args:
        beside: the file that it belongs to.
    """

    def __init__(self, beside: Path) -> None:
        self.path = beside.with_name(f"{beside.name}.failures.jsonl")

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
        """Drop the lines of clips that are not done, or that belong to another file.

        Args:
            done: fingerprint -> bool `(clips,)`.
        """
        if not self.path.exists():
            return
        kept = self._lines(done)
        if not kept:
            self.remove()
            return
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def read(self, done: Mapping[str, np.ndarray]) -> list[Failure]:
        """The failures so far of clips that are done.

        Args:
            done: fingerprint -> bool `(clips,)`.
        """
        entries = [json.loads(line) for line in self._lines(done)]
        return [Failure(entry["row"], entry["id"], entry["modality"], entry["reason"]) for entry in entries]

    def remove(self) -> None:
        """Delete the file, once its failures are in the cache."""
        self.path.unlink(missing_ok=True)

    def _lines(self, done: Mapping[str, np.ndarray]) -> list[str]:
        if not self.path.exists():
            return []
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["fingerprint"] in done and done[entry["fingerprint"]][entry["row"]]:
                kept.append(line)
        return kept
