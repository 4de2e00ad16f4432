"""`--logger tensorboard`: curves, and settings beside test measures in the HParams tab.

Event files are written without `SummaryWriter`, which has a thread and an open file per run: a sweep trains hundreds.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amr.fusion.loggers.base import Logger, Point, TrackedRun, loggers
from amr.fusion.loggers.files import EVENTS, TENSORBOARD

_numbers = itertools.count()  # of the files of this process


@loggers.register("tensorboard")
class TensorBoardLogger(Logger):
    """Event files: in `tensorboard/`, or in one sub-folder per run if the runs are those of a sweep."""

    summary = "logs/tensorboard/, for `tensorboard --logdir runs`: curves, and settings beside test measures"

    def __init__(self, folder: Path, group: str | None = None) -> None:
        super().__init__(folder, group)
        self._files: dict[str, Path] = {}
        self._settings: dict[str, dict[str, Any]] = {}

    @classmethod
    def check(cls) -> None:
        """Pass: nothing is needed."""

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run; event files of an earlier, killed command are removed."""
        place = self.folder / TENSORBOARD
        if self.group is not None:
            place /= run.name
        place.mkdir(parents=True, exist_ok=True)
        for path in place.glob(f"{EVENTS}*"):
            path.unlink()
        name = f"{EVENTS}{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._files[run.name] = place / name
        self._settings[run.name] = run.flat_settings
        self._write(run.name, _start())
        for point in points:
            self.log(run.name, point)

    def log(self, name: str, point: Point) -> None:
        """Write the values of an epoch."""
        self._write(name, [_scalars(point)])

    def end(self, name: str, measures: Point | None) -> None:
        """Write the test measures, at the last epoch, and the settings."""
        if measures is not None:
            self._write(name, [_scalars(measures), *_hparams(self._settings[name], measures)])

    def _write(self, name: str, events: Iterable[Any]) -> None:
        """Append events to the file of a run."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        content = io.BytesIO()
        writer = RecordWriter(content)
        for event in events:
            writer.write(event.SerializeToString())
        with self._files[name].open("ab") as file:
            file.write(content.getvalue())


def _start() -> Iterator[Any]:
    """Events that begin a file. A TensorBoard that shows a removed file of the run forgets its points."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    now = time.time()
    yield Event(wall_time=now, file_version="brain.Event:2")
    yield Event(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START))


def _scalars(point: Point) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.tagged.items()]
    return Event(wall_time=point.seconds, step=point.epoch, summary=Summary(value=values))


def _hparams(settings: Mapping[str, Any], measures: Point) -> Iterator[Any]:
    """Events of the HParams tab: the settings, and which measures stand beside them."""
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard.summary import hparams

    shown = {name: "none" if value is None else value for name, value in settings.items()}
    numbers = {name: value for name, value in measures.tagged.items() if math.isfinite(value)}
    for summary in hparams(shown, numbers):
        yield Event(wall_time=measures.seconds, summary=summary)
