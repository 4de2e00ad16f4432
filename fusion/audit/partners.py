"""Which clip each clip gets a modality from: drawn once for all clips, so that all batches and subsets share it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.audit.survey import Survey
from amr.fusion.evaluate.measures.conflict import of_another_class
from amr.fusion.run_axis.seeds import generator


@dataclass(frozen=True)
class Partners:
    """Places of the partners among the held clips.

    Args:
        of_any_class: For permutation, `(draws, clips)`.
        of_another_class: For conflict, `(draws, clips)`; None if there is one class only, or there are none.
    """

    of_any_class: Tensor
    of_another_class: Tensor | None


def draw_partners(survey: Survey, num_draws: int, seed: int, *, with_classes: bool) -> Partners:
    """Draw partners for all clips.

    If all clips are held, they are the permutations that `amr evaluate` has for the same seed. Otherwise each clip gets
    a held clip at random, never itself.

    Args:
        survey: Targets and held clips.
        num_draws: Number of draws of each kind.
        seed: Seed of the draws.
        with_classes: Whether the targets are classes.
    """
    num_clips, num_held = len(survey.target), len(survey.held)
    draws = generator(seed, "permutations")
    if survey.holds_all:
        any_class = torch.stack([torch.randperm(num_clips, generator=draws) for _ in range(num_draws)])
    else:
        any_class = torch.randint(num_held, (num_draws, num_clips), generator=draws)
        own = survey.held[any_class] == torch.arange(num_clips)
        any_class = torch.where(own, (any_class + 1) % num_held, any_class)
    classes = survey.target[survey.held]
    if not with_classes or len(classes.unique()) < 2:
        return Partners(any_class, None)
    draws = generator(seed, "conflict")
    return Partners(any_class, torch.stack([of_another_class(survey.target, draws, classes) for _ in range(num_draws)]))
