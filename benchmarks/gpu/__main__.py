"""Everything that needs a GPU, in one command of under nine minutes: `make gpu`, or `python benchmarks/gpu`.

Each part of `parts.py` is a process of its own with a time limit, so that one that fails ends no other. The report,
`gpu-NAME.md`, has the machine, the versions, and what each part printed. It is written anew after each part. A part
that lacks a package is left out, and the report names the package. Nothing is downloaded or installed.

    python benchmarks/gpu [--device cuda] [--parts tests,sweep] [--scale 1] [--seconds 530] [--out docs/benchmarks]
    python benchmarks/gpu --device cpu --scale 0.01     tries the script itself
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from parts import PARTS, ROOT, Outcome, run_part
from report import facts, write_report


def main() -> int:
    """Run the parts; the number of those that failed is the exit status, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--parts", default=",".join(PARTS), help="names of the parts to run")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of all sizes")
    parser.add_argument("--seconds", type=float, default=530.0, help="limit of the whole command")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the report")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts.split(",") if name not in PARTS]
    if unknown:
        sys.exit(f"--parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}. Leave it out for all.")
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit(f"{sys.executable} must have torch, got none. Pass make gpu PYTHON=... with a Python that has it.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device must be available, got cuda without a GPU. Pass --device cpu --scale 0.01 to try it.")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    began, outcomes = time.monotonic(), list[Outcome]()
    known = facts(torch, arguments.device)
    for name in arguments.parts.split(","):
        left = arguments.seconds - (time.monotonic() - began)
        outcomes.append(run_part(PARTS[name], arguments.device, arguments.scale, left))
        print(f"{name}: {outcomes[-1].summary}", flush=True)
        file = write_report(arguments.out, known, outcomes, arguments.scale)
    print(f"{time.monotonic() - began:.0f} s; the report is {file}")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
