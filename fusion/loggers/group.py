"""A group of runs that are trained together, each logged as a run of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from amr.fusion.loggers.base import Point, Sink, TrackedRun

MoreValues = Callable[[Tensor], Mapping[str, Tensor]]


def values_of(epoch_values: Mapping[str, Tensor], modalities: Sequence[str], run: int = 0) -> dict[str, float]:
    """Values of one epoch and run, named as in history.csv.

    Args:
        epoch_values: The epoch's row of the history, name to `(run,)` or `(run, modalities)`.
        modalities: Modalities, in order.
        run: Index of the run.
    """
    values: dict[str, float] = {}
    for name, of_runs in epoch_values.items():
        if of_runs.ndim == 1:
            values[name] = float(of_runs[run])
        else:
            values |= {f"{name}_{m}": v for m, v in zip(modalities, of_runs[run].tolist(), strict=True)}
    return values


def logged(values: Mapping[str, float]) -> dict[str, float]:
    """Values without those of val that are NaN, for lack of clips.

    >>> logged({"train_loss": 0.5, "val_loss": math.nan})
    {'train_loss': 0.5}
    """
    return {name: v for name, v in values.items() if not (name.startswith("val_") and math.isnan(v))}


def measured_point(measures: Mapping[str, Any] | None, epochs: int) -> Point:
    """Test measures of a run, as `test_accuracy` and `test_use_audio`, after its last epoch."""
    values: dict[str, float] = {}
    for name, value in (measures or {}).items():
        own = f"test_{'use' if name == 'perceptual' else name}"
        of = {f"{own}_{m}": v for m, v in value.items()} if isinstance(value, Mapping) else {own: value}
        values |= {key: float(v) for key, v in of.items() if isinstance(v, int | float)}
    return Point(epochs, values)


class GroupLog:
    """Log of a group. Without a sink it does nothing.

    Args:
        sink: Receiver of the values; None if nothing is logged.
        runs: Runs of the group, in order; None for a run that is not logged.
        modalities: Their modalities, in order.
    """

    def __init__(self, sink: Sink | None, runs: Sequence[TrackedRun | None], modalities: Sequence[str]) -> None:
        self.sink, self.runs, self.modalities = sink, runs, modalities
        self.num_epochs = 0

    def begin(self) -> None:
        """Begin every run."""
        for run in self.runs:
            if self.sink is not None and run is not None:
                self.sink.begin(run)

    def callback(self, more: MoreValues, fold: int | None) -> GroupCallback | None:
        """Callback of a training of the group; None without a sink.

        Args:
            more: Function from val logits `(run, clips, classes)` to further values, name to `(run,)`.
            fold: Fold that is trained; None without folds.
        """
        return None if self.sink is None else GroupCallback(self, more, fold)

    def epoch(self, epoch_values: Mapping[str, Tensor], fold: int | None) -> None:
        """Log an epoch of every run."""
        on_host = {name: value.cpu() for name, value in epoch_values.items()}
        for i, run in enumerate(self.runs):
            if self.sink is not None and run is not None:
                values = logged(values_of(on_host, self.modalities, i))
                self.sink.log(run.name, Point(self.num_epochs, values, fold))

    def end(self, run: int, test: Mapping[str, Any] | None, *, diverged: bool = False) -> None:
        """End a run.

        Args:
            run: Index of the run.
            test: Measures of the test split; None if it has no clips.
            diverged: Whether the run diverged, and was not measured.
        """
        tracked = self.runs[run]
        if self.sink is not None and tracked is not None:
            self.sink.end(tracked.name, None if diverged else measured_point(test, self.num_epochs))


class GroupCallback:
    """Epoch callback of one training of a group."""

    def __init__(self, log: GroupLog, more: MoreValues, fold: int | None) -> None:
        self._log, self._more, self._fold = log, more, fold
        log.num_epochs = 0

    def resume(self) -> None:
        """Start from the beginning."""

    def epoch(
        self,
        epoch_values: Mapping[str, Tensor],
        state: Callable[[], dict[str, Any]],
        *,
        last: bool,
        val_logits: Tensor | None = None,
    ) -> None:
        """Log an epoch."""
        self._log.num_epochs += 1
        more = {} if val_logits is None else self._more(val_logits)
        self._log.epoch({**epoch_values, **more}, self._fold)

    def rest(self, history: Mapping[str, Tensor]) -> None:
        """Log the epochs of a history, `(epoch, run, ...)`, that were not reported: those of assembled models."""
        for i in range(self._log.num_epochs, len(history["train_loss"])):
            self.epoch({name: values[i] for name, values in history.items()}, dict, last=False)
