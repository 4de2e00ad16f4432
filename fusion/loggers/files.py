"""Names of the files of loggers, so that commands know which files of a folder are not the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amr.common.files import partial_path

LOGS = "logs"  # folder in that of a run, a sweep or a training
HISTORY, TENSORBOARD = "history.csv", "tensorboard"
IDS = "wandb.json"  # name of a run to its id at Weights & Biases
EVENTS = "events.out.tfevents."  # begins the names of TensorBoard's files


def is_log(parts: Sequence[str]) -> bool:
    """Whether a path below LOGS, as its parts, is of a file that a logger writes.

    >>> is_log(["history.csv"]), is_log(["tensorboard", "a", "events.out.tfevents.1"]), is_log(["notes.txt"])
    (True, True, False)
    """
    if len(parts) == 1:
        return parts[0] in [name for file in (HISTORY, IDS) for name in (file, partial_path(Path(file)).name)]
    return parts[0] == TENSORBOARD and parts[-1].startswith(EVENTS)


def foreign_log(folder: Path) -> Path | None:
    """Path, from `folder` on, of a file in its logs that no logger wrote; None if there is none.

    Args:
        folder: Folder of a run, a sweep or a training.
    """
    for path in sorted((folder / LOGS).rglob("*")):
        if not path.is_dir() and not is_log(path.relative_to(folder / LOGS).parts):
            return path.relative_to(folder)
    return None
