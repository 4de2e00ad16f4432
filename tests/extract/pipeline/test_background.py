"""Batches of few clips are joined before they are written, and every row is written once, in its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.cache.journal import Failure
from amr.extract.cache.writer import Embedded
from amr.extract.pipeline import background
from amr.extract.pipeline.background import BackgroundWriter


class Writes:
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Embedded]] = []

    def write(self, name: str, start: int, batch: Embedded) -> None:
        self.calls.append((name, start, batch))

    def rows(self, name: str) -> list[tuple[int, float]]:
        return [
            (start + i, float(value))
            for of, start, batch in self.calls
            if of == name
            for i, value in enumerate(batch.values[:, 0])
        ]


def rows(start: int, stop: int) -> Embedded:
    numbers = np.arange(start, stop, dtype=np.float32)
    failures = (Failure(start, str(start), "audio", "broken"),)
    return Embedded(numbers[:, None], np.ones(len(numbers), bool), None, failures)


@given(
    parts=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.booleans()), min_size=1, max_size=20),
    min_decoded=st.integers(1, 8),
)
def test_rows_are_written_once_each_in_their_place(parts, min_decoded):
    writes, start, expected = Writes(), 0, []
    with BackgroundWriter(writes, min_decoded) as writer:
        for length, num_decoded, skips in parts:
            start += 3 * skips  # rows that an earlier extraction has done
            for name in "ab":
                writer.put(name, start, rows(start, start + length), min(num_decoded, length))
            expected += range(start, start + length)
            start += length
    for name in "ab":
        assert writes.rows(name) == [(row, float(row)) for row in expected]
    assert sum(len(batch.failures) for _, _, batch in writes.calls) == 2 * len(parts)


def test_a_write_holds_the_clips_of_a_batch_and_is_bounded(monkeypatch):
    writes = Writes()
    with BackgroundWriter(writes, min_decoded=4) as writer:
        for start in range(0, 24, 2):
            writer.put("a", start, rows(start, start + 2), 1)
    assert [start for _, start, _ in writes.calls] == [0, 8, 16]
    monkeypatch.setattr(background, "BYTES_AT_ONCE", 16)  # four rows
    writes = Writes()
    with BackgroundWriter(writes, min_decoded=100) as writer:
        for start in range(0, 24, 2):
            writer.put("a", start, rows(start, start + 2), 1)
    assert [start for _, start, _ in writes.calls] == [0, 4, 8, 12, 16, 20]


def test_what_was_joined_is_written_if_the_work_breaks_off():
    writes = Writes()

    def work():
        with BackgroundWriter(writes, min_decoded=100) as writer:
            writer.put("a", 0, rows(0, 2), 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert writes.rows("a") == [(0, 0.0), (1, 1.0)]
