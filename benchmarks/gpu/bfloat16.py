"""Training encoders in bfloat16, as on every GPU, against float32: `benchmarks/encoders.py` with both.

python benchmarks/gpu/bfloat16.py [--device cuda] [--dataset crema-d,vggsound] [--batch 64] [--steps 8]
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from encoders import epoch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians


def in_float32(work: Any) -> Any:
    """The work without autocast."""
    with patch.object(torch, "autocast", lambda *args, **options: nullcontext()):
        return work()


def noting_loss(losses: dict[str, float], name: str, work: Any) -> None:
    """Note the last loss of a training."""
    losses[name] = work().history["train_loss"][-1].item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dataset", default="crema-d,vggsound")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    device, console = torch.device(arguments.device), Console(width=120)
    console.print(machine(device))
    num_clips = arguments.batch * arguments.steps
    table = Table("dataset", "bfloat16, clips/s", "float32", "ratio", "train loss in bfloat16", "in float32")
    for dataset in arguments.dataset.split(","):
        work = epoch(dataset, num_clips, arguments.batch, device)
        losses = dict[str, float]()
        cases = {
            "bfloat16": partial(noting_loss, losses, "bfloat16", work),
            "float32": partial(in_float32, partial(noting_loss, losses, "float32", work)),
        }
        times = medians(cases, 1, device)
        rates = [num_clips / times[name].wall for name in cases]
        shown = (
            *(f"{rate:.1f}" for rate in rates),
            f"{rates[0] / rates[1]:.2f}",
            *(f"{losses[name]:.4f}" for name in cases),
        )
        table.add_row(dataset, *shown)
    console.print(table)


if __name__ == "__main__":
    main()
