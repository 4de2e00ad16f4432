"""Run a function on the workers of a Ray cluster. A task whose worker or node is lost begins again on another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from amr.common.cluster.connect import Room
from amr.common.cluster.progress import Event
from amr.common.processes import portable

SECONDS_BETWEEN_LOOKS = 0.2
TIMES_BEGUN_AGAIN = 10  # what ends its worker each time, such as too little memory, would do so forever

Send = Callable[[Event], object]


@dataclass(frozen=True)
class _Refusal:
    """Error of a function, as a result: Ray would begin a task that raises again, or show a traceback."""

    error: Exception


class _Events:
    """An actor that keeps the events of tasks until they are taken."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Event]] = []

    def put(self, index: int, event: Event) -> None:
        """Keep an event of a task."""
        self._waiting.append((index, event))

    def take(self) -> list[tuple[int, Event]]:
        """Events since the last call."""
        taken, self._waiting = self._waiting, []
        return taken


def run_tasks(
    ray: Any,
    room: Room,
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    take: Callable[[int, Event], object],
) -> Iterator[tuple[int, Any]]:
    """Call a function with the arguments of each task, and yield the index and result of each, in the order of ends.

    Tasks run in the folder and the workspace of this process, where their nodes have them.

    Args:
        ray: Module ray, connected.
        room: Room of the cluster.
        function: Function that takes a `Send`, and the arguments of a task.
        tasks: Arguments of each task.
        take: Function that gets the index of a task and an event that it sent.

    Raises:
        Exception: Whatever a task raised. The others are ended.
    """
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    again = TIMES_BEGUN_AGAIN
    events = ray.remote(num_cpus=0, max_restarts=again)(_Events).options(scheduling_strategy=here).remote()
    start = ray.remote(max_retries=again, num_cpus=room.cpus, num_gpus=room.gpus)(_task)
    start = start.options(scheduling_strategy="SPREAD")
    place = os.getcwd(), os.environ.get("AMR_HOME")
    running = {start.remote(events, index, function, arguments, place): index for index, arguments in enumerate(tasks)}
    try:
        while running:
            ended, _ = ray.wait([*running], timeout=SECONDS_BETWEEN_LOOKS)
            for index, event in _taken(ray, events):
                take(index, event)
            for reference in ended:
                result = _result(ray, reference)
                if isinstance(result, _Refusal):
                    raise result.error
                yield running.pop(reference), result
        for index, event in _taken(ray, events):
            take(index, event)
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        ray.kill(events)


def _taken(ray: Any, events: Any) -> list[tuple[int, Event]]:
    """Events so far; none while the actor that keeps them is lost, with those that it had: they are progress alone."""
    try:
        taken: list[tuple[int, Event]] = ray.get(events.take.remote())
    except ray.exceptions.RayActorError:
        return []
    return taken


def _result(ray: Any, reference: Any) -> Any:
    """Result of a task that has ended."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"a task on the cluster must end, got {portable(error)}. Run the same command to continue."
        ) from error


def _task(
    events: Any, index: int, function: Callable[..., Any], arguments: tuple[Any, ...], place: tuple[str, str | None]
) -> Any:
    """Call a function on a worker."""
    try:
        with _in_place(*place):
            return function(lambda event: events.put.remote(index, event), *arguments)
    except Exception as error:
        return _Refusal(portable(error))


@contextmanager
def _in_place(folder: str, home: str | None) -> Iterator[None]:
    """Work in a folder, if this node has it, and in a workspace."""
    before = os.getcwd()
    if home is not None:
        os.environ["AMR_HOME"] = home
    with suppress(OSError):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
