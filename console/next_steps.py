"""What to type after a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from amr.console.output import say
from amr.fusion.end_to_end.config import TrainConfig


def say_next(folder: Path) -> None:
    """Say which run of a sweep is best on val, and the commands that use it."""
    from amr.fusion.runs.read import best_run

    quoted = shlex.quote(str(folder))
    try:
        best = best_run(folder)
    except ValueError:  # no run has val clips
        say(f"next: amr evaluate {quoted}")
        return
    accuracy = "" if best.val is None else f" (val accuracy {best.val['accuracy']:.3f})"
    say(f"best by val: {best.folder}{accuracy}")
    say(f"next: amr predict {shlex.quote(str(best.folder))} CLIP, or amr evaluate {quoted}")


def extraction(config: TrainConfig, encoders: Mapping[str, str]) -> str:
    """Command that extracts the clips of a training with its encoders.

    >>> extraction(TrainConfig(manifest="my clips.csv", label="word"), {"audio": "trained:mine"})
    "amr extract --manifest 'my clips.csv' --label-column word --encoder audio=trained:mine"
    """
    parts = ["amr", "extract"]
    for name, value in (("--dataset", config.dataset), ("--manifest", config.manifest), ("--root", config.root)):
        parts += [] if value is None else [name, value]
    if config.manifest is not None and config.label != "label":
        parts += ["--label-column", config.label]
    for name, spec in encoders.items():
        parts += ["--encoder", f"{name}={spec}"]
    return shlex.join(parts)
