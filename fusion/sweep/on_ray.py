"""The run groups of a sweep as tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amr.common.cluster.connect import connected, room_for
from amr.common.cluster.options import ClusterOptions
from amr.common.cluster.progress import Event
from amr.common.cluster.tasks import run_tasks
from amr.common.devices import one_thread
from amr.common.progress import Progress
from amr.fusion.data.folds import read_training_data
from amr.fusion.fit import fit_group
from amr.fusion.loggers.base import Point, Sink, TrackedRun
from amr.fusion.resolve import takes_steps
from amr.fusion.runs.record import RunRecord
from amr.fusion.sweep.results import is_finished, run_folder

if TYPE_CHECKING:
    from amr.fusion.sweep.sweep import RunGroup


class SentLog:
    """Sink of a worker, whose values are sent to the process that has the loggers.

    Args:
        send: Function that sends an event.
    """

    def __init__(self, send: Callable[[Event], object]) -> None:
        self._send = send

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Send it."""
        self._send(("log", ("begin", run, points)))

    def log(self, name: str, point: Point) -> None:
        """Send it."""
        self._send(("log", ("log", name, point)))

    def end(self, name: str, measures: Point | None) -> None:
        """Send it."""
        self._send(("log", ("end", name, measures)))


def fit_on_ray(
    groups: Sequence[RunGroup], cluster: ClusterOptions, progress: Progress, sink: Sink | None = None
) -> Iterator[RunGroup]:
    """Fit the groups on the workers of a cluster, and yield each group after its files are written.

    A group whose worker or node is lost begins again on another worker.

    Args:
        groups: Groups with unfinished runs.
        cluster: Cluster.
        progress: Listener that counts runs.
        sink: Receiver of each epoch and of the test measures; None if nothing is logged.

    Raises:
        ValueError: The cluster has no room for a worker, or a worker does not see the folder of the sweep.
    """
    sizes, done = [len(group.unfinished) for group in groups], [0.0] * len(groups)

    def take(index: int, event: Event) -> None:
        kind, values = event
        if kind == "log":
            method, *arguments = values
            getattr(sink, method)(*arguments)
            return
        amount = -done[index] if kind == "start" else values[0] * sizes[index]
        done[index] += amount
        progress.advance(amount)

    with connected(cluster.address) as ray:
        room = room_for(ray, cluster.num_gpus_per_worker, 1)
        tasks = [(group.records, sink is not None) for group in groups]
        for index, _ in run_tasks(ray, room, _fit, tasks, take):
            yield groups[index]


def _fit(send: Callable[[Event], object], records: Sequence[RunRecord], logs: bool) -> None:
    """Fit a group on a worker, and send what is logged if it is."""
    send(("start", ()))
    config = records[0].config
    _check_shared([run_folder(record) for record in records])
    data = read_training_data(config, keep_steps=takes_steps(config))
    folders = [None if is_finished(record) else run_folder(record) for record in records]

    def advance(amount: float) -> None:
        send(("advance", (amount,)))

    with one_thread():
        sink = SentLog(send) if logs else None
        fit_group(records, folders, data, advance, with_predictions=False, sink=sink)


def _check_shared(folders: Sequence[Path]) -> None:
    """Refuse a worker that does not see the folders that the sweep has made."""
    missing = [folder for folder in folders if not (folder / "config.json").is_file()]
    if missing:
        raise ValueError(
            f"--out must be on a disk that all nodes share, got {str(missing[0])!r}, which a worker does not see. "
            "Pass --out with a folder that they share."
        )
