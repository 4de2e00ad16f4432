"""Progress of several shards is one bar."""

from __future__ import annotations

from amr.common.cluster.progress import JoinedProgress

from ...extract.shards.conftest import Seen


def test_progress_of_shards_is_one_bar_that_starts_once_those_side_by_side_have_started():
    seen = Seen()
    joined = JoinedProgress(seen, 45, 2)
    joined.take(0, ("start", (10, 2, "clips")))
    joined.take(0, ("note", ("same",)))
    joined.take(1, ("note", ("same",)))
    assert seen.events == [("note", "same")]
    joined.take(1, ("start", (20, 0, "clips")))
    joined.take(1, ("advance", (4, 1)))
    assert seen.events[1:] == [("start", 45, 2, "clips"), ("advance", 4, 1)]
    joined.take(1, ("start", (20, 3, "clips")))  # its process was lost, and another goes on
    joined.take(2, ("start", (15, 5, "clips")))  # a third shard, after one of the first
    assert seen.events[3:] == [("advance", -1, 0), ("start", 45, 10, "clips")]


def test_a_part_that_advances_alone_is_shown():
    seen = Seen()
    joined = JoinedProgress(seen, 30, 2)
    joined.take(1, ("advance", (1, 0)))  # whose start was lost
    joined.take(0, ("start", (10, 2, "clips")))
    joined.take(0, ("advance", (3, 0)))
    joined.take(1, ("start", (20, 0, "clips")))
    assert seen.events == [("start", 30, 2, "clips"), ("advance", 3, 0)]
