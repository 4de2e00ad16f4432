"""A second pass over the batches: what the model predicts for each clip, as it is and with modalities replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amr.common.progress import Progress
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.shapley import subsets
from amr.fusion.attribution.tap.model import Tap
from amr.fusion.audit.batches import Key, Modalities, check_lengths, read_batches
from amr.fusion.audit.model import AnyModel, with_outputs_last
from amr.fusion.audit.partners import Partners
from amr.fusion.audit.survey import Statistics, Survey
from amr.fusion.audit.values import Value, map_tensors
from amr.fusion.data.on_disk import empty
from amr.fusion.evaluate.measures.conflict import Conflict, prefix
from amr.fusion.evaluate.measures.confusion import Confusion
from amr.fusion.evaluate.measures.missing import subset_name
from amr.fusion.evaluate.measures.noise import level_name
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.evaluate.perturb import LEVELS, Name
from amr.fusion.evaluate.scores import Scores, join, score
from amr.fusion.tasks import Task

OUTPUT_OF_SHARES = {"share": "probability", "share_logit": "logit"}


@dataclass(frozen=True)
class Subject:
    """One batch, and everything that its modalities are replaced by.

    Args:
        model: Model.
        modalities: Modalities of the inputs.
        inputs: Inputs of the batch, on the device.
        target: Targets, on the device.
        survey: Clips to take modalities from, and statistics.
        partners: Partners of the clips of the batch.
    """

    model: AnyModel
    modalities: Modalities
    inputs: Any
    target: Tensor
    survey: Survey
    partners: Partners

    @property
    def task(self) -> Task:
        """Task of the model."""
        return self.model.task

    @cached_property
    def outputs(self) -> Tensor:
        """Outputs of the unchanged batch, `(batch, outputs)`."""
        return self.model(self.inputs)

    def replaced(self, values: Mapping[str, Value]) -> Tensor:
        """Outputs with some modalities replaced, `(batch, outputs)`."""
        return self.model(self.modalities.replaced(self.inputs, values))

    def kept(self, outputs: Tensor) -> Tensor:
        """What is kept of outputs, on the CPU: the value of each clip, `(batch,)`, such as 1 where the class is right.

        Where values depend on all clips (`Task.is_joint`), the outputs themselves, `(batch, outputs)`.
        """
        return (outputs if self.task.is_joint else self.task.values(outputs, self.target)).float().cpu()

    def over_draws(self, draws: Sequence[Tensor]) -> Tensor:
        """What is kept of several draws: mean value of each clip, `(batch,)`, or outputs `(draws, batch, outputs)`."""
        stacked = torch.stack([*draws])
        return stacked if self.task.is_joint else stacked.sum(0) / len(stacked)

    @cached_property
    def clean(self) -> Scores | None:
        """Scores of the unchanged batch; None if there are no classes."""
        return score(self.outputs[None], self.target) if self.task.one_class else None

    def of(self, modality: str, places: Tensor) -> Value:
        """Values of a modality of held clips."""
        return map_tensors(lambda x: x.to(self.model.device), self.survey.take(modality, places))

    def statistics(self, modality: str) -> Statistics | None:
        """Statistics of a modality; None if it is not continuous."""
        return self.survey.statistics.get(modality)


def by_permutation(subject: Subject) -> dict[Name, Tensor]:
    """Keys `missing, permutation, subset`: values of the clips with the other modalities of their partners."""
    names = subject.modalities.names
    draws: dict[Name, list[Tensor]] = {}
    for places in subject.partners.of_any_class:
        others = {m: subject.of(m, places) for m in names}
        for subset in subsets(len(names))[:-1]:
            values = {m: others[m] for m, kept in zip(names, subset, strict=True) if not kept}
            found = subject.kept(subject.replaced(values))
            draws.setdefault(subset_name("permutation", names, subset), []).append(found)
    return {name: subject.over_draws(found) for name, found in draws.items()}


def by_mean(subject: Subject) -> dict[Name, Tensor]:
    """Keys `missing, mean, subset`: values of the clips with the mean of the other modalities.

    Empty if a modality has no mean. Of classes also `confusion, modality` and `rescue`, which follow.
    """
    names = subject.modalities.names
    means: dict[str, Tensor] = {}
    for m, value in subject.modalities.values(subject.inputs).items():
        statistics = subject.statistics(m)
        if statistics is None or statistics.mean is None or statistics.mean.shape != value.shape[1:]:
            return {}
        means[m] = statistics.mean.to(value).expand_as(value)
    result: dict[Name, Tensor] = {}
    alone: dict[str, Tensor] = {}
    has_confusion = subject.task.name in Confusion.tasks
    right = subject.kept(subject.outputs)
    for subset in subsets(len(names))[:-1]:
        kept = [m for m, is_kept in zip(names, subset, strict=True) if is_kept]
        values = {m: means[m] for m in names if m not in kept}
        found = subject.over_draws([subject.kept(subject.replaced(values))])
        result[subset_name("mean", names, subset)] = found
        if has_confusion and len(kept) == 1:
            result["confusion", kept[0]] = found * (1 - right)
            alone[kept[0]] = found
    if has_confusion:
        result["rescue",] = right * (1 - torch.stack([*alone.values()]).amax(0))
    return result


def under_conflict(subject: Subject) -> dict[Name, Tensor]:
    """Keys `conflict, modality` and `conflict, neither`: what each clip is taken for if two modalities disagree.

    The clip keeps the first of a pair, and gets the second from a clip of another class. Modalities outside of the pair
    come from a third clip, of any class.
    """
    names, result = subject.modalities.names, dict[Name, Tensor]()
    places = subject.partners.of_another_class
    for pair in combinations(names, 2):
        counts = torch.full((3, len(subject.target)), torch.nan)
        if places is not None:
            counts = torch.zeros(3, len(subject.target))
            classes = subject.survey.target[subject.survey.held]
            for draw, of_third in zip(places, subject.partners.of_any_class, strict=True):
                rest = {m: subject.of(m, of_third) for m in names if m not in pair}
                predicted = subject.replaced({pair[1]: subject.of(pair[1], draw), **rest}).argmax(-1).cpu()
                first, other = predicted == subject.target.cpu(), predicted == classes[draw]
                counts += torch.stack([first, other, ~(first | other)]) / len(places)
        for name, count in zip((*pair, "neither"), counts, strict=True):
            result[(*prefix(pair, names), name)] = count
    return result


def noise_streams(modalities: Sequence[str], num_draws: int, seed: int) -> dict[str, list[np.random.Generator]]:
    """Modality to one stream of random numbers per draw. NumPy's are the same, however clips are divided into batches.

    Args:
        modalities: Names of the modalities.
        num_draws: Number of draws per level.
        seed: Seed of all streams.
    """
    words = {m: [seed, *f"noise {m}".encode()] for m in modalities}
    return {m: [np.random.default_rng([i, *w]) for i in range(num_draws)] for m, w in words.items()}


def under_noise(
    subject: Subject, streams: Mapping[str, Sequence[np.random.Generator]]
) -> tuple[dict[Name, Tensor], dict[str, Scores]]:
    """Keys `noise, modality, level`; of classes also the scores at the last level of each modality.

    Args:
        subject: Batch.
        streams: Streams of random numbers, as of `noise_streams`.
    """
    values: dict[Name, Tensor] = {}
    draws: dict[Name, list[Tensor]] = {}
    most: dict[str, list[Scores]] = {}
    for m, level, outputs in noisy_outputs(subject, streams):
        name = level_name(m, level)
        if subject.task.one_class:
            scores = score(outputs[None], subject.target)
            values[name] = values.get(name, torch.zeros(())) + scores.correct[0] / len(streams[m])
            if level == LEVELS[-1]:
                most.setdefault(m, []).append(scores)
        else:
            draws.setdefault(name, []).append(subject.kept(outputs))
    values |= {name: subject.over_draws(found) for name, found in draws.items()}
    return values, {m: join(found) for m, found in most.items()}


def noisy_outputs(
    subject: Subject, streams: Mapping[str, Sequence[np.random.Generator]]
) -> Iterator[tuple[str, float, Tensor]]:
    """Yield modality, level and outputs, for each draw and level; modalities that are not continuous have none."""
    for m, value in subject.modalities.values(subject.inputs).items():
        statistics = subject.statistics(m)
        if statistics is None:
            continue
        std = statistics.std.to(value)
        for stream in streams[m]:
            noise = torch.from_numpy(stream.standard_normal([*value.shape], np.float32)).to(value) * std
            for level in LEVELS[1:]:
                yield m, level, subject.replaced({m: value + level * noise})


def shares_of(subject: Subject, tap: Tap) -> dict[str, Tensor]:
    """`share` and `share_logit` of each clip, `(batch, modalities)` on the CPU; NaN where a clip has none."""
    found = {}
    subject.outputs  # noqa: B018  (the tap holds the forward pass of the unchanged batch)
    z = tap.z
    for name, output in OUTPUT_OF_SHARES.items():
        attributor = Attributor(output=output, task=subject.task.name)
        _, share, counted = attributor.shares(lambda z: with_outputs_last(tap.head(z)), z)
        found[name] = torch.where(counted.unsqueeze(-1), share, torch.nan).float().cpu()
    return found


@dataclass(frozen=True)
class Settings:
    """How an audit measures.

    Args:
        noise_draws: Number of draws of noise per level.
        seed: Seed of all draws.
    """

    noise_draws: int
    seed: int


def measure_batches(
    model: AnyModel,
    batches: Iterable[Any],
    target: Key | None,
    modalities: Modalities,
    survey: Survey,
    partners: Partners,
    settings: Settings,
    tap: Tap | None,
    progress: Progress,
) -> tuple[PerClip, Tensor]:
    """Measure each batch; the results of all clips, and the outputs of the model, `(clips, outputs)`.

    Raises:
        ValueError: The model's outputs are not of these targets, or the batches are others than in the survey.
    """
    streams = noise_streams(modalities.names, settings.noise_draws, settings.seed)
    collected = _Collected(model.task, modalities.names, survey.target)
    start = 0
    for inputs, of_clips in read_batches(batches, target, model.task.name):
        check_lengths(modalities.values(inputs), of_clips)
        rows = slice(start, start := start + len(of_clips))
        if start > len(survey.target):
            raise ValueError(
                "batches must have the same clips each time, got more. Pass a DataLoader without sampling."
            )
        of_another = partners.of_another_class
        of_batch = Partners(partners.of_any_class[:, rows], None if of_another is None else of_another[:, rows])
        subject = Subject(model, modalities, model.on_device(inputs), of_clips.to(model.device), survey, of_batch)
        collected.add(rows, _measure(subject, tap, streams))
        progress.advance(len(of_clips))
    if start < len(survey.target):
        raise ValueError("batches must have the same clips each time, got fewer. Pass a DataLoader or a list.")
    return collected.per_clip(), collected.outputs


@dataclass(frozen=True)
class _Part:
    """Results of a batch. Values are `(batch,)`, or outputs `(draws, batch, outputs)` that values are made of later."""

    outputs: Tensor
    values: dict[Name, Tensor]
    reliability: dict[Name, tuple[Tensor, Tensor]]
    share: Tensor


def _measure(subject: Subject, tap: Tap | None, streams: Mapping[str, Sequence[np.random.Generator]]) -> _Part:
    names, task = subject.modalities.names, subject.task.name
    with torch.no_grad():
        outputs = subject.outputs
        _check_target(subject.target, outputs, task)
    share = torch.full((len(subject.target), len(names)), torch.nan)
    values: dict[Name, Tensor] = {}
    reliability: dict[Name, tuple[Tensor, Tensor]] = {}
    if tap is not None:  # first: the tap holds this forward pass
        found = shares_of(subject, tap)
        share = found["share"]
        values |= {(name, m): each[:, i] for name, each in found.items() for i, m in enumerate(names)}
    with torch.no_grad():
        clean = subject.clean
        accuracy = subject.over_draws([subject.kept(outputs)]) if clean is None else clean.correct[0]
        values |= {("accuracy",): accuracy} | by_permutation(subject) | by_mean(subject)
        if task in Conflict.tasks:
            values |= under_conflict(subject)
        noise, most = under_noise(subject, streams)
        values |= noise
        conditions = {} if clean is None else {"clean": clean, **{f"{m} noise": each for m, each in most.items()}}
        for condition, scores in conditions.items():
            values["calibration", condition, "nll"] = scores.nll[0]
            values["calibration", condition, "brier"] = scores.brier[0]
            confidence, correct = scores.confidence[0], scores.correct[0]
            pair = (confidence, correct) if confidence.ndim == 2 else (confidence[:, None], correct[:, None])
            reliability["calibration", condition, "ece"] = pair
    return _Part(outputs.float().cpu(), values, reliability, share)


def _check_target(target: Tensor, outputs: Tensor, task: str) -> None:
    """Raise ValueError unless the model has an output for each class or label of the targets."""
    if task == "multiclass" and int(target.max()) >= outputs.shape[-1]:
        raise ValueError(
            f"target must be below the number of classes, {outputs.shape[-1]}, got {int(target.max())}. "
            'Pass logits= if the model has several outputs, or task="regression" if it predicts a number.'
        )
    if task == "multilabel" and target.shape != outputs.shape:
        raise ValueError(
            f"model must return a logit for each of the {target.shape[1]} labels of target, got "
            f"{outputs.shape[-1]}. Pass logits= if the model has several outputs."
        )


class _Collected:
    """Results of all clips, put together from batches. Outputs that values are made of lie on the disk.

    Args:
        task: Task of the model.
        modalities: Names of the modalities.
        target: Targets of all clips.
    """

    def __init__(self, task: Task, modalities: tuple[str, ...], target: Tensor) -> None:
        self._task, self._modalities, self._target = task, modalities, target
        self._parts: list[_Part] = []
        self._on_disk: dict[Name, Tensor] = {}

    def add(self, rows: slice, part: _Part) -> None:
        """Add the results of a batch, which these clips are."""
        outputs = {name: kept for name, kept in part.values.items() if kept.ndim > 1}
        for name, kept in outputs.items():
            if name not in self._on_disk:
                shape = len(kept), len(self._target), kept.shape[-1]
                self._on_disk[name] = empty(shape, kept.dtype, on_disk=True)
            self._on_disk[name][:, rows] = kept
        self._parts.append(replace(part, values=part.values | dict.fromkeys(outputs, torch.empty(0))))

    @cached_property
    def outputs(self) -> Tensor:
        """Outputs of the model, `(clips, outputs)`."""
        return torch.cat([part.outputs for part in self._parts])

    def per_clip(self) -> PerClip:
        """Results with a run axis of one; a value that a batch lacks is left out."""
        names = [name for name in self._parts[0].values if all(name in part.values for part in self._parts)]
        return PerClip(
            self._modalities,
            np.zeros(len(self.outputs), int),
            np.arange(len(self.outputs)),
            {name: self._values(name)[None].numpy() for name in names},
            {name: self._reliability(name) for name in self._parts[0].reliability},
            self._task.readable(self.outputs)[None].numpy(),
            torch.cat([part.share for part in self._parts])[None].numpy(),
            self._task.name,
        )

    def _values(self, name: Name) -> Tensor:
        if name not in self._on_disk:
            return torch.cat([part.values[name] for part in self._parts])
        draws = [self._task.values(outputs, self._target) for outputs in self._on_disk[name]]
        return torch.stack(draws).mean(0)

    def _reliability(self, name: Name) -> tuple[np.ndarray, np.ndarray]:
        confidence, correct = zip(*(part.reliability[name] for part in self._parts), strict=True)
        return torch.cat(confidence)[None].numpy(), torch.cat(correct)[None].numpy()
