"""Blocks of rows: every row in one shard, whole batches around them, names that sort."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.shards.shard import Shard, all_shards


@given(st.integers(1, 60), st.integers(1, 70))
def test_every_row_is_in_one_shard_and_their_sizes_differ_by_one_at_most(num_rows, count):
    blocks = [shard.rows(num_rows) for shard in all_shards(count)]
    assert [row for block in blocks for row in block] == [*range(num_rows)]
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 40))
def test_a_window_is_the_batches_of_the_whole_that_the_shard_has_rows_of(num_rows, count, batch_size):
    batches = [range(start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)]
    for shard in all_shards(count):
        rows, window = shard.rows(num_rows), shard.window(num_rows, batch_size)
        assert window
        if rows:
            assert [*window] == [row for batch in batches if {*batch} & {*rows} for row in batch]


def test_names_sort_as_their_numbers():
    names = [shard.path(Path("caches/clips.h5")).name for shard in all_shards(11)]
    assert names == sorted(names)
    assert names[0] == "clips.shard-01-of-11.h5"


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "a/b", "1/4/4", "-1/4", "1.5/4"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match=r"--shard must be I/N with I from 1 to N, got .* Pass for example"):
        Shard.parse(text)


def test_a_shard_reads_back_as_it_is_written():
    assert Shard.parse(str(Shard(3, 7))) == Shard(3, 7)
