"""One kind of torture: `python -m tests.torture.one files.caches --seed 0 --scale 0.1` prints its outcomes as JSON.

Exit status 0, whatever is lost; anything else means that the torture itself broke.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    """Run it. What it prints besides goes to stderr, so that stdout is JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.one", description=__doc__)
    parser.add_argument("module", help="module below this folder that has `run`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the tries")
    parser.add_argument("--folder", type=Path, help="folder to work in, which is kept")
    given = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as stdout, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        os.dup2(2, 1)
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        json.dump(outcomes(given.module, given.seed, given.scale, folder), stdout)


def outcomes(module: str, seed: int, scale: float, folder: Path) -> list[dict[str, object]]:
    """Outcomes of a module, each with its seconds and its peak memory. A generator's are timed one by one."""
    run = importlib.import_module(f"{__package__}.{module}").run
    import torch

    torch.set_num_threads(1)
    found, began = [], time.monotonic()
    for outcome in run(seed, scale, folder):
        found.append(
            asdict(outcome)
            | {
                "module": module,
                "survived": outcome.survived,
                "seconds": round(time.monotonic() - began, 1),
                "peak_bytes": outcome.peak_bytes or _peak_bytes(),
            }
        )
        sys.stderr.write(
            f"{outcome.kind}: {outcome.tries} tries, {len(outcome.lost)} lost\n"
            + "".join(f"  {x}\n" for x in outcome.lost)
        )
        began = time.monotonic()
    return found


def _peak_bytes() -> int:
    """Largest memory of this process and of those that it waited for, so far."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
