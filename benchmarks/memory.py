"""Peak memory against the size of a run group: linear and hidden 256, sizes of CREMA-D, with AMR.

On a CPU, each size gets its own process. The peak is the kernel's (ru_maxrss), minus that of a process that holds the
clips and trains nothing. On a GPU, it is what PyTorch allocated in addition to the clips (max_memory_allocated).

    python benchmarks/memory.py [--sizes 1,13,65] [--hidden 0,256] [--clips 5954] [--classes 6] [--device cpu]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch
from rich.console import Console
from rich.table import Table
from rounds import machine
from sweep import BATCH, RATIOS, make_clips, recipe

from amr.common.devices import one_thread
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

NUM_STEPS = 3


def peak_mib(size: int, hidden: int, num_clips: int, num_classes: int, device: torch.device) -> float:
    """Peak memory in MiB after a run group was trained for a few steps and validated on a tenth of the clips."""
    clips = make_clips(num_clips, num_classes, device)
    members = [Member(i // len(RATIOS), RATIOS[i % len(RATIOS)], 1.0) for i in range(size)]
    rows = torch.arange(len(clips), device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    if members:
        train, val = clips.take(rows[: NUM_STEPS * BATCH]), clips.take(rows[::10])
        with one_thread():
            train_group(recipe(hidden, num_classes, 1), members, train, val)
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def in_process(size: int, hidden: int, arguments: argparse.Namespace) -> float:
    """Run `peak_mib` in a separate process."""
    command = [sys.executable, __file__, "--child", str(size), "--hidden", str(hidden)]
    command += ["--clips", str(arguments.clips), "--classes", str(arguments.classes), "--device", arguments.device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,13,65")
    parser.add_argument("--hidden", default="0,256")
    parser.add_argument("--clips", type=int, default=5954)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--child", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.child is not None:
        hidden = int(arguments.hidden)
        print(peak_mib(arguments.child, hidden, arguments.clips, arguments.classes, device))
        return
    table = Table("hidden", "runs in the group", "peak, MiB", "MiB per run", "weights of a run, MiB")
    for hidden in map(int, arguments.hidden.split(",")):
        idle = in_process(0, hidden, arguments)
        joined = 1024
        weights = hidden * (joined + 1) + arguments.classes * ((hidden or joined) + 1)
        for size in map(int, arguments.sizes.split(",")):
            peak = in_process(size, hidden, arguments) - idle
            table.add_row(str(hidden), str(size), f"{peak:.0f}", f"{peak / size:.2f}", f"{weights * 4 / 2**20:.3f}")
    console = Console(width=110)
    console.print(machine(device))
    console.print(table)


if __name__ == "__main__":
    main()
