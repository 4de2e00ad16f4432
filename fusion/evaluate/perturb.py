"""A run group with the clips that it is measured on, and ways to change the clips.

Draws depend on the evaluation's seed and their purpose, never on a run: all runs see the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.shapley import subsets
from amr.fusion.data.clips import Clips, permutation_orders
from amr.fusion.evaluate.scores import Scores, SubsetScores, join, score, score_subset, stack_subsets
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.axes import step_mask
from amr.fusion.run_axis.seeds import generator

Name = tuple[str, ...]  # name of a measure: `missing, zero, audio`; joined by dots if names must be flat
FULL_NOISE = 1.0  # highest level, in standard deviations of each dimension over the train clips


@dataclass(frozen=True)
class Subject:
    """Models and clips that measures are computed on.

    Args:
        model: Models of the group, one per run.
        clips: Test clips of one fold, normalized.
        mean, std: Modality to `(dim,)`: statistics of each dimension over the normalized train clips.
        seed: Seed of all random draws.
        noise_draws: Number of noise draws per level.
    """

    model: FusionModel
    clips: Clips
    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    seed: int = 0
    noise_draws: int = 5
    _under_noise: dict[str, Scores] = field(default_factory=dict, repr=False, compare=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the group, in order."""
        return self.model.modalities

    @property
    def num_runs(self) -> int:
        """Number of runs in the group."""
        return next(self.model.parameters()).shape[0]

    @cached_property
    def is_additive(self) -> bool:
        """Whether the logits are a sum of terms of one modality each, by the head's own account."""
        with torch.no_grad():
            z = self.model.encode(self.clips.slice(0, 1, self.num_runs))
            return self.model.head.modality_logits(z) is not None

    @cached_property
    def logits(self) -> Tensor:
        """Logits of the unchanged clips, `(run, clips, classes)`."""
        return self._decisions[0]

    @cached_property
    def share(self) -> Tensor:
        """Shares of the unchanged clips, `(run, clips, modalities)` on the CPU; NaN if a clip has none."""
        _, share, counted = self._decisions
        return torch.where(counted.unsqueeze(-1), share, torch.nan).cpu()

    @cached_property
    def clean(self) -> Scores:
        """Scores of the unchanged clips."""
        return score(self.logits, self.clips.target)

    @cached_property
    def by_subset(self) -> SubsetScores:
        """Scores with each subset of the modalities, the others replaced by the train mean; computed once."""
        predicted = self.logits.argmax(-1)
        found = []
        for subset in subsets(len(self.modalities)):
            replaced = [m for m, selected in zip(self.modalities, subset, strict=True) if not selected]
            logits = predict_logits(self.model, replace_by_mean(self.clips, replaced, self.mean))
            found.append(score_subset(logits, predicted, self.clips.target))
        return stack_subsets(found)

    def alone(self, modality: str) -> Tensor:
        """Whether each clip is correct with one modality, the others replaced by the train mean, `(run, clips)`."""
        only = tuple(m == modality for m in self.modalities)
        return self.by_subset.correct[subsets(len(only)).index(only)]

    @cached_property
    def _decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        return predict_shares(self.model, self.clips, Attributor())

    def correct(self, clips: Clips) -> Tensor:
        """Whether the predicted class is the clip's class: bool `(run, clips)` on the CPU."""
        return (predict_logits(self.model, clips).argmax(-1) == clips.target).cpu()

    def permutations(self, count: int) -> list[Tensor]:
        """Random orders of the clips; for seed 0, those of `amr.fusion.runs.measure`."""
        return permutation_orders(self.clips, count, self.seed)

    def noise(self, modality: str) -> list[Tensor]:
        """Draw noise of one standard deviation, `noise_draws` tensors in the shape of the modality's embedding."""
        draws = generator(self.seed, f"noise {modality}")
        embedding, std = self.clips.embeddings[modality], self.std[modality]
        unit = (torch.randn(embedding.shape, generator=draws) for _ in range(self.noise_draws))
        return [(noise * std.cpu()).to(embedding.device) for noise in unit]

    def scores_under_noise(self, modality: str) -> Scores:
        """Scores at `FULL_NOISE` in a modality, over all draws; computed once."""
        if modality not in self._under_noise:
            noise = (FULL_NOISE * draw for draw in self.noise(modality))
            logits = (predict_logits(self.model, noisy(self.clips, modality, each)) for each in noise)
            self._under_noise[modality] = join([score(each, self.clips.target) for each in logits])
        return self._under_noise[modality]


def without(clips: Clips, modalities: Sequence[str]) -> Clips:
    """Remove modalities: set them to zero and mark them as absent."""
    present = clips.present.clone()
    names = list(clips.embeddings)
    present[:, [names.index(m) for m in modalities]] = False
    zeros = {m: torch.zeros_like(clips.embeddings[m]) for m in modalities}
    return Clips({**clips.embeddings, **zeros}, present, clips.target)


def replace_by_mean(clips: Clips, modalities: Sequence[str], mean: Mapping[str, Tensor]) -> Clips:
    """Replace modalities by the mean of the train clips, at every step; absent clips and steps stay absent."""
    means = {m: torch.where(_present(clips, m), mean[m].to(clips.embeddings[m].device), 0.0) for m in modalities}
    return Clips({**clips.embeddings, **means}, clips.present, clips.target)


def permuted(clips: Clips, modalities: Sequence[str], order: Tensor) -> Clips:
    """Permute modalities together: clip i gets those of clip `order[i]`."""
    for m in modalities:
        clips = clips.with_permuted(m, order)
    return clips


def noisy(clips: Clips, modality: str, noise: Tensor) -> Clips:
    """Add noise to one modality; absent clips and steps stay absent."""
    changed = clips.embeddings[modality].float() + torch.where(_present(clips, modality), noise, 0.0)
    return Clips({**clips.embeddings, modality: changed}, clips.present, clips.target)


def _present(clips: Clips, modality: str) -> Tensor:
    """Whether a clip, or a step, has the modality: bool `(clips, 1)` or `(clips, steps, 1)`."""
    embedding = clips.embeddings[modality]
    if embedding.ndim == 3:
        return step_mask(embedding).unsqueeze(-1)
    return clips.present[:, list(clips.embeddings).index(modality), None].to(embedding.device)
