"""What each part of the code that is there only for speed buys: its work done with it, and with it patched away.

1. fused step: the forward pass of the attribution serves the task, too.
2. common batch: runs of one seed in a group share their batches.
3. closed form of the attribution, against autograd's double backward.
4. blocks of runs in the closed form, against all runs at once.
5. one thread: for short steps, for a group of a sweep beside others, and for normalizing.
6. bytes: inputs come from workers as bytes through a pipe, not as PyTorch sends tensors, in shared memory.

Sizes of CREMA-D: 512 + 512, 6 classes, batch 64, AMR on; "65 runs" is a sweep of 13 ratios x 5 seeds, in the groups
that `amr sweep` makes. Times are ms a run and step; for 6, ms a clip; for normalizing, ms for all 5,954 clips. CPU time
is that of all threads and all worker processes; where the machine has other work, only its ratios hold. "With" is timed
once for all paths of one place, and the cases take turns.

Before anything is timed, each path is checked on a few steps in double precision: what is trained must come out the
same with and without it ("differ by", relative to the largest value), and the patch must do something ("witness").
On CPUs only.

    python benchmarks/speed_paths.py [--rounds 3] [--steps 6] [--clips 48]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import rounds
import sweep
import torch
from extraction import PAIRS, find_clips
from rich.console import Console
from rich.table import Table
from rounds import Timing, machine, medians, timed
from torch import Tensor

from amr.extract.encoders import Encoder, build_encoder
from amr.extract.pipeline import workers
from amr.extract.pipeline.load import ClipFiles, Loaded
from amr.extract.pipeline.workers import ClipLoader, Task
from amr.fusion.data import dataset as dataset_module
from amr.fusion.data import normalization
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.normalization import Normalization
from amr.fusion.heads.concat import ConcatHead
from amr.fusion.model import Fitted
from amr.fusion.run_axis import closed_form
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.train import trainer
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.step import OptimizerStep

NUM_CLIPS, NUM_CLASSES, NUM_WORKERS, BATCH_OF_CLIPS = 5954, 6, 2, 32
CHECK_STEPS, TOLERANCE = 2, 1e-6
SETTLE_SECONDS = 0.05  # threads that wait for the next piece of work go on spinning for a while
Results = dict[str, Tensor]
Off = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Witness:
    """A function that is watched while a path is on and off: what its calls come to must differ.

    Args:
        owner: module or class of the function.
        name: of the function.
        number: of the arguments of a call; numbers are added up.
        what: is counted.
    """

    owner: Any
    name: str
    number: Callable[..., int]
    what: str

    @contextmanager
    def watch(self) -> Iterator[list[int]]:
        """The numbers, as they come."""
        seen: list[int] = []
        watched = getattr(self.owner, self.name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            seen.append(self.number(*args))
            return watched(*args, **kwargs)

        with patch.object(self.owner, self.name, noting):
            yield seen


@dataclass(frozen=True)
class SpeedPath:
    """Something that is there for speed: its name, what switches it off, and what tells that it is off."""

    name: str
    off: Off
    witness: Witness


def all_of(*paths: SpeedPath) -> SpeedPath:
    """Several at once."""

    @contextmanager
    def off() -> Iterator[None]:
        with ExitStack() as stack:
            for path in paths:
                stack.enter_context(path.off())
            yield

    return SpeedPath("all of these", off, paths[-1].witness)


@dataclass(frozen=True)
class Place:
    """Where paths matter.

    Args:
        name: what is done.
        work: is timed.
        units: in the work; times are for one.
        check: the same work on little, with its results.
        paths: that are tried.
        more: times the rounds that are asked for: short work needs more.
    """

    name: str
    work: Callable[[], object]
    units: int
    check: Callable[[], Results]
    paths: Sequence[SpeedPath]
    more: int = 1


def fused_off() -> AbstractContextManager[Any]:
    """A second forward pass: the logits that come with the shares are not used."""
    attribute = OptimizerStep._attribute

    def apart(step: OptimizerStep, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits = step.model.head(z, batch.present)
        return logits, *attribute(step, batch, z)[1:]

    return patch.object(OptimizerStep, "_attribute", apart)


def common_off() -> AbstractContextManager[Any]:
    """Every run gathers its own clips."""
    shuffles = Noise.shuffles
    return patch.object(Noise, "shuffles", lambda noise, *at: of_runs(shuffles(noise, *at), len(noise._rows)))


@contextmanager
def one_thread_off() -> Iterator[None]:
    """PyTorch's number of threads, in a fit and in every worker of a sweep."""
    torch.set_num_threads(torch.get_num_threads())  # new threads have the number that any thread was given last
    with (
        patch.object(trainer, "threads_for", lambda products: nullcontext()),
        patch.object(sweep, "thread_pool", ThreadPoolExecutor),
    ):
        yield


@contextmanager
def side_by_side_off() -> Iterator[None]:
    """A sweep's groups one after another, with PyTorch's number of threads."""
    with one_thread_off(), patch.object(sweep, "thread_pool", lambda num_workers: ThreadPoolExecutor(1)):
        yield


@contextmanager
def normalizing_threads() -> Iterator[None]:
    """PyTorch's number of threads for means, deviations and normalizing: the functions below `one_thread`."""
    with ExitStack() as stack:
        for owner, name, function in (
            (dataset_module, "moments", normalization.moments),
            (Normalization, "apply_to", Normalization.apply_to),
        ):
            stack.enter_context(patch.object(owner, name, function.__wrapped__))
        yield


def num_threads(*args: object) -> int:
    """Threads of a call, whatever its arguments."""
    return torch.get_num_threads()


def switch(owner: Any, name: str, value: object) -> Off:
    """What gives something another value for a while."""
    return lambda: patch.object(owner, name, value)


def calls(owner: Any, name: str, what: str) -> Witness:
    """How often a function is called."""
    return Witness(owner, name, lambda *args: 1, what)


THREADS = Witness(OptimizerStep, "__call__", num_threads, "threads x steps")
GATHERED = Witness(Clips, "gather", lambda clips, index, num_runs: len(index), "batches gathered")
FUSED = SpeedPath("1 fused step", fused_off, calls(ConcatHead, "fuse", "forward passes"))
COMMON = SpeedPath("2 common batch", common_off, GATHERED)
CLOSED_FORMS = calls(ConcatHead, "magnitudes", "closed forms")
CLOSED = SpeedPath("3 closed form", switch(ConcatHead, "closed_form", False), CLOSED_FORMS)
IN_BLOCKS = calls(torch.linalg, "vector_norm", "norms")
BLOCKS = SpeedPath("4 blocks of runs", switch(closed_form, "BLOCK_NUMBERS", 2**40), IN_BLOCKS)
ONE_THREAD = SpeedPath("5 one thread", one_thread_off, THREADS)
SIDE_BY_SIDE = SpeedPath("5 groups side by side", side_by_side_off, THREADS)
NORMALIZING = SpeedPath(
    "5 one thread", normalizing_threads, Witness(normalization, "chunks_of", num_threads, "threads")
)
BYTES = SpeedPath("6 bytes", switch(Loaded, "__reduce__", object.__reduce__), calls(torch, "from_numpy", "arrays came"))


@contextmanager
def doubles() -> Iterator[None]:
    """All that is trained in double precision."""
    torch.set_default_dtype(torch.double)
    try:
        with patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def fitted_by(work: Callable[[], object]) -> Results:
    """Weights and history of every group that is trained, in double precision: there rounding leaves no doubt."""
    groups: dict[tuple[Member, ...], Fitted] = {}
    train_group = sweep.train_group

    def keeping(plan: Recipe, members: Sequence[Member], train: Clips, val: Clips) -> None:
        groups[tuple(members)] = train_group(plan, members, train, val)

    with doubles(), patch.object(sweep, "train_group", keeping):
        work()
    return {
        f"{group[0]} {name}": value.double()
        for group, fitted in groups.items()
        for name, value in {**fitted.model.state_dict(), **fitted.history}.items()
    }


def training_places(steps: int) -> Iterator[Place]:
    """One run as `amr fit` trains it, and a sweep; a linear head, and 256 hidden units."""
    clips = sweep.make_clips(NUM_CLIPS, NUM_CLASSES, torch.device("cpu"))
    few, some, many = (sweep.first_steps(clips, n) for n in (CHECK_STEPS, steps, 4 * steps))
    for hidden in (0, 256):
        plan = sweep.recipe(hidden, NUM_CLASSES, 1)
        head = f"{hidden} hidden" if hidden else "linear"
        fit = partial(sweep.one_fit, plan, many), 4 * steps, partial(fitted_by, partial(sweep.one_fit, plan, few))
        yield Place(f"1 run, {head}", *fit, [FUSED, CLOSED], more=1 if hidden else 5)
        # apart: where the machine has other work, threads that wait for each other take up to 50 times as long
        yield Place(f"1 run, {head}", *fit, [ONE_THREAD])
        group = [FUSED, COMMON, CLOSED, BLOCKS, ONE_THREAD, SIDE_BY_SIDE]
        yield Place(
            f"65 runs, {head}",
            partial(sweep.swept, plan, some if hidden else many, None),
            len(sweep.MEMBERS) * (steps if hidden else 4 * steps),
            partial(fitted_by, partial(sweep.swept, plan, few, None)),
            [*group, all_of(FUSED, COMMON, CLOSED, SIDE_BY_SIDE)],
        )


def normalizing_place() -> Place:
    """Means, deviations and normalized values of all clips, as before every fit."""
    clips = sweep.make_clips(NUM_CLIPS, NUM_CLASSES, torch.device("cpu"))
    dataset = Dataset(pd.DataFrame(), clips.embeddings, clips.present, clips.target, (), {})

    def work() -> Results:
        found = dataset.normalization("standard", np.arange(NUM_CLIPS))
        return found.apply(clips.embeddings, clips.present)

    return Place("normalizing", work, 1, work, [NORMALIZING])


def load(clips: Sequence[ClipFiles], encoders: Mapping[str, Encoder]) -> Iterator[Loaded]:
    """Clips as worker processes make them, each input read once: memory that is shared costs when it is read."""
    loader = ClipLoader(clips, encoders, num_workers=NUM_WORKERS, batch_size=BATCH_OF_CLIPS, pin_memory=False)
    for loaded in loader.load([Task(row, tuple(encoders)) for row in range(len(clips))]):
        for x in loaded.inputs.values():
            x.numpy().sum()
        yield loaded


def loaded_by(clips: Sequence[ClipFiles], encoders: Mapping[str, Encoder]) -> Results:
    """All inputs of all clips."""
    return {f"{i} {name}": x for i, each in enumerate(load(clips, encoders)) for name, x in each.inputs.items()}


def handed_over(num_clips: int, inputs: Mapping[str, Tensor], encoders: Mapping[str, Encoder]) -> None:
    """Clips that need no decoding: what is left is the way from the workers."""

    def ready(*args: object) -> Loaded:
        return Loaded({name: x.clone() for name, x in inputs.items()}, {})

    with patch.object(workers, "load", ready):
        for _ in load([ClipFiles({})] * num_clips, encoders):
            pass


def loading_places(folder: Path, num_clips: int) -> Iterator[Place]:
    """Decoding and all, and the way from the workers alone; small inputs and large ones."""
    what, paths = find_clips(num_clips, folder)
    for (pair, specs), many in zip(PAIRS.items(), (2000, 200), strict=True):
        encoders = {name: build_encoder(spec, name) for name, spec in specs.items()}
        clips = [ClipFiles(dict.fromkeys(specs, each)) for each in paths]
        check = partial(loaded_by, clips[:2], encoders)
        yield Place(f"{what}, {pair}", partial(loaded_by, clips, encoders), len(clips), check, [BYTES])
        inputs = next(load(clips[:1], encoders)).inputs
        sizes = " + ".join(f"{x.nbytes / 2**10:,.0f}" for x in inputs.values())
        yield Place(f"no decoding, {sizes} KiB", partial(handed_over, many, inputs, encoders), many, check, [BYTES])


def differ_by(ours: Results, theirs: Results) -> float:
    """The largest difference, relative to the largest value of its tensor; infinite where only one of two is NaN."""
    largest = 0.0
    for name, a in ours.items():
        b = theirs[name]
        apart, size = (x.double().nan_to_num().abs().max().item() for x in (a - b, a))
        largest = max(largest, apart / (size or 1.0) if torch.equal(a.isnan(), b.isnan()) else math.inf)
    return largest


def checked(place: Place) -> Iterator[tuple[str, str]]:
    """For each path, how far results lie apart, and what its witness saw with and without.

    Raises:
        RuntimeError: the results are not the same, or the patch does nothing.
    """
    with ExitStack() as stack:
        all_seen = [stack.enter_context(path.witness.watch()) for path in place.paths]
        ours = place.check()
    for path, seen in zip(place.paths, all_seen, strict=True):
        with path.off(), path.witness.watch() as seen_without:
            apart = differ_by(ours, place.check())
        what, before, after = path.witness.what, sum(seen), sum(seen_without)
        if apart > TOLERANCE:
            raise RuntimeError(f"{path.name} ({place.name}) must not change results, got {apart:.1e} between them.")
        if before == after:
            raise RuntimeError(f"{path.name} ({place.name}) must be switched off, got {after} {what} in either case.")
        yield f"{apart:.0e}" if apart else "0", f"{before} > {after} {what}"


def timed_with_workers(work: Callable[[], object], device: torch.device | None = None) -> Timing:
    """As `timed`, with the CPU time of worker processes, which have ended when the work is done."""
    time.sleep(SETTLE_SECONDS)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = timed(work, device)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Timing(wall, cpu + after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def without(path: SpeedPath, work: Callable[[], object]) -> None:
    """The work with a path switched off."""
    with path.off():
        work()


def rows(place: Place, num_rounds: int) -> Iterator[tuple[str, ...]]:
    """One row a path."""
    notes = list(checked(place))
    cases = {"with": place.work} | {path.name: partial(without, path, place.work) for path in place.paths}
    with patch.object(rounds, "timed", timed_with_workers):
        times = medians(cases, num_rounds * place.more)
    ours = times["with"]
    for path, note in zip(place.paths, notes, strict=True):
        theirs = times[path.name]
        each = (f"{t / place.units * 1e3:.3f}" for t in (*ours, *theirs))
        ratios = (f"{b / a:.2f}" for a, b in zip(ours, theirs, strict=True))
        yield (path.name, place.name, *each, *ratios, *note)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of a sweep of 256 hidden; else four times as many")
    parser.add_argument("--clips", type=int, default=48, help="that are decoded")
    arguments = parser.parse_args()
    multiprocessing.set_start_method("fork")  # patches must reach the workers
    table = Table("path", "where", "with: ms", "CPU", "without: ms", "CPU", "ratio", "CPU", "differ by", "witness")
    with TemporaryDirectory() as folder:
        loading = loading_places(Path(folder), arguments.clips)
        for place in (*training_places(arguments.steps), normalizing_place(), *loading):
            for row in rows(place, arguments.rounds):
                table.add_row(*row)
    console = Console(width=160)
    console.print(machine())
    console.print(table)


if __name__ == "__main__":
    main()
