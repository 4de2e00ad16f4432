"""The long tests: `python -m tests.torture`, or `make torture`. docs/reliability.md has what they print.

Prints a table of what was tried, and each try that was lost. Exit status 1 if any was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Kind -> modules below this folder, which each have `run` (report.py). The longest go first, three side by side.
KINDS = {
    "kills": ("kills.training_kill_points", "kills.kill_points", "kills.random_kills", "kills.writers"),
    "media": ("decoding.media", "decoding.media_bombs"),
    "cache": ("files.caches",),
    "runs": ("files.runs",),
    "import": ("files.inputs",),
    "workers": ("decoding.clips",),
    "security": ("names", "disk"),
}
MODULES = tuple(module for modules in KINDS.values() for module in modules)
MAX_SECONDS = 30 * 60  # of one module
SIDE_BY_SIDE = 3  # on two cores: each waits for the disk now and then
COLUMNS = ("kind", "tries", "survived", "lost", "seconds", "peak memory", "note")
ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kinds that are requested. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the tries; 1 takes under half an hour")
    parser.add_argument("--only", action="append", choices=[*KINDS, *MODULES], help="kind or module; repeatable")
    parser.add_argument("--out", type=Path, help="JSON file to write, too")
    given = parser.parse_args(arguments)
    modules = [m for kind, ms in KINDS.items() for m in ms if not given.only or kind in given.only or m in given.only]
    began = time.monotonic()
    rows = run_all(modules, given.seed, given.scale)
    document = {"seed": given.seed, "scale": given.scale, "seconds": round(time.monotonic() - began), "rows": rows}
    if given.out:
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    show(document)
    return int(any(row["lost"] for row in rows))


def run_all(modules: Sequence[str], seed: int, scale: float) -> list[dict[str, Any]]:
    """Rows of modules, in their order. Each runs in a process of its own."""
    rows: dict[str, list[dict[str, Any]]] = {}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = {pool.submit(run_one, module, seed, scale): module for module in modules}
        for done in as_completed(running):
            rows[running[done]] = done.result()
            sys.stderr.write(f"{running[done]}: {sum(len(row['lost']) for row in done.result())} lost\n")
    return [row for module in modules for row in rows[module]]


def run_one(module: str, seed: int, scale: float) -> list[dict[str, Any]]:
    """Rows of a module; one that breaks is a row with one lost try."""
    command = [sys.executable, "-m", f"{__package__}.one", module, "--seed", str(seed), "--scale", str(scale)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS
        )
        if done.returncode == 0:
            rows: list[dict[str, Any]] = json.loads(done.stdout)
            return rows
        why = f"exit status {done.returncode}: {done.stderr[-2000:].strip()}"
    except subprocess.TimeoutExpired:
        why = f"no end within {MAX_SECONDS} s"
    seconds = round(time.monotonic() - began, 1)
    broken = {"module": module, "kind": module, "tries": 1, "survived": 0, "lost": [why], "note": "the torture broke"}
    return [broken | {"seconds": seconds, "peak_bytes": 0}]


def show(document: dict[str, Any]) -> None:
    """Print the table, in Markdown, and the tries that were lost."""
    table = Table(box=box.MARKDOWN)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("kind", "note") else "right", no_wrap=True)
    rows = document["rows"]
    for row in rows:
        cells = [row["kind"], row["tries"], row["survived"], len(row["lost"]), f"{row['seconds']:.0f}"]
        table.add_row(*(Text(str(cell)) for cell in [*cells, f"{row['peak_bytes'] / 2**20:.0f} MiB", row["note"]]))
    totals = [sum(row["tries"] for row in rows), sum(row["survived"] for row in rows)]
    totals += [sum(len(row["lost"]) for row in rows), document["seconds"]]
    table.add_row("total", *map(str, totals), "", "")
    console = Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False)
    console.print(table)
    again = f"--seed {document['seed']} --scale {document['scale']:g}"
    for row in rows:
        if row["lost"]:
            print(f"\nlost: {row['kind']}: python -m tests.torture --only {row['module']} {again}")  # noqa: T201
        for lost in row["lost"]:
            print("  " + lost.encode("unicode_escape").decode())  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
