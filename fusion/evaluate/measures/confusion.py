"""Modality confusion and rescue: clips that fusion loses, and clips that only fusion gets right.

    confusion of m   P(right with m alone, wrong with all)
    rescue           P(right with all, wrong with each modality alone)

Alone, the others are at their train mean, as in every measure with that word: a modality that brings no news. Zero
would tell heads that read `present` that a modality is absent, and a permutation would bring wrong news.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject


@measures.register("confusion")
class Confusion(Measure):
    """How often fusion loses what a modality alone knows, and finds what none knows alone.

    Clips that lack m do not count in the confusion of m, and clips with fewer than two modalities not in rescue.
    """

    summary = (
        "clips right with one modality alone and wrong with all (modality confusion), or the other way round (rescue)"
    )
    citation = "VGGSounder, Zverev et al. 2025"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {"confusion": "modality confusion of", "rescue": "rescue"}

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `confusion, modality` and `rescue`: 1 where it happens, 0 where not."""
        right = subject.clean.correct.bool()
        present = subject.clips.present.cpu()
        result: dict[Name, Tensor] = {}
        any_alone = torch.zeros_like(right)
        for m, has in zip(subject.modalities, present.T, strict=True):
            alone = subject.alone(m).bool()
            any_alone |= alone & has
            result["confusion", m] = _of_clips(alone & ~right, has)
        result[("rescue",)] = _of_clips(right & ~any_alone, present.sum(-1) > 1)
        return result


def _of_clips(happens: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, happens.float(), torch.nan)
