"""Which runs of a sweep are trained together, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TypeVar

import torch

from amr.fusion.data.folds import TrainingData
from amr.fusion.heads import heads
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.closed_form import MAX_CLASSES
from amr.fusion.train.recipe import Recipe

T = TypeVar("T")
CPU_CACHE_BYTES = 2**28  # what the steps of all groups may touch: more is not faster (docs/benchmarks.md)
CPU_LOGITS_BYTES = 2**31  # what a group's logits of val or test may take


def group_size(recipe: Recipe, data: TrainingData, num_workers: int = 1, *, shares: bool = False) -> int:
    """How many runs are trained at once: weights that fit a CPU's cache or a GPU's memory, logits that fit memory.

    Args:
        recipe: of the runs.
        source: their clips.
        num_workers: groups at once, which share the cache and the memory.
        shares: some runs have the same seed, and so the same batches.
    """
    fold = data.folds[0]
    device = fold.train.target.device
    shape = recipe.shape.head_shape
    parameters = FusionModel(recipe.shape, [0]).num_parameters()
    inputs = sum(shape.embed_dims.values())
    linear = shape.hidden == 0 and shape.num_classes <= MAX_CLASSES and heads[recipe.shape.head].shares_inputs
    # what a step makes of it on the way: pairs of rows, or something for each clip
    temporaries = inputs * (shape.num_classes**2 if shares and linear else recipe.batch_size)
    of_step = 40 * parameters + 40 * temporaries  # each weight with its gradient and two moments
    of_evaluation = 16 * max(len(fold.val), len(fold.test), 1) * shape.num_classes
    on_gpu = device.type == "cuda"
    room = torch.cuda.mem_get_info(device)[0] // 4 if on_gpu else CPU_CACHE_BYTES
    memory = room if on_gpu else CPU_LOGITS_BYTES
    return max(1, min(room // of_step // num_workers, memory // of_evaluation // num_workers))


def cut(seeds: Sequence[int], most: int, num_workers: int = 1) -> list[list[int]]:
    """Groups of runs, as their places: work for every worker, and runs of one seed side by side.

    Runs of one seed share their batches where a group has equally many of each seed, so groups end where seeds do, even
    if one worker gets a seed more than another: a seed cut in two costs more (docs/benchmarks.md). Only seeds with more
    than `most` runs are cut, and seeds that are fewer than the workers.

    Args:
        seeds: of the runs.
        most: runs a group.
        num_workers: groups at once.

    >>> cut([0, 0, 1, 1, 2, 2], most=10, num_workers=2)
    [[0, 1], [2, 3, 4, 5]]
    """
    of_seed: dict[int, list[int]] = {}
    for place, seed in enumerate(seeds):
        of_seed.setdefault(seed, []).append(place)
    by_count: dict[int, list[list[int]]] = {}
    for _, places in sorted(of_seed.items()):
        by_count.setdefault(len(places), []).append(places)
    return [group for each in sorted(by_count, reverse=True) for group in _cut_equal(by_count[each], most, num_workers)]


def _cut_equal(places: list[list[int]], most: int, num_workers: int) -> list[list[int]]:
    """Seeds with equally many runs each."""
    each, num_seeds = len(places[0]), len(places)
    if each <= most and num_seeds >= num_workers:
        parts = _even(places, min(most // each, -(-num_seeds // num_workers)))
        return [list(chain(*part)) for part in parts]
    pieces = max(1, num_workers // num_seeds)
    return [part for runs in places for part in _even(runs, min(most, -(-each // pieces)))]


def _even(items: list[T], most: int) -> list[list[T]]:
    """As few parts as there must be, none longer than another by more than one."""
    num_parts = -(-len(items) // most)
    bounds = [len(items) * part // num_parts for part in range(num_parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
