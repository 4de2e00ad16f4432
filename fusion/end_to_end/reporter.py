"""What people hear of a training: a line an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from amr.common.progress import Progress


class Reporter:
    """Says after each epoch how good it is, and how long the rest will take.

    Args:
        what: is trained.
        epochs: at most.
        progress: where the lines go.
    """

    def __init__(self, what: str, epochs: int, progress: Progress) -> None:
        self._what, self._epochs, self._progress = what, epochs, progress
        self._began = 0.0
        self._before = self._epoch = 0
        self._best = -math.inf

    def begin(self, before: Sequence[Mapping[str, float]]) -> None:
        """Training begins, behind the epochs that were done before a kill; the time is that of the others."""
        self._began = time.monotonic()
        self._before = self._epoch = len(before)
        for values in before:
            self._seen(values)
        if before:
            self._progress.note(f"{self._what}: goes on behind epoch {len(before)}/{self._epochs}")

    def epoch(self, values: Mapping[str, float]) -> None:
        """Loss, val accuracy, and how long the rest will take.

        Args:
            values: what the history says of the epoch, name to value.
        """
        self._epoch += 1
        self._seen(values)
        each = (time.monotonic() - self._began) / (self._epoch - self._before)
        val = f", val accuracy {values['val_accuracy']:.3f} (best {self._best:.3f})" if self._best >= 0 else ""
        self._progress.note(
            f"{self._what}: epoch {self._epoch}/{self._epochs}, loss {values['train_loss']:.3f}{val}, "
            f"{each:.1f} s an epoch, {each * (self._epochs - self._epoch) / 60:.1f} min left"
        )

    def _seen(self, values: Mapping[str, float]) -> None:
        self._best = max(self._best, values["val_accuracy"])  # NaN, where there is no val part, is never greater
