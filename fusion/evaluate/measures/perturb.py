"""A group of runs and the clips it is questioned on, and the ways to change what it is given of them.

Every draw comes from the evaluation's seed and a purpose, never from a run: runs answer the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.scores import Scores, join, score
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.axes import step_mask
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.measure import permutation_orders

Name = tuple[str, ...]  # of a measure: `missing, zero, audio`; joined by dots where names must be flat


FULL_NOISE = 1.0  # the highest level, in standard deviations of each dimension over the train clips


@dataclass(frozen=True)
class Subject:
    """What the measures act on.

    Args:
        model: the group, one model a run.
        clips: the test clips of one fold, normalised.
        mean, std: modality to `(dim,)`: of each dimension over the train clips, as normalised.
        seed: of all that is drawn.
        noise_draws: draws of noise at each level.
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
        """The group's, in order."""
        return self.model.modalities

    @cached_property
    def logits(self) -> Tensor:
        """`(run, clips, classes)`: logits for the clips as they are."""
        return self._decisions[0]

    @cached_property
    def share(self) -> Tensor:
        """`(run, clips, modalities)` on the CPU; NaN if a clip has no shares."""
        _, share, counted = self._decisions
        return torch.where(counted.unsqueeze(-1), share, torch.nan).cpu()

    @cached_property
    def clean(self) -> Scores:
        """Scores of each clip as it is."""
        return score(self.logits, self.clips.target)

    @cached_property
    def _decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        return predict_shares(self.model, self.clips, Attributor())

    def right(self, clips: Clips) -> Tensor:
        """Bool `(run, clips)` on the CPU: the answer is the clip's class."""
        return (predict_logits(self.model, clips).argmax(-1) == clips.target).cpu()

    def permutations(self, count: int) -> list[Tensor]:
        """Orders of the clips; for seed 0, those of `amr.fusion.runs.measure`."""
        return permutation_orders(self.clips, count, self.seed)

    def noise(self, modality: str) -> list[Tensor]:
        """`noise_draws` times noise of one standard deviation, shaped as the modality's embedding."""
        draws = generator(self.seed, f"noise {modality}")
        embedding, std = self.clips.embeddings[modality], self.std[modality]
        unit = (torch.randn(embedding.shape, generator=draws) for _ in range(self.noise_draws))
        return [(noise * std.cpu()).to(embedding.device) for noise in unit]

    def scores_under_noise(self, modality: str) -> Scores:
        """Scores of each clip at `FULL_NOISE` in a modality, over all draws; computed once."""
        if modality not in self._under_noise:
            noise = (FULL_NOISE * draw for draw in self.noise(modality))
            logits = (predict_logits(self.model, noisy(self.clips, modality, each)) for each in noise)
            self._under_noise[modality] = join([score(each, self.clips.target) for each in logits])
        return self._under_noise[modality]


def train_statistics(train: Clips) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and deviation of each dimension over the clips that have the modality, and their steps; 0 where none has."""
    means, stds = {}, {}
    for i, (m, e) in enumerate(train.embeddings.items()):
        there = e[train.present[:, i].to(e.device)]
        there = there[step_mask(there)] if there.ndim == 3 else there
        nothing = torch.zeros(e.shape[-1], device=e.device)
        means[m] = there.double().mean(0).float() if len(there) else nothing
        stds[m] = there.double().std(0, correction=0).float() if len(there) else nothing
    return means, stds


def without(clips: Clips, modalities: Sequence[str]) -> Clips:
    """Modalities taken away: zero and marked as absent."""
    present = clips.present.clone()
    names = list(clips.embeddings)
    present[:, [names.index(m) for m in modalities]] = False
    zeros = {m: torch.zeros_like(clips.embeddings[m]) for m in modalities}
    return Clips({**clips.embeddings, **zeros}, present, clips.target)


def replace_by_mean(clips: Clips, modalities: Sequence[str], mean: Mapping[str, Tensor]) -> Clips:
    """Modalities replaced by the mean of the train clips, at every step; what is absent stays absent."""
    means = {m: torch.where(_there(clips, m), mean[m].to(clips.embeddings[m].device), 0.0) for m in modalities}
    return Clips({**clips.embeddings, **means}, clips.present, clips.target)


def permuted(clips: Clips, modalities: Sequence[str], order: Tensor) -> Clips:
    """Modalities taken from other clips, all from the same: clip i gets those of clip `order[i]`."""
    for m in modalities:
        clips = clips.with_permuted(m, order)
    return clips


def noisy(clips: Clips, modality: str, noise: Tensor) -> Clips:
    """Noise added to one modality, where it is there."""
    changed = clips.embeddings[modality].float() + torch.where(_there(clips, modality), noise, 0.0)
    return Clips({**clips.embeddings, modality: changed}, clips.present, clips.target)


def _there(clips: Clips, modality: str) -> Tensor:
    """Bool `(clips, 1)`, or `(clips, steps, 1)`: the clip, or the step, has the modality."""
    embedding = clips.embeddings[modality]
    if embedding.ndim == 3:
        return step_mask(embedding).unsqueeze(-1)
    return clips.present[:, list(clips.embeddings).index(modality), None].to(embedding.device)
