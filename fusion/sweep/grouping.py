"""Divide the runs of a sweep into run groups, which are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TypeVar

import torch

from amr.fusion.data.folds import TrainingData
from amr.fusion.heads import heads
from amr.fusion.model import FusionModel
from amr.fusion.train.recipe import Recipe

T = TypeVar("T")
# On a CPU, groups do not depend on the machine: the last bits of a run do depend on the runs beside it.
CPU_GROUPS = 2  # least number of groups; more cores than these help if there are more groups
CPU_CACHE_BYTES = 2**26  # limit for the training steps of a group: more is not faster (docs/benchmarks.md)
CPU_LOGITS_BYTES = 2**29  # limit for the val or test logits of a group


def group_size(recipe: Recipe, data: TrainingData, *, shares: bool = False) -> int:
    """Number of runs to train at once: weights fit a CPU's cache or a GPU's memory, logits fit memory.

    Args:
        recipe: Recipe of the runs.
        data: Training data of the runs.
        shares: Whether some runs have the same seed, and so the same batches.
    """
    fold = data.folds[0]
    device = fold.train.target.device
    shape = recipe.shape.head_shape
    parameters = FusionModel(recipe.shape, [0]).num_parameters()
    inputs = sum(shape.embed_dims.values())
    on_gpu = device.type == "cuda"
    linear = shape.hidden == 0 and heads[recipe.shape.head].shares_inputs
    # temporaries of a training step: a run's own clips, or what a layer makes of them
    temporaries = 0 if shares and linear and not on_gpu else inputs * recipe.batch_size
    step_bytes = 40 * parameters + 40 * temporaries  # each weight with its gradient and two moments
    logits_bytes = 16 * max(len(fold.val), len(fold.test), 1) * shape.num_classes
    step_limit = torch.cuda.mem_get_info(device)[0] // 4 if on_gpu else CPU_CACHE_BYTES
    logits_limit = step_limit if on_gpu else CPU_LOGITS_BYTES
    return max(1, min(step_limit // step_bytes, logits_limit // logits_bytes))


def partition(seeds: Sequence[int], most: int, least_groups: int = 1) -> list[list[int]]:
    """Partition runs (given by index) into groups, runs of one seed adjacent.

    Runs of one seed can use common batches if every seed of the group has the same number of runs. So groups end
    between seeds, even if one group gets a seed more than another: dividing a seed costs more (docs/benchmarks.md).
    A seed is divided only if it has more than `most` runs, or if there are fewer seeds than groups. Large groups are
    first.

    Args:
        seeds: Seed of each run.
        most: Largest number of runs in a group.
        least_groups: Number of groups that there are at least, if there are as many runs.

    >>> partition([0, 0, 1, 1, 2, 2], most=10, least_groups=2)
    [[2, 3, 4, 5], [0, 1]]
    """
    of_seed: dict[int, list[int]] = {}
    for i, seed in enumerate(seeds):
        of_seed.setdefault(seed, []).append(i)
    by_count: dict[int, list[list[int]]] = {}
    for _, runs in sorted(of_seed.items()):
        by_count.setdefault(len(runs), []).append(runs)
    counts = sorted(by_count, reverse=True)
    groups = [group for count in counts for group in _partition_seeds(by_count[count], most, least_groups)]
    return sorted(groups, key=len, reverse=True)  # small ones last: cores then end at about the same time


def _partition_seeds(runs_of_seeds: list[list[int]], most: int, least_groups: int) -> list[list[int]]:
    """Partition seeds that have the same number of runs."""
    count, num_seeds = len(runs_of_seeds[0]), len(runs_of_seeds)
    if count <= most and num_seeds >= least_groups:
        groups = _even(runs_of_seeds, max(least_groups, -(-num_seeds // (most // count))))
        return [list(chain(*group)) for group in groups]
    pieces = max(1, least_groups // num_seeds, -(-count // most))
    return [group for runs in runs_of_seeds for group in _even(runs, min(pieces, count))]


def _even(items: list[T], num_lists: int) -> list[list[T]]:
    """Split into lists whose lengths differ by at most one."""
    bounds = [len(items) * i // num_lists for i in range(num_lists + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
