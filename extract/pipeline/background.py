"""Writing of batches in a background thread, so that the device does not wait for the disk.

Each write waits until the disk has it. Batches of a list of which few files exist hold few clips, so they are joined
until a write holds as many decoded clips as a full batch: a kill costs no more than that.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from amr.extract.cache.writer import CacheWriter, Embedded, joined

BYTES_AT_ONCE = 2**24  # of batches that are joined


@dataclass
class _Rows:
    """Rows of an embedding that are not written yet, one batch after the other."""

    start: int
    parts: list[Embedded] = field(default_factory=list)
    num_decoded: int = 0

    @property
    def stop(self) -> int:
        return self.start + sum(len(part.present) for part in self.parts)

    @property
    def num_bytes(self) -> int:
        return sum(part.values.nbytes for part in self.parts)


class BackgroundWriter:
    """A context manager that writes batches in a background thread; all are written on exit.

    Args:
        writer: Writer of the cache, not to be used elsewhere meanwhile.
        min_decoded: Number of decoded clips that are worth a write.
        max_waiting: Number of batches that may wait for the disk before `put` blocks.
    """

    def __init__(self, writer: CacheWriter, min_decoded: int = 1, max_waiting: int = 4) -> None:
        self._writer = writer
        self._min_decoded = min_decoded
        self._joining: dict[str, _Rows] = {}
        self._waiting: queue.Queue[tuple[str, int, Embedded] | None] = queue.Queue(max_waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)

    def put(self, name: str, start: int, batch: Embedded, num_decoded: int) -> None:
        """Queue rows of an embedding, as for `CacheWriter.write`.

        Args:
            name: Name of the embedding.
            start: Row of the first clip.
            batch: Rows.
            num_decoded: Number of clips that were decoded for it.

        Raises:
            Exception: An earlier batch could not be written.
        """
        if self._error is not None:
            raise self._error
        rows = self._joining.get(name)
        if rows is None or rows.stop != start or rows.num_bytes + batch.values.nbytes > BYTES_AT_ONCE:
            self._queue(name)
            rows = self._joining[name] = _Rows(start)
        rows.parts.append(batch)
        rows.num_decoded += num_decoded
        if rows.num_decoded >= self._min_decoded:
            self._queue(name)

    def _queue(self, name: str) -> None:
        """Queue what was joined of an embedding."""
        rows = self._joining.pop(name, None)
        if rows is not None:
            self._waiting.put((name, rows.start, joined(rows.parts)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._joining):
            self._queue(name)
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:  # empty the queue even after an error: `put` must not block forever
                try:
                    self._writer.write(*item)
                except BaseException as error:
                    self._error = error
