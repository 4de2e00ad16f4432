"""Commands of `amr` that the scripts run, in the workspace $AMR_HOME on the data in $AMR_TEST_DATA."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from amr.cli import run

ROOT = Path(__file__).resolve().parents[2]
Command = tuple[Path | None, tuple[str, ...]]  # file that says that it is finished, None if it knows by itself; words


def places() -> tuple[Path, Path]:
    """Workspace of caches and runs, by default the project's root, and folder of the data."""
    data = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not data.is_dir():
        sys.exit(f"AMR_TEST_DATA must be the folder of the data, got {data}. Set it to a folder that exists.")
    return Path(os.environ.setdefault("AMR_HOME", str(ROOT))), data


def run_unfinished(commands: Iterable[Command]) -> None:
    """Run what is not finished; stop at the first command that fails."""
    for finished, command in commands:
        if finished is None or not finished.is_file():
            status = run([*command])
            if status != 0:
                sys.exit(f"amr {shlex.join(command)} must succeed, got exit status {status}.")


def shown(commands: Iterable[Command], home: Path, data: Path) -> str:
    """The commands as typed in the workspace, in Markdown."""
    texts = [shlex.join(["amr", *command]) for _, command in commands]
    lines = [text.replace(f"{home}/", "").replace(str(data), "DATA") for text in texts]
    return "Commands:\n\n" + "\n".join(f"    {line}" for line in lines)
