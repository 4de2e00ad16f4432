from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.pipeline.batches import unfinished_batches

FLAGS = st.integers(1, 20).flatmap(lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2))


@given(flags=FLAGS, batch_size=st.integers(1, 8))
def test_batches_are_those_of_an_empty_start_less_what_is_done(flags, batch_size):
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
