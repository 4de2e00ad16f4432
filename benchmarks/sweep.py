"""A sweep of 65 runs (13 ratios x 5 seeds) against the plain loop that a user would write.

Sizes of CREMA-D: 5,954 clips, 512 + 512, 6 classes, batch 64; random embeddings. The loop is an in-memory
TensorDataset, a DataLoader and double backward, one run after another; the sweep has one run group per core. Each has
one thread, which is faster than two for steps this small, and much faster on a busy machine. On a busy machine, CPU
time is the fairer clock: the sweep's is spread over the cores. A loop is timed on one epoch of one run and scaled. The
cases take turns, and medians over the rounds are printed. --steps N times only the first N steps of an epoch, whose
clips are spread evenly over all clips.

Beside them, in the same rounds: the sweep without AMR, and by permutation; and the limit, which is the matrix products
of a step with AMR, in their shapes, and a copy of its batch, in the same groups and threads, and nothing else.

    python benchmarks/sweep.py [--hidden 0,256] [--rounds 5] [--device cpu]
    python benchmarks/sweep.py --clips 180000 --classes 309 --steps 8 --rounds 2 --loop-only-memory
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import torch
from rich.console import Console
from rich.table import Table
from rounds import Timing, machine, medians
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from amr.common.devices import one_thread, thread_pool
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import Fold, TrainingData
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.run_axis.closed_form import BLOCK_NUMBERS
from amr.fusion.sweep.grouping import CPU_GROUPS, group_size, partition
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import train_group

DIMS = {"audio": 512, "video": 512}
RATIOS = [(r, 1 - r) for r in (0.9, 0.83, 0.8, 0.75, 0.67, 0.6, 0.5, 0.4, 0.33, 0.25, 0.2, 0.17, 0.1)]
SEEDS = range(5)
MEMBERS = [Member(seed, ratio, 1.0) for seed in SEEDS for ratio in RATIOS]
BATCH = 64


def make_clips(num_clips: int, num_classes: int, device: torch.device) -> Clips:
    """Clips with random embeddings and labels."""
    embeddings = {m: torch.randn(num_clips, dim, device=device) for m, dim in DIMS.items()}
    target = torch.randint(num_classes, (num_clips,), device=device)
    return Clips(embeddings, torch.ones(num_clips, len(DIMS), dtype=torch.bool, device=device), target)


def plain_loop(dataset: Dataset, hidden: int, num_classes: int, epochs: int, device: torch.device, amr: bool) -> int:
    """Train one run as a user would write it, in one thread; return the number of steps."""
    joined = sum(DIMS.values())
    head = (
        nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
        if hidden
        else nn.Linear(joined, num_classes)
    )
    head.to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    batches = (batch for _ in range(epochs) for batch in DataLoader(dataset, batch_size=BATCH, shuffle=True))
    steps = 0
    with one_thread():
        for audio, video, target in batches:
            audio, video, target = audio.to(device), video.to(device), target.to(device)
            logits = head(torch.cat([audio, video], dim=-1))
            loss = nn.functional.cross_entropy(logits, target)
            if amr:
                loss = loss + distance(head, audio, video)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
    return steps


def distance(head: nn.Module, audio: Tensor, video: Tensor) -> Tensor:
    """Regularizer R at ratio 1:1 by double backward."""
    z = [audio.detach().requires_grad_(), video.detach().requires_grad_()]
    logits = head(torch.cat(z, dim=-1))
    best = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
    log_odds = logits[best] - logits.masked_fill(best, -torch.inf).logsumexp(-1)
    gradients = torch.autograd.grad(log_odds.sum(), z, create_graph=True)
    norms = torch.stack([(g * x).norm(dim=-1) for g, x in zip(gradients, z, strict=True)], dim=-1)
    share = (norms / norms.sum(-1, keepdim=True)).mean(0)
    return (share - 0.5).abs().sum()


class H5Dataset(Dataset):
    """A dataset that reads rows from HDF5 one by one, as is common."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "r")

    def __len__(self) -> int:
        return len(self.file["target"])

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        return torch.from_numpy(self.file["audio"][i]), torch.from_numpy(self.file["video"][i]), self.file["target"][i]


def recipe(hidden: int, num_classes: int, epochs: int, attribution: str = "grad_x_input") -> Recipe:
    """Recipe of all members."""
    shape = ModelShape.of(DIMS, num_classes, head="concat", hidden=hidden, adapter="none", adapter_dim=1)
    naive = methods["naive"]
    attributor = Attributor(attribution=attribution)
    return Recipe(shape, naive, naive.Options(), attributor, epochs, BATCH, "adamw", 1e-3, 1e-2, "shared", "last")


def in_groups(work: Callable[[list[Member]], object], plan: Recipe, clips: Clips, size: int | None, amr: bool) -> None:
    """Do work for each run group of `amr sweep`: on a CPU, with one thread each, and one per core at a time."""
    on_cpu = clips.target.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else 1
    fold = Fold(None, None, clips, no_clips_of(clips), no_clips_of(clips))
    data = TrainingData(Path(), None, (fold,), ())  # type: ignore[arg-type]
    most = size or group_size(plan, data, shares=True)
    places = partition([member.seed for member in MEMBERS], most, CPU_GROUPS if on_cpu and not size else 1)
    groups = [[MEMBERS[i] if amr else Member(MEMBERS[i].seed) for i in group] for group in places]

    with thread_pool(workers) as pool:
        list(pool.map(work, groups))


def no_clips_of(clips: Clips) -> Clips:
    """No clips, with the dimensions of these."""
    return clips.take(torch.zeros(0, dtype=torch.long, device=clips.target.device))


def swept(plan: Recipe, clips: Clips, size: int | None, amr: bool = True) -> None:
    """Train all members as `amr sweep` does."""
    in_groups(lambda group: train_group(plan, group, clips, no_clips_of(clips)), plan, clips, size, amr)


def least(plan: Recipe, clips: Clips, size: int | None) -> None:
    """Only the matrix products of all steps with AMR, in their shapes, and a copy of each batch."""
    in_groups(lambda group: products_and_copies(plan, group, clips), plan, clips, size, amr=True)


def products_and_copies(plan: Recipe, group: list[Member], clips: Clips) -> None:
    """Products and copies of one epoch of a run group; g in blocks, as in `amr.fusion.run_axis.closed_form`."""
    runs, seeds, joined, device = len(group), len({m.seed for m in group}), sum(DIMS.values()), clips.target.device
    rows = plan.shape.head_shape.hidden or plan.shape.head_shape.num_classes
    block = min(runs, BLOCK_NUMBERS // (BATCH * joined)) if device.type == "cpu" else runs
    z, source = (torch.randn(seeds, BATCH, joined, device=device) for _ in range(2))
    weight, grad_weight = (torch.randn(runs, rows, joined, device=device) for _ in range(2))
    u, grad_u = (torch.randn(runs, rows, BATCH, device=device) for _ in range(2))
    g = torch.randn(block, BATCH, joined, device=device)
    wide, wide_grad = (x.view(seeds, -1, joined) for x in (weight, grad_weight))
    for _ in range(-(-len(clips) // BATCH)):
        z.copy_(source)
        torch.bmm(wide, z.mT, out=u.view(seeds, -1, BATCH))  # the layer
        for start in range(0, runs, block):
            part, of_block = slice(start, start + block), g[: min(block, runs - start)]
            torch.bmm(u[part].mT, weight[part], out=of_block)  # the gradient of its input
            torch.bmm(weight[part], of_block.mT, out=grad_u[part])  # and the gradients of the norm of that
            torch.bmm(u[part], of_block, out=grad_weight[part])
        torch.bmm(u.view(seeds, -1, BATCH), z, out=wide_grad)  # the gradient of its weights


def one_fit(plan: Recipe, clips: Clips) -> None:
    """Train one member as `amr fit` does."""
    train_group(plan, MEMBERS[:1], clips, no_clips_of(clips))


def first_steps(clips: Clips, steps: int | None) -> Clips:
    """Clips of the first steps, spread evenly over all clips, as views."""
    stride = 1 if steps is None else max(1, len(clips) // (steps * BATCH))
    selected = slice(None) if steps is None else slice(0, stride * steps * BATCH, stride)
    return Clips({m: e[selected] for m, e in clips.embeddings.items()}, clips.present[selected], clips.target[selected])


def cases(
    hidden: int, arguments: argparse.Namespace, clips: Clips, folder: Path
) -> dict[str, tuple[Callable[[], object], int]]:
    """Case name to a function that trains one epoch, and the number of runs that it trains."""
    device = clips.target.device
    plan, permuted = (recipe(hidden, arguments.classes, 1, each) for each in ("grad_x_input", "permutation"))
    tensors = (*(e.cpu() for e in clips.embeddings.values()), clips.target.cpu())
    loop = partial(plain_loop, hidden=hidden, num_classes=arguments.classes, epochs=1, device=device)
    memory = TensorDataset(*tensors)
    found: dict[str, tuple[Callable[[], object], int]] = {
        "sweep": (partial(swept, plan, clips, arguments.group_size), len(MEMBERS)),
        "limit": (partial(least, plan, clips, arguments.group_size), len(MEMBERS)),
        "sweep without AMR": (partial(swept, plan, clips, arguments.group_size, amr=False), len(MEMBERS)),
        "sweep by permutation": (partial(swept, permuted, clips, arguments.group_size), len(MEMBERS)),
        "one fit after another": (partial(one_fit, plan, clips), 1),
        "DataLoader loop, in memory": (partial(loop, memory, amr=True), 1),
        "the same without AMR": (partial(loop, memory, amr=False), 1),
    }
    if not arguments.loop_only_memory:
        with h5py.File(folder / "clips.h5", "w") as file:
            for name, tensor in zip(("audio", "video", "target"), tensors, strict=True):
                file[name] = tensor.numpy()
        found["DataLoader loop, from HDF5"] = (partial(loop, H5Dataset(folder / "clips.h5"), amr=True), 1)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", default="0,256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--loop-only-memory", action="store_true", help="leave out the loop that reads HDF5")
    parser.add_argument("--clips", type=int, default=5954)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--group-size", type=int, default=None)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    clips = first_steps(make_clips(arguments.clips, arguments.classes, device), arguments.steps)
    steps = -(-len(clips) // BATCH)
    columns = ("ms per run and step", "CPU ms", "65 runs, 1 epoch: s", "sweep is faster by")
    table = Table("hidden", "case", *columns, "share of the limit", "times a step without AMR")
    for hidden in map(int, arguments.hidden.split(",")):
        with TemporaryDirectory() as folder:
            found = cases(hidden, arguments, clips, Path(folder))
            times = medians({name: work for name, (work, _) in found.items()}, arguments.rounds, device)
        # seconds per run and step
        each = {name: Timing(*(t / num_runs / steps for t in times[name])) for name, (_, num_runs) in found.items()}
        epoch = len(MEMBERS) * -(-arguments.clips // BATCH)
        for case, one in each.items():
            ratio = f"{one.wall / each['sweep'].wall:.1f}"
            times_ms = (f"{t * 1e3:.3f}" for t in one)
            shown = (f"{each['limit'].wall / one.wall:.2f}", f"{one.wall / each['sweep without AMR'].wall:.2f}")
            shown = shown if case in ("sweep", "sweep by permutation") else ("", "")
            table.add_row(str(hidden), case, *times_ms, f"{one.wall * epoch:.2f}", ratio, *shown)
    console = Console(width=120)
    console.print(machine(device))
    console.print(table)


if __name__ == "__main__":
    main()
