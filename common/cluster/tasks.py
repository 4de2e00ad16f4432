"""Run a function on the workers of a Ray cluster. A task whose worker or node is lost begins again on another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from amr.common.cluster.connect import Room, room_for
from amr.common.cluster.progress import Event
from amr.common.processes import portable

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_OF_SILENCE = 60.0  # after which it is looked whether the cluster still has room
SECONDS_TO_STOP = 10.0  # in which a task that is stopped saves what it has and removes its files
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
        RuntimeError: A task ends its worker each time, or the cluster has lost all nodes with room for a task.
        Exception: Whatever a task raised. The others are ended.
    """
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    again = TIMES_BEGUN_AGAIN
    events = ray.remote(num_cpus=0, max_restarts=again)(_Events).options(scheduling_strategy=here).remote()
    start = ray.remote(max_retries=again, num_cpus=room.cpus, num_gpus=room.gpus)(_task)
    start = start.options(scheduling_strategy="SPREAD")
    variables = {name: os.environ[name] for name in ("AMR_HOME",) if name in os.environ}
    if not room.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves those of the node
    place = os.getcwd(), variables
    running = {start.remote(events, index, function, arguments, place): index for index, arguments in enumerate(tasks)}
    heard = time.monotonic()
    try:
        while running:
            ended, _ = ray.wait([*running], timeout=SECONDS_BETWEEN_LOOKS)
            taken = _taken(ray, events)
            for index, event in taken:
                take(index, event)
            if ended or taken:
                heard = time.monotonic()
            elif time.monotonic() - heard > SECONDS_OF_SILENCE:
                _check_room(ray, room)
                heard = time.monotonic()
            for reference in ended:
                result = _result(ray, reference)
                if isinstance(result, _Refusal):
                    raise result.error
                yield running.pop(reference), result
        for index, event in _taken(ray, events):
            take(index, event)
    finally:
        _stop(ray, [*running])
        ray.kill(events)


def _check_room(ray: Any, room: Room) -> None:
    """Refuse to wait forever for nodes that are lost."""
    try:
        room_for(ray, room.gpus, int(room.cpus))
    except ValueError:
        raise RuntimeError(
            f"the cluster must keep a node with room for a worker, got none for {SECONDS_OF_SILENCE:.0f} s. "
            "Run the same command once it is back to continue."
        ) from None


def _stop(ray: Any, running: list[Any]) -> None:
    """End tasks as Ctrl-C would, and those that do not end in time."""
    for force in (False, True):
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=force)
        if running and not force:
            _, running = ray.wait(running, num_returns=len(running), timeout=SECONDS_TO_STOP)


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
    events: Any,
    index: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    place: tuple[str, Mapping[str, str]],
) -> Any:
    """Call a function on a worker."""
    try:
        with _in_place(*place):
            return function(lambda event: events.put.remote(index, event), *arguments)
    except Exception as error:
        return _Refusal(portable(error))


@contextmanager
def _in_place(folder: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Work in a folder, if this node has it, and with some environment variables."""
    before, values = os.getcwd(), {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    with suppress(OSError):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        for name, value in values.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
