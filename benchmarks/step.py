"""The cost of AMR in a training step, per head: a step with AMR divided by the same step without it.

AMR is computed by the closed form if the head has one, by double backward, and on permutation shares, for one run and
for run groups. Sizes of CREMA-D: 512 + 512, 6 classes, batch 64. Each number is the median over rounds. In a round the
cases take turns, so that a machine that slows down slows all of them.

    python benchmarks/step.py [--device cpu] [--rounds 7] [--runs 1,33] [--classes 6] [--steps 20]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from amr.common.devices import one_thread
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.heads import heads
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import train_group

DIMS = {"audio": 512, "video": 512}
BATCH = 64
HEADS = [
    ("concat", 0),
    ("sum", 0),
    ("concat", 256),
    ("sum", 256),
    ("gated", 0),
    ("film", 0),
    ("bilinear", 0),
    ("attention", 0),
]


def recipe(head: str, hidden: int, num_classes: int, attribution: str = "grad_x_input") -> Recipe:
    """Recipe of one epoch of naive training."""
    shape = ModelShape.of(DIMS, num_classes, head=head, hidden=hidden, adapter="none", adapter_dim=1)
    naive = methods["naive"]
    attributor = Attributor(attribution=attribution)
    return Recipe(shape, naive, naive.Options(), attributor, 1, BATCH, "adamw", 1e-3, 1e-2, "shared", "last")


def seconds(plan: Recipe, members: list[Member], clips: Clips, no_clips: Clips) -> float:
    """Time of one epoch, in seconds."""
    began = time.perf_counter()
    train_group(plan, members, clips, no_clips)
    if clips.target.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def rows(runs: int, rounds: int, num_classes: int, steps: int, device: torch.device) -> Iterator[tuple[str, ...]]:
    """Rows of the table, one per head."""
    clips = Clips(
        {m: torch.randn(BATCH * steps, dim, device=device) for m, dim in DIMS.items()},
        torch.ones(BATCH * steps, len(DIMS), dtype=torch.bool, device=device),
        torch.randint(num_classes, (BATCH * steps,), device=device),
    )
    no_clips = clips.take(torch.zeros(0, dtype=torch.long, device=device))
    plain = [Member(i % 5) for i in range(runs)]
    regularized = [Member(i % 5, (0.5, 0.5), 1.0) for i in range(runs)]
    plain.sort(key=lambda member: member.seed)
    regularized.sort(key=lambda member: member.seed)
    for head, hidden in HEADS:
        plan, own = recipe(head, hidden, num_classes), heads[head].closed_form
        permuted = recipe(head, hidden, num_classes, "permutation")
        work = {
            "plain": (plan, plain, own),
            "closed": (plan, regularized, own),
            "double": (plan, regularized, False),
            "permutation": (permuted, regularized, own),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds + 1):
            for name, (plan, members, closed_form) in work.items():
                with patch.object(heads[head], "closed_form", closed_form):
                    times[name].append(seconds(plan, members, clips, no_clips))
        each = {name: statistics.median(values[1:]) / steps / runs * 1e3 for name, values in times.items()}
        name = f"{head}, hidden {hidden}" if hidden else head
        ratios = (f"{each[way] / each['plain']:.2f}" for way in ("closed", "double", "permutation"))
        yield (name, str(runs), *(f"{value:.3f}" for value in each.values()), *ratios)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", default="1,33")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    ways = ("AMR", "double backward", "permutation")
    table = Table("head", "runs", "plain, ms per run", *ways, *(f"{way} / plain" for way in ways))
    with one_thread():
        for runs in map(int, arguments.runs.split(",")):
            for row in rows(runs, arguments.rounds, arguments.classes, arguments.steps, device):
                table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
