"""A sweep of 65 runs (13 ratios x 5 seeds) against the plain loop that a user would write.

Sizes of CREMA-D: 5,954 clips, 512 + 512, 6 classes, batch 64; random embeddings. The loop is an in-memory
TensorDataset, a DataLoader and double backward, one run after another; it is timed on a few epochs of a few runs and
scaled, which favours the loop (it never warms up twice). Prints one row a case.

    python benchmarks/sweep.py [--hidden 0,256] [--epochs 3] [--device cpu] [--clips 5954] [--classes 6]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from amr.fusion.attributor import Attributor
from amr.fusion.clips import Clips
from amr.fusion.groups import cut, group_size
from amr.fusion.methods import methods
from amr.fusion.model import ModelShape
from amr.fusion.recipe import Member, Recipe
from amr.fusion.source import Fold, Source
from amr.fusion.threads import one_thread
from amr.fusion.trainer import train_group

DIMS = {"audio": 512, "video": 512}
RATIOS = [(r, 1 - r) for r in (0.9, 0.83, 0.8, 0.75, 0.67, 0.6, 0.5, 0.4, 0.33, 0.25, 0.2, 0.17, 0.1)]
SEEDS = range(5)
MEMBERS = [Member(seed, ratio, 1.0) for seed in SEEDS for ratio in RATIOS]
BATCH = 64


def make_clips(num_clips: int, num_classes: int, device: torch.device) -> Clips:
    """Random embeddings."""
    embeddings = {m: torch.randn(num_clips, dim, device=device) for m, dim in DIMS.items()}
    target = torch.randint(num_classes, (num_clips,), device=device)
    return Clips(embeddings, torch.ones(num_clips, len(DIMS), dtype=torch.bool, device=device), target)


def plain_loop(dataset: Dataset, hidden: int, num_classes: int, epochs: int, device: torch.device, amr: bool) -> int:
    """One run as a user would write it; the number of steps."""
    joined = sum(DIMS.values())
    head = (
        nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
        if hidden
        else nn.Linear(joined, num_classes)
    )
    head.to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = 0
    for _ in range(epochs):
        for audio, video, target in DataLoader(dataset, batch_size=BATCH, shuffle=True):
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
    """R at 1:1 by double backward."""
    z = [audio.detach().requires_grad_(), video.detach().requires_grad_()]
    logits = head(torch.cat(z, dim=-1))
    best = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).bool()
    log_odds = logits[best] - logits.masked_fill(best, -torch.inf).logsumexp(-1)
    gradients = torch.autograd.grad(log_odds.sum(), z, create_graph=True)
    norms = torch.stack([(g * x).norm(dim=-1) for g, x in zip(gradients, z, strict=True)], dim=-1)
    share = (norms / norms.sum(-1, keepdim=True)).mean(0)
    return (share - 0.5).abs().sum()


class H5Dataset(Dataset):
    """Rows read from HDF5 one at a time, as many data sets are."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "r")

    def __len__(self) -> int:
        return len(self.file["target"])

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        return torch.from_numpy(self.file["audio"][i]), torch.from_numpy(self.file["video"][i]), self.file["target"][i]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of a piece of work, with the device's queue empty on both sides."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def recipe(hidden: int, num_classes: int, epochs: int) -> Recipe:
    """What all members share."""
    shape = ModelShape.of(DIMS, num_classes, head="concat", hidden=hidden, adapter="none", adapter_dim=1)
    naive = methods["naive"]
    return Recipe(shape, naive, naive.Options(), Attributor(), epochs, BATCH, "adamw", 1e-3, 1e-2, "shared", "last")


def train_alone(plan: Recipe, group: list[Member], clips: Clips, none: Clips, workers: int) -> None:
    """One group, with one thread where several are trained side by side."""
    with one_thread() if workers > 1 else nullcontext():
        train_group(plan, group, clips, none)


def swept(plan: Recipe, clips: Clips, size: int | None) -> None:
    """All members as `amr sweep` trains them: on a CPU, a group a core, each with one thread."""
    none = clips.take(torch.zeros(0, dtype=torch.long, device=clips.target.device))
    workers = torch.get_num_threads() if clips.target.device.type == "cpu" else 1
    source = Source(Path(), None, (Fold(None, None, clips, none, none),), ())  # type: ignore[arg-type]
    most = size or group_size(plan, source, workers, shares=True)
    places = cut([member.seed for member in MEMBERS], most, 1 if size else workers)
    groups = [[MEMBERS[place] for place in group] for group in places]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda group: train_alone(plan, group, clips, none, workers), groups))


def one_fit(plan: Recipe, clips: Clips) -> None:
    """One member, as `amr fit` trains it."""
    train_group(plan, MEMBERS[:1], clips, clips.take(torch.zeros(0, dtype=torch.long, device=clips.target.device)))


def cases(hidden: int, arguments: argparse.Namespace, clips: Clips, folder: Path) -> Iterator[tuple[str, float]]:
    """Each case and its seconds for one epoch of all members."""
    device = clips.target.device
    whole = recipe(hidden, arguments.classes, arguments.epochs)
    one = recipe(hidden, arguments.classes, 1)
    one_fit(one, clips)  # warm up
    yield "sweep", seconds(partial(swept, whole, clips, arguments.group_size), device) / arguments.epochs
    yield "one fit after another", len(MEMBERS) * seconds(partial(one_fit, one, clips), device)
    tensors = (*(e.cpu() for e in clips.embeddings.values()), clips.target.cpu())
    loop = partial(plain_loop, hidden=hidden, num_classes=arguments.classes, epochs=1, device=device)
    memory = TensorDataset(*tensors)
    yield "DataLoader loop, in memory", len(MEMBERS) * seconds(partial(loop, memory, amr=True), device)
    yield "the same without AMR", len(MEMBERS) * seconds(partial(loop, memory, amr=False), device)
    with h5py.File(folder / "clips.h5", "w") as file:
        for name, tensor in zip(("audio", "video", "target"), tensors, strict=True):
            file[name] = tensor.numpy()
    from_file = H5Dataset(folder / "clips.h5")
    yield "DataLoader loop, from HDF5", len(MEMBERS) * seconds(partial(loop, from_file, amr=True), device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", default="0,256")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--clips", type=int, default=5954)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--group-size", type=int, default=None)
    arguments = parser.parse_args()
    clips = make_clips(arguments.clips, arguments.classes, torch.device(arguments.device))
    steps = -(-arguments.clips // BATCH)
    table = Table("hidden", "case", "ms a run and step", "65 runs, 1 epoch: s", "sweep is faster by")
    for hidden in map(int, arguments.hidden.split(",")):
        with TemporaryDirectory() as folder:
            rows = list(cases(hidden, arguments, clips, Path(folder)))
        for case, total in rows:
            each = total / len(MEMBERS) / steps * 1e3
            table.add_row(str(hidden), case, f"{each:.3f}", f"{total:.2f}", f"{total / rows[0][1]:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
