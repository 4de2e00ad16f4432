"""Workers that a cluster has room for."""

from __future__ import annotations

from typing import Any

import pytest

from amr.common.cluster.connect import room_for


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
    ],
)
def test_there_is_a_worker_per_gpu_or_number_of_cpus_or_node(nodes, gpus, cpus, workers, each):
    room = room_for(Nodes(*nodes), gpus, cpus)
    assert (room.workers, room.cpus) == (workers, each)
