"""The paper's table 1 with 10 seeds at VGGSound's size, on random embeddings: how long it takes, and what shortens it.

145,000 train clips and 18,000 val clips, 512 + 512, 309 classes, linear adapters of 256, 50 epochs: every method, and
again with AMR at 1:1 if it fuses. Each setting adds to the one before: recorded steps, a method's rows with and without
AMR in one group, TF32 products, and larger batches, which train differently. AdamW is fused everywhere.

A setting is first timed on few steps and epochs (n and 2n steps, 1 and 3 epochs). Its whole time follows from them:
a + b epochs + (c + d epochs) steps. If the time limit allows, the fastest setting with batches of 64 then trains the
whole table.

    python benchmarks/gpu/table.py [--device cuda] [--scale 1] [--steps 6]
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, timed
from sweep import DIMS, make_clips

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.train.graphs import graphed_step
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import plain_step, train_group

TRAIN, VAL, CLASSES, EPOCHS, SEEDS, ADAPTER_DIM = 145_000, 18_000, 309, 50, 10, 256
EPOCHS_TIMED = (1, 3)


@dataclass(frozen=True)
class Setting:
    """A way to train the table."""

    name: str
    recorded: bool = False
    grouped: bool = False
    tf32: bool = False
    batch: int = 64


SETTINGS = (
    Setting("ordinary steps, batch 64"),
    Setting("recorded steps", recorded=True),
    Setting("rows with and without AMR in one group", recorded=True, grouped=True),
    Setting("TF32", recorded=True, grouped=True, tf32=True),
    Setting("batch 512", recorded=True, grouped=True, tf32=True, batch=512),
    Setting("batch 4096", recorded=True, grouped=True, tf32=True, batch=4096),
)


@dataclass(frozen=True)
class Group:
    """Runs of one method that are trained together."""

    method: str
    modality: str | None
    members: tuple[Member, ...]


def groups(num_seeds: int, *, grouped: bool) -> Iterator[Group]:
    """Run groups of the table."""
    for name, method in methods.items():
        plain = tuple(Member(seed) for seed in range(num_seeds))
        regularized = tuple(Member(seed, (0.5, 0.5), 1.0) for seed in range(num_seeds))
        if method.single_modality:
            yield from (Group(name, modality, plain) for modality in DIMS)
        elif not method.fuses:
            yield Group(name, None, plain)
        elif grouped:
            both = sorted((*plain, *regularized), key=lambda member: member.seed)
            yield Group(name, None, tuple(both))
        else:
            yield from (Group(name, None, plain), Group(name, None, regularized))


def train(group: Group, setting: Setting, clips: tuple[Clips, Clips], num_classes: int, epochs: int) -> None:
    """Train a group."""
    train_clips, val_clips = (each if group.modality is None else each.only(group.modality) for each in clips)
    method = methods[group.method]
    dims = {m: e.shape[-1] for m, e in train_clips.embeddings.items()}
    head = method.head or "concat"
    shape = ModelShape.of(dims, num_classes, head=head, hidden=0, adapter="linear", adapter_dim=ADAPTER_DIM)
    settings = (epochs, setting.batch, method.optimizer, method.lr, method.weight_decay, "shared", "accuracy")
    recipe = Recipe(shape, method, method.Options(), Attributor(), *settings, lr_step=method.lr_step)
    torch.set_float32_matmul_precision("high" if setting.tf32 else "highest")
    make = graphed_step if setting.recorded else plain_step
    train_group(recipe, group.members, train_clips, val_clips, make_step=make)


def first(clips: tuple[Clips, Clips], num_train: int, fraction: float) -> tuple[Clips, Clips]:
    """The first clips of train, and as large a part of val."""
    sizes = num_train, max(1, round(len(clips[1]) * min(1.0, fraction)))
    train_clips, val_clips = (
        each.take(torch.arange(min(size, len(each)), device=each.target.device))
        for each, size in zip(clips, sizes, strict=True)
    )
    return train_clips, val_clips


def projected(group: Group, setting: Setting, clips: tuple[Clips, Clips], sizes: tuple[int, int, int]) -> float:
    """Seconds of a group's whole training, from four short ones.

    Args:
        group: Runs.
        setting: Way to train.
        clips: Train and val clips.
        sizes: Number of classes, of epochs, and of steps in the shorter timing.
    """
    num_classes, epochs, steps = sizes
    device, batch = clips[0].target.device, setting.batch
    all_steps = -(-len(clips[0]) // batch)
    steps = min(steps, max(1, all_steps // 2))
    seconds = {}
    for n in (steps, 2 * steps):
        few = first(clips, n * batch, n / all_steps)
        for e in EPOCHS_TIMED:
            work = partial(train, group, setting, few, num_classes, e)
            if not seconds:
                work()  # libraries start
            seconds[n, e] = timed(work, device).wall
    low, high = EPOCHS_TIMED
    by_epoch = {n: (seconds[n, high] - seconds[n, low]) / (high - low) for n in (steps, 2 * steps)}
    at_all_epochs = {n: seconds[n, low] + by_epoch[n] * (epochs - low) for n in by_epoch}
    each_step = (at_all_epochs[2 * steps] - at_all_epochs[steps]) / steps
    return max(0.0, at_all_epochs[steps] + each_step * (all_steps - steps))


def main() -> None:
    """Print the table of settings, then train the whole table if there is time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    ends = time.monotonic() + 0.95 * float(os.environ.get("GPU_PART_SECONDS", "150"))
    device, console, scale = torch.device(arguments.device), Console(width=140), arguments.scale
    num_train, num_val, num_classes = (max(2, round(n * scale)) for n in (TRAIN, VAL, CLASSES))
    num_seeds, epochs = (max(1, round(n * scale)) for n in (SEEDS, EPOCHS))
    clips = make_clips(num_train, num_classes, device), make_clips(num_val, num_classes, device)
    steps = max(1, round(arguments.steps * scale))
    console.print(machine(device))
    chosen, least = SETTINGS[0], math.inf
    for setting in SETTINGS if scale == 1 else (SETTINGS[3],):
        sizes = num_classes, epochs, steps
        each = [(g, projected(g, setting, clips, sizes)) for g in groups(num_seeds, grouped=setting.grouped)]
        total = sum(seconds for _, seconds in each)
        slowest = ", ".join(f"{g.method} {s / 60:.1f}" for g, s in sorted(each, key=lambda pair: -pair[1])[:4])
        console.print(f"{setting.name}: {total / 60:.2f} minutes, projected; the slowest are {slowest}")
        if setting.batch == 64 and total < least:
            chosen, least = setting, total
    left = ends - time.monotonic()
    if least > left:
        console.print(f"whole table not trained: {chosen.name} would take {least:.0f} s, and {left:.0f} are left")
        return
    trained = Table("method", "runs", "seconds", title=f"whole table, {chosen.name}")
    began = time.monotonic()
    for group in groups(num_seeds, grouped=chosen.grouped):
        seconds = timed(partial(train, group, chosen, clips, num_classes, epochs), device).wall
        trained.add_row(f"{group.method} {group.modality or ''}".strip(), str(len(group.members)), f"{seconds:.2f}")
    console.print(trained)
    console.print(f"whole table trained in {(time.monotonic() - began) / 60:.2f} minutes")


if __name__ == "__main__":
    main()
