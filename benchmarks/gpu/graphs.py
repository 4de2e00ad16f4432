"""A step that is recorded as a CUDA graph against the same step without, and whether recording is worth its code.

Sizes of CREMA-D and VGGSound, batch 64, AMR on. Every step trains on its own batch. On a CPU, a stand-in repeats the
work where a graph would be replayed: that tries the script.

    python benchmarks/gpu/graphs.py [--device cuda] [--steps 200] [--rounds 3] [--scale 1]
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians
from sweep import BATCH, DIMS, make_clips
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.train.graphs import CudaGraphs, GraphedStep
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import MakeStep, TrainOnBatch, plain_step, train_group

WORTH = 2.0
HALF = (0.5, 0.5)
# method, classes, hidden units, adapter, runs
CASES = (
    *(("naive", 6, 0, "none", 1), ("naive", 6, 0, "none", 65), ("naive", 6, 256, "none", 1)),
    *(("naive", 6, 256, "none", 65), ("naive", 309, 0, "linear", 10), ("umt", 309, 0, "linear", 10)),
    *(("gge", 309, 0, "linear", 10), ("naive", 309, 0, "linear", 20)),
)


class Repeats:
    """Repeats the work where a graph would be replayed."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do it once."""
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the work."""
        return work


def recorded_step(device: torch.device) -> MakeStep:
    """Factory of recorded steps."""
    return lambda step, train: GraphedStep(step, train, CudaGraphs() if device.type == "cuda" else Repeats())


def step_of(
    recipe: Recipe, members: list[Member], num_classes: int, device: torch.device, make: MakeStep
) -> TrainOnBatch:
    """The step of a training, after its first epoch."""
    clips, made = make_clips(2 * BATCH, num_classes, device), list[TrainOnBatch]()
    no_clips = clips.take(torch.zeros(0, dtype=torch.long, device=device))

    def keeping(step: object, train: object) -> TrainOnBatch:
        made.append(make(step, train))  # type: ignore[arg-type]
        return made[-1]

    train_group(recipe, members, clips, no_clips, make_step=keeping)
    return made[-1]  # those before it trained uni-modal models


def scaled(case: tuple[str, int, int, str, int], scale: float) -> tuple[str, int, int, str, int]:
    """A case with fewer classes, units and runs."""
    method, num_classes, hidden, adapter, runs = case
    return method, max(2, round(num_classes * scale)), round(hidden * scale), adapter, max(1, round(runs * scale))


def repeat(step: TrainOnBatch, indices: list[Tensor], count: int) -> None:
    """Take steps on batches in turn."""
    for i in range(count):
        step(indices[i % len(indices)])


def main() -> None:
    """Print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of classes, units and runs")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device, console = torch.device(arguments.device), Console(width=120)
    console.print(machine(device))
    table = Table("method", "classes", "hidden", "adapter", "runs", "ordinary, ms per step", "recorded", "ratio")
    ratios = []
    for name, num_classes, hidden, adapter, runs in (scaled(case, arguments.scale) for case in CASES):
        shape = ModelShape.of(DIMS, num_classes, head="concat", hidden=hidden, adapter=adapter, adapter_dim=256)
        method = methods[name]
        settings = (1, BATCH, method.optimizer, method.lr, method.weight_decay, "shared", "last")
        recipe = Recipe(shape, method, method.Options(), Attributor(), *settings)
        members = [Member(i * min(5, runs) // runs, HALF, 1.0) for i in range(runs)]
        row = (name, str(num_classes), str(hidden), adapter, str(runs))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            ways = {"ordinary": plain_step, "recorded": recorded_step(device)}
            steps = {way: step_of(recipe, members, num_classes, device, make) for way, make in ways.items()}
        seeds = len({member.seed for member in members})
        shared = seeds if runs % seeds == 0 else runs
        indices = [torch.randint(2 * BATCH, (shared, BATCH), device=device) for _ in range(8)]
        work = {way: partial(repeat, step, indices, arguments.steps) for way, step in steps.items()}
        times = medians(work, arguments.rounds, device)
        ordinary, recorded = (times[way].wall / arguments.steps * 1e3 for way in ways)
        refused = [str(each.message) for each in warned if "could not be recorded" in str(each.message)]
        ratios.append(1.0 if refused else ordinary / recorded)
        shown = refused[0] if refused else f"{recorded:.3f}"
        table.add_row(*row, f"{ordinary:.3f}", shown, f"{ratios[-1]:.2f}")
    console.print(table)
    middle = statistics.median(ratios)
    verdict = "keep recorded steps" if middle >= WORTH else "delete recorded steps"
    verdict = verdict if device.type == "cuda" else "none on a CPU"
    console.print(f"median ratio {middle:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}. Verdict: {verdict}.")


if __name__ == "__main__":
    main()
