"""Linear probes: what a linear layer reads from z of one modality, after joint and after uni-modal training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.references.unimodal import ComparedSubject, num_runs_of
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import step_mask


@measures.register("probe")
class ProbeAccuracy(Measure):
    """Accuracy of a linear probe on z of each modality, trained jointly and trained alone: their ratio and their gap.

    A ratio below 1, or a gap below 0, says that joint training left the modality's encoder or adapter weaker than
    training it alone: modality failure (Du et al. 2021). If neither was trained, z is the same embedding for both, so
    there is nothing to measure.
    """

    summary = (
        "accuracy of a linear probe on z of a modality, trained jointly and alone; of adapters and trained encoders"
    )
    citation = "Du et al. 2023"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {"probe": "linear probe of z,"}

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Correctness of both probes, and its difference; NaN if a clip lacks the modality."""
        if not isinstance(subject, ComparedSubject) or subject.reference is None:
            return {}
        reference = subject.reference
        is_ume = subject.model.shape.head == "ume"  # of a fit: the reference itself
        if reference.initial is not None and (is_ume or not subject.model.adapters):
            return {}
        num_classes = subject.model.shape.head_shape.num_classes
        result: dict[Name, Tensor] = {}
        for m in subject.modalities:
            joint = _correct(subject.model, m, reference.own.train, subject.clips, num_classes)
            alone = _correct(reference.model, m, reference.fold.train, reference.fold.test, num_classes)
            alone = alone[reference.row.cpu()]
            result |= {
                ("probe", "joint", m): joint,
                ("probe", "unimodal", m): alone,
                ("probe", "gap", m): joint - alone,
            }
        return result

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Ratio of both accuracies."""
        result: dict[Name, np.ndarray] = {}
        for m in modalities:
            if ("probe", "joint", m) in means:
                alone = means["probe", "unimodal", m]
                result["probe", "ratio", m] = means["probe", "joint", m] / np.where(alone > 0, alone, np.nan)
        return result


@dataclass(frozen=True)
class Probe:
    """Ridge regression from standardized z to one-hot classes, one for each run.

    Args:
        mean, std: Mean and deviation of each dimension over the train clips, `(run, 1, dim)`.
        weight: Weights, `(run, dim, classes)`.
        bias: Frequency of each class, `(classes,)`.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, z: Tensor) -> Tensor:
        """`(run, clips, dim)` to classes `(run, clips)`."""
        return (((z - self.mean) / self.std) @ self.weight + self.bias).argmax(-1)


def fit_probe(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> Probe | None:
    """Fit by least squares; None if there are no clips.

        W = argmin |Y - mean Y - Z W|^2 + n |W|^2,    Z the standardized z of n clips

    This is scikit-learn's RidgeClassifier with alpha = n: strong enough for more dimensions than clips, and exact.

    Args:
        batches: z of some train clips, `(run, clips, dim)`, and their classes, `(clips,)`.
        num_classes: Number of classes.
    """
    sums: list[Tensor] = []
    count = 0
    for z, target in batches:
        one_hot = functional.one_hot(target, num_classes).to(z.dtype)
        new = [z.sum(1, keepdim=True), z.mT @ z, z.mT @ one_hot, one_hot.sum(0)]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        count += len(target)
    if count == 0:
        return None
    mean, moments, by_class, bias = (each / count for each in sums)
    covariance = moments - mean.mT @ mean
    std = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt().unsqueeze(1)
    std = torch.where(std <= 1e-7 * mean.abs().clamp_min(1e-30), 1.0, std)  # constant dimensions
    correlation = covariance / (std.mT @ std)
    identity = torch.eye(correlation.shape[-1], dtype=correlation.dtype, device=correlation.device)
    cross = (by_class - mean.mT * bias) / std.mT
    return Probe(mean, std, torch.linalg.solve(correlation + identity, cross), bias)


@torch.no_grad()
def _correct(model: FusionModel, modality: str, train: Clips, test: Clips, num_classes: int) -> Tensor:
    """Whether each test clip is correct, by probes on the train clips, `(run, clips)`; NaN without the modality."""
    num_runs = num_runs_of(model)
    probe = fit_probe(((z[:, valid], target[valid]) for z, target, valid in _z(model, modality, train)), num_classes)
    if probe is None:
        return torch.full((num_runs, len(test)), torch.nan)
    found = [
        torch.where(valid, (probe.predict(z) == target).float(), torch.nan)
        for z, target, valid in _z(model, modality, test)
    ]
    return torch.cat(found, dim=1).cpu()


def _z(model: FusionModel, modality: str, clips: Clips) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield z of some clips in double, `(run, clips, dim)`, averaged over steps, their classes, and which have it."""
    num_runs, column = num_runs_of(model), model.modalities.index(modality)
    chunks = clips.chunks(num_runs)
    for start in chunks:
        stop = start + chunks.step
        z = model.encode(clips.slice(start, stop, num_runs))[modality].double()
        if z.ndim == 4:
            z = z.sum(2) / step_mask(z).sum(-1, keepdim=True).clamp_min(1)
        yield z, clips.target[start:stop], clips.present[start:stop, column]
