"""Progress of several shards is one bar."""

from __future__ import annotations

from amr.common.cluster.progress import JoinedProgress

from ...extract.shards.conftest import Seen


def test_progress_of_shards_is_one_bar_that_starts_once_all_have_started():
    seen = Seen()
    joined = JoinedProgress(seen, 2)
    joined.take(0, ("start", (10, 2, "clips")))
    joined.take(0, ("advance", (3, 1)))
    joined.take(0, ("note", ("same",)))
    joined.take(1, ("note", ("same",)))
    assert seen.events == [("note", "same")]
    joined.take(1, ("start", (20, 0, "clips")))
    joined.take(1, ("advance", (4, 0)))
    assert seen.events[1:] == [("start", 30, 5, "clips"), ("advance", 4, 0)]
    joined.take(1, ("start", (20, 3, "clips")))  # its process was lost, and another goes on
    assert seen.events[3:] == [("start", 30, 8, "clips")]
