"""Ordered decoding and preparing of clips in worker processes; a clip costs only what kills its process."""

from __future__ import annotations

import math
import pickle
import queue
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import torch

from amr.common.devices import return_freed_memory
from amr.common.options import available_cores
from amr.common.processes import (
    CONTEXT,
    Call,
    TooLong,
    Unfinished,
    begin_process,
    cause_of_death,
    end_process,
    first_line,
    start_process,
    starting,
)
from amr.common.progress import Progress
from amr.extract.config import CLIP_TIMEOUT
from amr.extract.encoders import Encoder
from amr.extract.pipeline.load import ClipList, Loaded, ManifestFiles, load

MAX_UNEXPLAINED_CRASHES = 3
MAX_AHEAD = 1024  # requests per worker: they must fit into a pipe, or both ends would wait for each other
NO_CLIP = -1
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_START = 60.0


@dataclass(frozen=True)
class Task:
    """A request to load the clip in `row` for the embeddings `names`."""

    row: int
    names: tuple[str, ...]


def useful_workers(requested: int | None, num_clips: int, progress: Progress) -> int:
    """Number of decoding processes: at most one per core and per clip. More than there are cores are noted.

    Args:
        requested: Number that was requested, None for one per core.
        num_clips: Number of clips to decode.
        progress: Listener that gets the note.
    """
    cores = available_cores()
    if requested is not None and requested > cores and num_clips > 0:
        progress.note(f"--workers {requested}: {cores} are used, because there are {cores} cores")
    return min(cores if requested is None else requested, cores, num_clips)


class ClipLoader:
    """A loader of clips, in order, in worker processes, with a bounded number loaded ahead.

    Nothing is decoded in this process: a crash of the decoder would end it. Clips without any file need no worker.

    Args:
        clips: All clips.
        encoders: Embedding name -> encoder.
        num_workers: Number of processes, at most one per core; 0 for one that loads a clip only once it is asked for.
        batch_size: Number of clips encoded at once, which is about the number loaded ahead.
        pin_memory: Whether to return tensors in pinned memory.
        clip_timeout: Seconds that a clip may take, as --clip-timeout sets them; None for the default where there is no
            such option. A clip that takes longer is a failure, after about twice the time.
    """

    def __init__(
        self,
        clips: ClipList,
        encoders: Mapping[str, Encoder],
        *,
        num_workers: int,
        batch_size: int,
        pin_memory: bool,
        clip_timeout: float | None = None,
    ) -> None:
        self._clips = _Clips(clips, encoders)
        self._files = clips if isinstance(clips, ManifestFiles) else None
        self._modalities = {name: encoder.modality for name, encoder in encoders.items()}
        self._num_workers = max(1, min(num_workers, available_cores()))  # more would only take turns
        self._num_ahead = min(MAX_AHEAD, max(2, math.ceil(batch_size / self._num_workers))) if num_workers else 1
        self._pin_memory = pin_memory
        self._limit_seconds = CLIP_TIMEOUT if clip_timeout is None else clip_timeout
        self._option = "" if clip_timeout is None else " (--clip-timeout)"
        self._unexplained = 0

    def load(self, tasks: Sequence[Task]) -> Generator[Loaded]:
        """Load the clips of the tasks, in their order.

        Raises:
            RuntimeError: Workers keep dying, and no clip causes it.
        """
        exist = [self._files is None or bool(self._files.exist[task.row]) for task in tasks]
        to_decode = [task for task, exists in zip(tasks, exist, strict=True) if exists]
        with closing(self._pinned(to_decode) if self._pin_memory else self._decode(to_decode)) as decoded:
            for task, exists in zip(tasks, exist, strict=True):
                if self._files is None or exists:
                    yield next(decoded)
                else:
                    yield self._files.without_file(task.row, {name: self._modalities[name] for name in task.names})

    def _pinned(self, tasks: Sequence[Task]) -> Generator[Loaded]:
        """Decode, and copy to pinned memory, in a thread that the device does not wait for."""
        ready: queue.Queue[Loaded | BaseException] = queue.Queue(self._num_ahead)
        stopped = threading.Event()

        def fill() -> None:
            try:
                with closing(self._decode(tasks, stopped)) as decoded:
                    for loaded in decoded:
                        ready.put(loaded.pin_memory())
                        if stopped.is_set():
                            return
            except BaseException as error:
                ready.put(error)

        # it starts the workers, which end with it, so it lasts until the last clip is loaded
        threading.Thread(target=fill, name="clip-loader", daemon=True).start()
        try:
            for _ in tasks:
                if isinstance(loaded := ready.get(), BaseException):
                    raise loaded
                yield loaded
        finally:
            stopped.set()
            with suppress(queue.Empty):  # room for the clip that the thread may wait to hand over
                while True:
                    ready.get_nowait()

    def _decode(self, tasks: Sequence[Task], stopped: threading.Event | None = None) -> Generator[Loaded]:
        """Hand out the tasks, a bounded number of them, and yield the clips in the order of their tasks."""
        workers: list[_Worker] = []
        waiting, loaded = list(reversed(range(len(tasks)))), dict[int, Loaded]()
        try:
            for _ in range(min(self._num_workers, len(tasks))):
                workers.append(_Worker(self._clips, tasks, self._limit_seconds))
            max_ahead = len(workers) * self._num_ahead
            for index in range(len(tasks)):
                while index not in loaded:
                    while waiting and waiting[-1] < index + max_ahead:
                        min(workers, key=lambda worker: len(worker.given)).give(waiting.pop())
                    for worker in _answering(workers):
                        try:
                            loaded.update([worker.take()])
                        except (EOFError, OSError):  # it died before or while it sent
                            workers[workers.index(worker)] = _Worker(self._clips, tasks, self._limit_seconds)
                            loaded.update(self._after(worker, tasks))
                            waiting = sorted({*waiting, *worker.given} - loaded.keys(), reverse=True)
                    if stopped is not None and stopped.is_set():
                        return
                yield loaded.pop(index)
        finally:
            for worker in workers:
                worker.end()

    def _after(self, dead: _Worker, tasks: Sequence[Task]) -> dict[int, Loaded]:
        """The clip that a dead worker had in work, by its index, each modality loaded apart.

        Raises:
            RuntimeError: Workers keep dying, and no clip causes it.
        """
        exitcode, index = dead.end(), dead.in_work
        loaded, kills = (Loaded(), False) if index == NO_CLIP else self._apart(tasks[index])
        took_too_long = index != NO_CLIP and exitcode == -signal.SIGALRM
        if not kills and not took_too_long:
            self._unexplained += 1
        if self._unexplained >= MAX_UNEXPLAINED_CRASHES:
            raise RuntimeError(
                f"workers must stay alive, got {self._unexplained} killed, not by one clip "
                f"(the last by {cause_of_death(exitcode)}; memory may be short). Pass fewer --workers, or a smaller "
                "--batch-size; finished clips are saved."
            )
        return {} if index == NO_CLIP else {index: loaded}

    def _apart(self, task: Task) -> tuple[Loaded, bool]:
        """Load each modality of a clip in a process of its own, side by side, so that none costs another.

        Returns:
            The clip, and whether one of the processes died or took too long.
        """
        tasks = [Task(task.row, names) for names in self._clips.by_modality(task)]
        loaded, kills = Loaded(), False
        with ExitStack() as stack:
            calls = {each: stack.enter_context(Call(_load_apart, self._clips, each)) for each in tasks}
            for each, call in calls.items():
                try:
                    alone = call.result(self._limit_seconds)
                except Unfinished as error:
                    option = self._option if isinstance(error, TooLong) else ""
                    alone, kills = Loaded({}, dict.fromkeys(each.names, f"decoding it {error}{option}")), True
                loaded.update(alone)
        return loaded, kills


class _Clips:
    """What a worker needs to load a clip."""

    def __init__(self, clips: ClipList, encoders: Mapping[str, Encoder]) -> None:
        self._clips = clips
        self._modalities = {name: encoder.modality for name, encoder in encoders.items()}
        self._prepares = {name: encoder.prepare for name, encoder in encoders.items()}

    def load(self, task: Task) -> Loaded:
        """Load a clip. Whatever it raises becomes its failure."""
        try:
            return load(self._clips[task.row], self._modalities, {name: self._prepares[name] for name in task.names})
        except Exception as error:
            return Loaded({}, dict.fromkeys(task.names, f"it cannot be loaded: {first_line(error)}"))

    def by_modality(self, task: Task) -> list[tuple[str, ...]]:
        """The names of a task, those of one modality together."""
        modalities = dict.fromkeys(self._modalities[name] for name in task.names)
        return [tuple(name for name in task.names if self._modalities[name] == each) for each in modalities]


class _Worker:
    """A process that loads the clips that it is given, one after another, and ends itself if one takes too long.

    Attributes:
        results: Connection that can be read once a clip is loaded, and at the end of the process.
        given: Indices of the tasks that it has not answered.
    """

    def __init__(self, clips: _Clips, tasks: Sequence[Task], limit_seconds: float) -> None:
        self._in_work = CONTEXT.RawValue("q", NO_CLIP)
        self.given: set[int] = set()
        self._max_silent_seconds = limit_seconds + SECONDS_TO_START
        self._heard_seconds = time.monotonic()
        with starting():
            requests, self._requests = CONTEXT.Pipe(duplex=False)
            self.results, sender = CONTEXT.Pipe(duplex=False)
            with requests, sender:  # they are closed here, so that their end is the worker's end
                self._process = start_process(_work, requests, sender, self._in_work, clips, tasks, limit_seconds)

    @property
    def in_work(self) -> int:
        """Index of the task in work, NO_CLIP for none."""
        return int(self._in_work.value)

    def give(self, index: int) -> None:
        """Give it a task."""
        if not self.given:
            self._heard_seconds = time.monotonic()
        self.given.add(index)
        with suppress(OSError):  # it is dead, which its results will tell
            self._requests.send(index)

    def take(self) -> tuple[int, Loaded]:
        """Wait for the next clip and return the index of its task, and the clip.

        Raises:
            EOFError, OSError: It died.
        """
        index, loaded = self.results.recv()
        self.given.remove(index)
        self._heard_seconds = time.monotonic()
        return index, loaded

    def end_if_silent(self) -> None:
        """Kill it if it neither answers nor ends itself in time: it was stopped, or hangs before its first clip."""
        if self.given and time.monotonic() - self._heard_seconds > self._max_silent_seconds:
            self._process.kill()

    def end(self) -> int:
        """End it, whatever it does, and return its exit status, negative for a signal."""
        end_process(self._process)
        self._requests.close()
        self.results.close()
        return int(self._process.exitcode)


def _answering(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait a while for workers that have loaded a clip or died, and end those that do neither."""
    answers = wait([worker.results for worker in workers], SECONDS_BETWEEN_LOOKS)
    for worker in workers:
        if worker.results not in answers:
            worker.end_if_silent()
    return [worker for worker in workers if worker.results in answers]


def _work(
    parent: int, requests: Any, sender: Any, in_work: Any, clips: _Clips, tasks: Sequence[Task], limit_seconds: float
) -> None:
    begin_process(parent)
    begin_loading()
    parcels: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_send, args=(sender, parcels), daemon=True).start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    while True:
        index = requests.recv()
        in_work.value = index
        signal.setitimer(signal.ITIMER_REAL, limit_seconds)  # the kernel then ends the process, wherever that hangs
        parcel = _packed(index, clips.load(tasks[index]), tasks[index])
        signal.setitimer(signal.ITIMER_REAL, 0)
        in_work.value = NO_CLIP
        parcels.put(parcel)


def _packed(index: int, loaded: Loaded, task: Task) -> bytes:
    try:
        return pickle.dumps((index, loaded), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        failures = dict.fromkeys(task.names, f"it cannot be handed over: {first_line(error)}")
        return pickle.dumps((index, Loaded({}, failures)))


def _send(sender: Any, parcels: queue.SimpleQueue[bytes]) -> None:
    """Send in a thread, so that loading goes on while the other side does not read."""
    while True:
        sender.send_bytes(parcels.get())


def _load_apart(clips: _Clips, task: Task) -> Loaded:
    begin_loading()
    return clips.load(task)


def begin_loading() -> None:
    """Prepare a new process for loading clips."""
    torch.set_num_threads(1)  # a forked thread pool would hang
    return_freed_memory()
