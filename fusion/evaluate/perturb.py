"""A run group with the clips that it is measured on, and ways to change the clips.

Draws depend on the evaluation's seed and their purpose, never on a run: all runs see the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.shapley import subsets
from amr.fusion.data.clips import Batch, Clips, permutation_orders
from amr.fusion.evaluate.scores import (
    Scores,
    SubsetScores,
    concatenate,
    join,
    score,
    score_subset,
    stack_subsets,
)
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.axes import of_same_runs, step_mask
from amr.fusion.run_axis.seeds import generator, normal_chunks
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

Name = tuple[str, ...]  # name of a measure: `missing, zero, audio`; joined by dots if names must be flat
# Levels of noise, in standard deviations of each dimension over the train clips. The first one is none.
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class UnderNoise:
    """Results under noise in one modality, over all draws.

    Args:
        correct: Each level but the first and the last to how often each clip is correct, `(run, clips)` on the CPU.
        most: Scores at the last level.
    """

    correct: Mapping[float, Tensor]
    most: Scores


@dataclass(frozen=True)
class Subject:
    """Models and clips that measures are computed on.

    Args:
        model: Models of the group, one per run.
        clips: Test clips of one fold, normalized.
        mean, std: Modality to `(dim,)`: statistics of each dimension over the normalized train clips.
        seed: Seed of all random draws.
        noise_draws: Number of noise draws per level.
        task: What is predicted.
        unit: Deviation of a number that is predicted; 1 for classes and labels.
    """

    model: FusionModel
    clips: Clips
    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    seed: int = 0
    noise_draws: int = 5
    task: Task = MULTICLASS
    unit: float = 1.0
    _under_noise: dict[str, UnderNoise] = field(default_factory=dict, repr=False, compare=False)

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
        return self.score(self.logits)

    def score(self, logits: Tensor) -> Scores:
        """Scores of all clips from their logits, `(run, clips, classes)`; `correct` are values for other tasks.

        Confidence, NLL and Brier score are of classes alone.
        """
        if self.task.one_class:
            return score(logits, self.clips.target)
        values = self.values(logits)
        unknown = torch.full_like(values, torch.nan)
        return Scores(values, unknown, unknown, unknown)

    def values(self, logits: Tensor) -> Tensor:
        """Values of the clips whose mean is the score of the task, `(run, clips)` on the CPU; more is better."""
        return (self.task.values(logits, self.clips.target) * self.unit).float().cpu()

    @cached_property
    def by_subset(self) -> SubsetScores:
        """Scores with each subset of the modalities, the others replaced by the train mean; computed once."""
        predicted = self.logits.argmax(-1)
        found = []
        for subset in subsets(len(self.modalities)):
            replaced = [m for m, selected in zip(self.modalities, subset, strict=True) if not selected]
            logits = predict_logits(
                self.model, self.clips, partial(replace_by_mean, modalities=replaced, mean=self.mean)
            )
            if self.task.one_class:
                found.append(score_subset(logits, predicted, self.clips.target))
            else:
                found.append(SubsetScores(*[self.values(logits)] * 3))
        return stack_subsets(found)

    def alone(self, modality: str) -> Tensor:
        """Whether each clip is correct with one modality, the others replaced by the train mean, `(run, clips)`."""
        only = tuple(m == modality for m in self.modalities)
        return self.by_subset.correct[subsets(len(only)).index(only)]

    @cached_property
    def _decisions(self) -> tuple[Tensor, Tensor, Tensor]:
        return predict_shares(self.model, self.clips, Attributor(task=self.task.name))

    def correct(self, clips: Clips, change: Callable[[Batch], Batch] | None = None) -> Tensor:
        """Values of the clips with each batch changed, `(run, clips)` on the CPU: 1 where a class is right."""
        return self.values(predict_logits(self.model, clips, change))

    def permutations(self, count: int) -> list[Tensor]:
        """Random orders of the clips; for seed 0, those of `amr.fusion.runs.measure`."""
        return permutation_orders(self.clips, count, self.seed)

    def under_noise(self, modality: str) -> UnderNoise:
        """Results at all levels of noise in a modality; computed once."""
        if modality not in self._under_noise:
            found = [*self._under_each_draw(modality)]
            frequency = {level: torch.stack([each.correct[level] for each in found]).mean(0) for level in LEVELS[1:-1]}
            self._under_noise[modality] = UnderNoise(frequency, join([each.most for each in found]))
        return self._under_noise[modality]

    @torch.no_grad()
    def _under_each_draw(self, modality: str) -> Iterator[UnderNoise]:
        """Results under one draw after the other. Logits of all clips would be large."""
        if not self.task.one_class:
            yield from self._under_each_draw_together(modality)
            return
        draws, std = generator(self.seed, f"noise {modality}"), self.std[modality].cpu()
        shape, chunks = self.clips.embeddings[modality].shape, self.clips.chunks(self.num_runs)
        for _ in range(self.noise_draws):
            correct: dict[float, list[Tensor]] = {level: [] for level in LEVELS[1:-1]}
            most = []
            for start, unit in zip(chunks, normal_chunks(shape, chunks.step, draws), strict=True):
                batch = self.clips.slice(start, start + chunks.step, self.num_runs)
                target = self.clips.target[start : start + chunks.step]
                noise = (unit * std).to(target.device)
                for level, found in correct.items():
                    predicted = self.model(noisy(batch, modality, level * noise)).argmax(-1)
                    found.append((predicted == target).float().cpu())
                most.append(score(self.model(noisy(batch, modality, LEVELS[-1] * noise)), target))
            yield UnderNoise({level: torch.cat(found, dim=1) for level, found in correct.items()}, concatenate(most))

    def _under_each_draw_together(self, modality: str) -> Iterator[UnderNoise]:
        """As `_under_each_draw`, for scores that need the logits of all clips together."""
        draws, std = generator(self.seed, f"noise {modality}"), self.std[modality].cpu()
        shape, chunks = self.clips.embeddings[modality].shape, self.clips.chunks(self.num_runs)
        for _ in range(self.noise_draws):
            logits: dict[float, list[Tensor]] = {level: [] for level in LEVELS[1:]}
            for start, unit in zip(chunks, normal_chunks(shape, chunks.step, draws), strict=True):
                batch = self.clips.slice(start, start + chunks.step, self.num_runs)
                noise = (unit * std).to(batch.target.device)
                for level, found in logits.items():
                    found.append(self.model(noisy(batch, modality, level * noise)))
            whole = {level: torch.cat(found, dim=1) for level, found in logits.items()}
            values = {level: self.values(found) for level, found in whole.items() if level != LEVELS[-1]}
            yield UnderNoise(values, self.score(whole[LEVELS[-1]]))


def without(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Remove modalities: set them to zero and mark them as absent."""
    kept = torch.tensor([m not in modalities for m in batch.embeddings], device=batch.present.device)
    zeros = {m: torch.zeros_like(batch.embeddings[m]) for m in modalities}
    return Batch({**batch.embeddings, **zeros}, batch.present & kept, batch.target)


def replace_by_mean(batch: Batch, modalities: Sequence[str], mean: Mapping[str, Tensor]) -> Batch:
    """Replace modalities by the mean of the train clips, at every step; absent clips and steps stay absent."""
    means = {m: torch.where(_present(batch, m), mean[m].to(batch.target.device), 0.0) for m in modalities}
    return replace(batch, embeddings={**batch.embeddings, **means})


def permuted(clips: Clips, modalities: Sequence[str], order: Tensor) -> Clips:
    """Permute modalities together: clip i gets those of clip `order[i]`."""
    for m in modalities:
        clips = clips.with_permuted(m, order)
    return clips


def noisy(batch: Batch, modality: str, noise: Tensor) -> Batch:
    """Add noise, `(batch, dim)` or `(batch, steps, dim)`, to one modality; absent clips and steps stay absent."""
    changed = batch.embeddings[modality] + torch.where(_present(batch, modality), noise, 0.0)
    return replace(batch, embeddings={**batch.embeddings, modality: changed})


def _present(batch: Batch, modality: str) -> Tensor:
    """Whether a clip, or a step, has the modality: bool `(run, batch, 1)` or `(run, batch, steps, 1)`."""
    embedding = batch.embeddings[modality]
    if embedding.ndim == 4:
        return step_mask(embedding).unsqueeze(-1)
    present = batch.present[..., list(batch.embeddings).index(modality), None]
    return of_same_runs(present, embedding)
