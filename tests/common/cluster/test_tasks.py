"""Tasks on a Ray cluster whose worker dies again and again."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from types import SimpleNamespace

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


def test_workers_have_no_gpu_that_nobody_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("AMR_HOME", raising=False)
    variables = {"CUDA_VISIBLE_DEVICES": "", "AMR_HOME": "elsewhere"}
    with tasks._in_place(str(tmp_path), variables):
        assert Path.cwd() == tmp_path
        assert {name: os.environ.get(name) for name in variables} == variables
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("AMR_HOME")) == ("0,1", None)


@pytest.mark.ray
def test_a_task_sees_no_gpu(tmp_path):
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")

    def visible(send: object) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    with connected(None) as ray:
        assert [*tasks.run_tasks(ray, Room(1, 1, 0), visible, [()], lambda part, event: None)] == [(0, "")]


@pytest.mark.ray
def test_a_task_that_is_stopped_cleans_up(tmp_path):
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")

    def refuse_or_wait(send: object, folder: str, refuses: bool) -> None:
        path = Path(folder)
        if refuses:
            while not (path / "begun").exists():
                time.sleep(0.01)
            raise ValueError("this one")
        try:
            (path / "begun").touch()
            while True:  # Ray interrupts between two lines, not a call of C code
                time.sleep(0.01)
        finally:
            (path / "begun").unlink()

    given = [(str(tmp_path), refuses) for refuses in (False, True)]
    with connected(None) as ray, pytest.raises(ValueError, match="this one"):
        [*tasks.run_tasks(ray, Room(2, 0.5, 0), refuse_or_wait, given, lambda part, event: None)]
    assert [*tmp_path.iterdir()] == []


def test_a_cluster_that_has_lost_its_nodes_is_not_waited_for():
    nodes = SimpleNamespace(nodes=list)
    with pytest.raises(RuntimeError, match=r"must keep a node with room .* once it is back to continue"):
        tasks._check_room(nodes, Room(1, 1, 0))
