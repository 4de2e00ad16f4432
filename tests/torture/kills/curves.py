"""Curves of trainings, without the times of their events."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

EVENTS = "events.out.tfevents.*"


def curves(folder: Path) -> dict[str, dict[tuple[str, int], float]]:
    """Folder of curves -> (name, step) -> value. A killed training wrote some twice: the last one counts."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for file in sorted(folder.rglob(EVENTS)):
        of_folder = found.setdefault(str(file.parent.relative_to(folder)), {})
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if not value.tag.startswith("_hparams_"):  # settings, which are no curve
                    of_folder[value.tag, event.step] = float(make_ndarray(value.tensor))
    return found
