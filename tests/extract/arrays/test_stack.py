from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.arrays.stack import ClipArrays, stack_clips


@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any), seed=st.integers(0, 99))
def test_any_rows_are_those_of_the_whole(lengths, seed):
    rng = np.random.default_rng(seed)
    clips = [rng.normal(size=(length, 2)) for length in lengths]
    stacked = stack_clips(clips, [str(i) for i in range(len(clips))], "x")
    assert isinstance(stacked, ClipArrays)
    whole = np.full((len(clips), max(lengths), 2), np.nan)
    for row, clip in zip(whole, clips, strict=True):
        row[: len(clip)] = clip
    if max(lengths) == 1:
        whole = whole[:, 0]
    assert (stacked.shape, stacked.ndim, stacked.size, len(stacked)) == (
        whole.shape,
        whole.ndim,
        whole.size,
        len(whole),
    )
    np.testing.assert_array_equal(np.asarray(stacked), whole)
    rows = rng.integers(0, len(clips), 5)
    np.testing.assert_array_equal(stacked[rows], whole[rows])
    np.testing.assert_array_equal(stacked[1:3], whole[1:3])
