"""A second pass over the batches: what the model predicts for each clip, as it is and with modalities replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amr.common.progress import Progress
from amr.fusion.attribution.any_head.call import check_logits
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.shapley import subsets
from amr.fusion.attribution.tap.logits import Which, select_logits
from amr.fusion.attribution.tap.model import Tap
from amr.fusion.audit.batches import Key, Modalities, caller, check_lengths, read_batches
from amr.fusion.audit.partners import Partners
from amr.fusion.audit.survey import Statistics, Survey
from amr.fusion.audit.values import Value, map_tensors, tensors_of
from amr.fusion.evaluate.measures.conflict import prefix
from amr.fusion.evaluate.measures.missing import subset_name
from amr.fusion.evaluate.measures.noise import level_name
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.evaluate.perturb import LEVELS, Name
from amr.fusion.evaluate.scores import Scores, join, score

ATTRIBUTORS = {"share": Attributor(), "share_logit": Attributor(output="logit")}


class AnyModel:
    """A model of any kind as a function of its inputs that returns checked logits, `(batch, classes)`.

    One logit is a binary decision, sigmoid(x): it becomes the logits (-x/2, x/2) of two classes.

    Args:
        model: Module or function.
        inputs: Inputs of the first batch, which decide how it is called.
        logits: Which output holds the logits, as for `amr.tap`.
        device: Device of the inputs; None for that of the model.
    """

    def __init__(
        self, model: Callable[..., Any], inputs: Any, logits: Which, device: torch.device | str | None
    ) -> None:
        self._call, self._which = caller(model, inputs), logits
        parameters = [*model.parameters()] if isinstance(model, nn.Module) else []
        own = parameters[0].device if parameters else torch.device("cpu")
        self.device = own if device is None else torch.device(device)

    def __call__(self, inputs: Any) -> Tensor:
        """Logits of a batch."""
        logits = select_logits(self._call(inputs), self._which)
        check_logits(logits, (_length(inputs),))
        if logits.ndim != 2:
            raise ValueError(
                f"model must return logits (batch, classes), got {tuple(logits.shape)}. "
                "Pass logits= with a function that takes the mean over positions."
            )
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("model must return finite logits, got NaN or infinity. Look at the inputs and weights.")
        return torch.cat([-logits / 2, logits / 2], dim=-1) if logits.shape[-1] == 1 else logits

    def on_device(self, inputs: Any) -> Any:
        """Inputs on the device; values that are no tensors stay as they are."""
        if isinstance(inputs, Tensor):
            return inputs.to(self.device)
        if isinstance(inputs, Mapping):
            return {name: self.on_device(value) for name, value in inputs.items()}
        return type(inputs)(map(self.on_device, inputs)) if isinstance(inputs, tuple | list) else inputs


def _length(inputs: Any) -> int:
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    first = next(value for value in values if isinstance(value, Tensor | Mapping))
    return len(next(tensors_of(first)))


@dataclass(frozen=True)
class Subject:
    """One batch, and everything that its modalities are replaced by.

    Args:
        model: Model.
        modalities: Modalities of the inputs.
        inputs: Inputs of the batch, on the device.
        target: Classes, `(batch,)`, on the device.
        survey: Clips to take modalities from, and statistics.
        partners: Partners of the clips of the batch.
    """

    model: AnyModel
    modalities: Modalities
    inputs: Any
    target: Tensor
    survey: Survey
    partners: Partners

    @cached_property
    def logits(self) -> Tensor:
        """Logits of the unchanged batch."""
        return self.model(self.inputs)

    def correct(self, values: Mapping[str, Value]) -> Tensor:
        """Whether each clip is classified correctly with some modalities replaced, `(batch,)` float on the CPU."""
        return (self.predicted(values) == self.target).float().cpu()

    def predicted(self, values: Mapping[str, Value]) -> Tensor:
        """Predicted classes with some modalities replaced, `(batch,)`."""
        return self.model(self.modalities.replaced(self.inputs, values)).argmax(-1)

    def of(self, modality: str, places: Tensor) -> Value:
        """Values of a modality of held clips."""
        return map_tensors(lambda x: x.to(self.model.device), self.survey.take(modality, places))

    def statistics(self, modality: str) -> Statistics | None:
        """Statistics of a modality; None if it is not continuous."""
        return self.survey.statistics.get(modality)


def by_permutation(subject: Subject) -> dict[Name, Tensor]:
    """Keys `missing, permutation, subset`: how often each clip is correct with the other modalities of its partners."""
    names = subject.modalities.names
    totals: dict[Name, Tensor] = {}
    for places in subject.partners.of_any_class:
        others = {m: subject.of(m, places) for m in names}
        for subset in subsets(len(names))[:-1]:
            values = {m: others[m] for m, kept in zip(names, subset, strict=True) if not kept}
            name = subset_name("permutation", names, subset)
            totals[name] = totals.get(name, torch.zeros(len(subject.target))) + subject.correct(values)
    return {name: total / len(subject.partners.of_any_class) for name, total in totals.items()}


def by_mean(subject: Subject) -> dict[Name, Tensor]:
    """Keys `missing, mean, subset`: whether each clip is correct with the mean of the other modalities.

    Empty if a modality has no mean. Also `confusion, modality` and `rescue`, which follow.
    """
    names = subject.modalities.names
    means: dict[str, Tensor] = {}
    for m, value in subject.modalities.values(subject.inputs).items():
        statistics = subject.statistics(m)
        if statistics is None or statistics.mean is None or statistics.mean.shape != value.shape[1:]:
            return {}
        means[m] = statistics.mean.to(value).expand_as(value)
    result, right, any_alone = {}, subject.correct({}), torch.zeros(len(subject.target))
    for subset in subsets(len(names))[:-1]:
        kept = [m for m, is_kept in zip(names, subset, strict=True) if is_kept]
        correct = subject.correct({m: means[m] for m in names if m not in kept})
        result[subset_name("mean", names, subset)] = correct
        if len(kept) == 1:
            result["confusion", kept[0]] = correct * (1 - right)
            any_alone = any_alone.maximum(correct)
    return result | {("rescue",): right * (1 - any_alone)}


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
                predicted = subject.predicted({pair[1]: subject.of(pair[1], draw), **rest}).cpu()
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
    """Keys `noise, modality, level`, and the scores at the last level; modalities that are not continuous have none.

    Args:
        subject: Batch.
        streams: Streams of random numbers, as of `noise_streams`.
    """
    totals: dict[Name, Tensor] = {}
    most: dict[str, Scores] = {}
    for m, value in subject.modalities.values(subject.inputs).items():
        statistics = subject.statistics(m)
        if statistics is None:
            continue
        std = statistics.std.to(value)
        found = []
        for stream in streams[m]:
            noise = torch.from_numpy(stream.standard_normal([*value.shape], np.float32)).to(value) * std
            for level in LEVELS[1:]:
                logits = subject.model(subject.modalities.replaced(subject.inputs, {m: value + level * noise}))
                scores = score(logits[None], subject.target)
                name = level_name(m, level)
                totals[name] = totals.get(name, torch.zeros(len(subject.target))) + scores.correct[0] / len(streams[m])
            found.append(scores)
        most[m] = join(found)
    return totals, most


def shares_of(subject: Subject, tap: Tap) -> dict[str, Tensor]:
    """`share` and `share_logit` of each clip, `(batch, modalities)` on the CPU; NaN where a clip has none."""
    found = {}
    subject.logits  # noqa: B018  (the tap holds the forward pass of the unchanged batch)
    z = tap.z
    for name, attributor in ATTRIBUTORS.items():
        _, share, counted = attributor.shares(tap.head, z)
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
    """Measure each batch; the results of all clips, and their logits `(clips, classes)`.

    Raises:
        ValueError: The model returns no logits of these classes, or the batches are others than in the survey.
    """
    streams = noise_streams(modalities.names, settings.noise_draws, settings.seed)
    parts = []
    start = 0
    for inputs, classes in read_batches(batches, target):
        check_lengths(modalities.values(inputs), classes)
        rows = slice(start, start := start + len(classes))
        if start > len(survey.target):
            raise ValueError(
                "batches must have the same clips each time, got more. Pass a DataLoader without sampling."
            )
        of_another = partners.of_another_class
        of_batch = Partners(partners.of_any_class[:, rows], None if of_another is None else of_another[:, rows])
        subject = Subject(model, modalities, model.on_device(inputs), classes.to(model.device), survey, of_batch)
        parts.append(_measure(subject, tap, streams))
        progress.advance(len(classes))
    if start < len(survey.target):
        raise ValueError("batches must have the same clips each time, got fewer. Pass a DataLoader or a list.")
    return _joined(parts, modalities.names)


@dataclass(frozen=True)
class _Part:
    """Results of a batch."""

    logits: Tensor
    values: dict[Name, Tensor]
    reliability: dict[Name, tuple[Tensor, Tensor]]
    share: Tensor


def _measure(subject: Subject, tap: Tap | None, streams: Mapping[str, Sequence[np.random.Generator]]) -> _Part:
    names = subject.modalities.names
    with torch.no_grad():
        logits = subject.logits
        if int(subject.target.max()) >= logits.shape[-1]:
            raise ValueError(
                f"target must be below the number of classes, {logits.shape[-1]}, got {int(subject.target.max())}. "
                "Pass logits= if the model has several outputs."
            )
    share = torch.full((len(subject.target), len(names)), torch.nan)
    values: dict[Name, Tensor] = {}
    if tap is not None:  # first: the tap holds this forward pass
        found = shares_of(subject, tap)
        share = found["share"]
        values |= {(name, m): each[:, i] for name, each in found.items() for i, m in enumerate(names)}
    with torch.no_grad():
        clean = score(logits[None], subject.target)
        values |= {("accuracy",): clean.correct[0]} | by_permutation(subject) | by_mean(subject)
        values |= under_conflict(subject)
        noise, most = under_noise(subject, streams)
    values |= noise
    reliability: dict[Name, tuple[Tensor, Tensor]] = {}
    for condition, scores in {"clean": clean, **{f"{m} noise": each for m, each in most.items()}}.items():
        values |= {
            ("calibration", condition, "nll"): scores.nll[0],
            ("calibration", condition, "brier"): scores.brier[0],
        }
        confidence, correct = scores.confidence[0], scores.correct[0]
        pair = (confidence, correct) if confidence.ndim == 2 else (confidence[:, None], correct[:, None])
        reliability["calibration", condition, "ece"] = pair
    return _Part(logits.float().cpu(), values, reliability, share)


def _joined(parts: Sequence[_Part], modalities: tuple[str, ...]) -> tuple[PerClip, Tensor]:
    """Results of all batches, with a run axis of one."""
    names = [name for name in parts[0].values if all(name in part.values for part in parts)]
    logits = torch.cat([part.logits for part in parts])
    per_clip = PerClip(
        modalities,
        np.zeros(len(logits), int),
        np.arange(len(logits)),
        {name: torch.cat([part.values[name] for part in parts])[None].numpy() for name in names},
        {
            name: (
                torch.cat([part.reliability[name][0] for part in parts])[None].numpy(),
                torch.cat([part.reliability[name][1] for part in parts])[None].numpy(),
            )
            for name in parts[0].reliability
        },
        logits.softmax(-1)[None].numpy(),
        torch.cat([part.share for part in parts])[None].numpy(),
    )
    return per_clip, logits
