"""Workers that a cluster has room for."""

from __future__ import annotations

import re
import signal
import sys
from typing import Any

import pytest

from amr.common.cluster.connect import connected, room_for


class Nodes:
    """Nodes of a cluster, as the module ray tells them."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self._nodes = nodes

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes]


@pytest.mark.parametrize(
    ("nodes", "gpus", "cpus", "workers", "each"),
    [
        ([{"CPU": 8}, {"CPU": 8}], 0, None, 2, 8),
        ([{"CPU": 8}, {"CPU": 4}], 0, None, 3, 4),
        ([{"CPU": 8}, {"CPU": 4}], 0, 2, 6, 2),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 16}], 1, None, 4, 4),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 8, "GPU": 1}], 0.5, None, 10, 2),
        ([{"CPU": 4, "GPU": 4}], 1, 2, 2, 2),
        ([{"CPU": 10, "GPU": 1}], 0.1, None, 10, 1),
    ],
)
def test_there_is_a_worker_per_gpu_or_number_of_cpus_or_node(nodes, gpus, cpus, workers, each):
    room = room_for(Nodes(*nodes), gpus, cpus)
    assert (room.workers, room.cpus) == (workers, each)


@pytest.mark.parametrize(
    ("gpus", "cpus", "words"),
    [
        (1, None, "no node with 1 GPU and 1 CPU. Pass a smaller --num-gpus-per-worker."),
        (0.5, 8, "no node with 0.5 GPUs and 8 CPUs. Pass a smaller --num-gpus-per-worker or fewer --workers."),
        (0, 8, "no node with 8 CPUs. Pass fewer --workers."),
        (0, 1, "no node with 1 CPU. Add a node that has it."),
        (0, None, "no node with 1 CPU. Add a node that has it."),
    ],
)
def test_a_cluster_without_room_says_what_was_asked_for_and_what_to_change(gpus, cpus, words):
    with pytest.raises(ValueError, match=f"{re.escape(words)}$"):
        room_for(Nodes({"CPU": 0.5}), gpus, cpus)


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        (None, RuntimeError, r"--engine ray must start Ray on this machine, got RuntimeError: no port\. Run the same"),
        ("head", ValueError, r"--address must be that of a Ray cluster of this machine, got 'head' .*Join it with"),
    ],
)
def test_a_ray_that_does_not_start_is_not_blamed_on_an_address(monkeypatch, address, kind, words):
    class NoRay:
        def is_initialized(self) -> bool:
            return False

        def init(self, *_: object, **__: object) -> None:
            raise RuntimeError("no port\nand more")

    monkeypatch.setitem(sys.modules, "ray", NoRay())
    with pytest.raises(kind, match=words), connected(address):
        pass


def test_sigterm_still_ends_this_process_as_it_did(monkeypatch):
    class TakesSignals:
        def is_initialized(self) -> bool:
            return False

        def init(self, *_: object, **__: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))

        def shutdown(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "ray", TakesSignals())
    before = signal.getsignal(signal.SIGTERM)
    with connected("auto"):
        assert signal.getsignal(signal.SIGTERM) is before
