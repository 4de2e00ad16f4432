"""Tasks on a Ray cluster whose worker dies again and again."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from amr.common.cluster import tasks
from amr.common.cluster.connect import Room, connected

from ...conftest import without


@pytest.mark.ray
def test_a_task_that_ends_its_worker_each_time_is_given_up(tmp_path, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")
    assert 0 < tasks.TIMES_BEGUN_AGAIN < 100
    monkeypatch.setattr(tasks, "TIMES_BEGUN_AGAIN", 2)

    def end_worker(send: object, file: str) -> None:
        with Path(file).open("a") as tries:
            tries.write("x")
        os._exit(1)

    with connected(None) as ray, pytest.raises(RuntimeError, match=r"must end, got .* Run the same command to cont"):
        list(tasks.run_tasks(ray, Room(1, 1, 0), end_worker, [(str(tmp_path / "tries"),)], lambda part, event: None))
    assert (tmp_path / "tries").read_text() == "xxx"
