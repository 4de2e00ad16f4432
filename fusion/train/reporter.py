"""Progress messages of a training: one line per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from amr.common.progress import Progress


class Reporter:
    """Reporter of the loss, the accuracy on val and the remaining time after each epoch.

    Args:
        name: Name of the training.
        epochs: Number of epochs, at most.
        progress: Listener.
    """

    def __init__(self, name: str, epochs: int, progress: Progress) -> None:
        self._name, self.epochs, self._progress = name, epochs, progress
        self._start = 0.0
        self._num_previous = self._epoch = 0
        self._best = -math.inf

    def begin(self, previous: Sequence[Mapping[str, float]]) -> None:
        """Start the clock, after the epochs of an earlier, killed training if there are any."""
        self._start = time.monotonic()
        self._num_previous = self._epoch = len(previous)
        for values in previous:
            self._update_best(values)
        if previous:
            self._progress.note(f"{self._name}: continues after epoch {len(previous)}/{self.epochs}")

    def epoch(self, values: Mapping[str, float]) -> None:
        """Report one epoch.

        Args:
            values: Name to value, as in the history.
        """
        self._epoch += 1
        self._update_best(values)
        seconds = (time.monotonic() - self._start) / (self._epoch - self._num_previous)
        val = f", val accuracy {values['val_accuracy']:.3f} (best {self._best:.3f})" if self._best >= 0 else ""
        self._progress.note(
            f"{self._name}: epoch {self._epoch}/{self.epochs}, loss {values['train_loss']:.3f}{val}, "
            f"{seconds:.1f} s per epoch, {seconds * (self.epochs - self._epoch) / 60:.1f} min left"
        )

    def warn(self, text: str) -> None:
        """Pass on what the user must know."""
        self._progress.warn(text)

    def _update_best(self, values: Mapping[str, float]) -> None:
        self._best = max(self._best, values["val_accuracy"])  # NaN (no val split) is never greater
