"""What to type after a sweep or a table."""

from __future__ import annotations

import shlex
from pathlib import Path

from amr.console.output import say


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
