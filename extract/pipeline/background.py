"""Writing of batches in a background thread, so that the device does not wait for the disk."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Self

from amr.extract.cache.writer import CacheWriter, Embedded


class BackgroundWriter:
    """A context manager that writes batches in a background thread; all are written on exit.

    Args:
        writer: Writer of the cache, not to be used elsewhere meanwhile.
        max_waiting: Number of batches that may wait for the disk before `put` blocks.
    """

    def __init__(self, writer: CacheWriter, max_waiting: int = 4) -> None:
        self._writer = writer
        self._waiting: queue.Queue[tuple[str, int, Embedded] | None] = queue.Queue(max_waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)

    def put(self, name: str, start: int, batch: Embedded) -> None:
        """Queue rows of an embedding, as for `CacheWriter.write`.

        Raises:
            Exception: An earlier batch could not be written.
        """
        if self._error is not None:
            raise self._error
        self._waiting.put((name, start, batch))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
