from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.pipeline.batches import join_absent, unfinished_batches

FLAGS = st.integers(1, 20).flatmap(lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2))


@given(flags=FLAGS, batch_size=st.integers(1, 8))
def test_resumed_batches_are_those_of_a_new_start_minus_finished_ones(flags, batch_size):
    done = {name: np.array(column) for name, column in zip("ab", flags, strict=True)}
    batches = unfinished_batches(done, batch_size)
    first = {name: np.zeros(len(column), dtype=bool) for name, column in done.items()}
    cuts = {(batch.start, batch.stop) for batch in unfinished_batches(first, batch_size)}
    assert {(batch.start, batch.stop) for batch in batches} <= cuts
    for name, column in done.items():
        rows = [row for batch in batches if name in batch.names for row in range(batch.start, batch.stop)]
        assert len(rows) == len(set(rows))
        assert set(np.flatnonzero(~column)) <= set(rows)
        assert all(not column[batch.start : batch.stop].all() for batch in batches if name in batch.names)


@given(flags=FLAGS, batch_size=st.integers(1, 8), max_clips=st.integers(1, 20))
def test_only_batches_without_any_file_are_joined(flags, batch_size, max_clips):
    exist = np.array(flags[0])
    batches = unfinished_batches({"a": np.array(flags[1])}, batch_size)
    joined = join_absent(batches, exist, max_clips)

    def rows(cuts):
        return [row for batch in cuts for row in range(batch.start, batch.stop)]

    assert rows(joined) == rows(batches)
    new = [batch for batch in joined if batch not in batches]
    assert not any(exist[batch.start : batch.stop].any() or batch.stop - batch.start > max_clips for batch in new)
    with_files = [batch for batch in batches if exist[batch.start : batch.stop].any()]
    assert [batch for batch in joined if exist[batch.start : batch.stop].any()] == with_files
