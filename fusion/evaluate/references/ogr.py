"""Overfitting over generalization (OGR) of a head, and of its modalities' own heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.references.unimodal import ComparedSubject, Initial, Reference, num_runs_of
from amr.fusion.model import FusionModel
from amr.fusion.tasks.multiclass import MULTICLASS

LEAST_GENERALIZATION = 0.01  # nats; a smaller change of the val loss is no generalization to divide by


@measures.register("ogr")
class Ogr(Measure):
    """How much a head overfits for what it learns, from its initial weights to its saved ones (Wang et al. 2020).

        O = val loss - train loss,    overfitting = O(saved) - O(initial)
        generalization = val loss(initial) - val loss(saved),    OGR = overfitting / |generalization|

    The loss is the cross-entropy over all clips of the split, measured at the weights themselves: the history has the
    train loss as a mean over an epoch's batches, in which the weights change and a method may add terms of its own.
    A modality's own head is measured on the clips that have the modality. The val split chose the epoch, so its loss is
    a little too low. Runs that trained encoders have no OGR: their initial weights are not kept.
    """

    summary = "overfitting over generalization, of the head and of each uni-modal head"
    citation = "Wang et al. 2020, section 3.1"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {
        "ogr": "OGR,",
        "ogr.joint": "OGR of the head",
        "overfitting": "overfitting (nats),",
        "overfitting.joint": "overfitting of the head (nats)",
        "generalization": "generalization (nats),",
        "generalization.joint": "generalization of the head (nats)",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Overfitting and generalization of each run, the same for all clips of a fold; NaN without val clips."""
        if not isinstance(subject, ComparedSubject) or subject.reference is None:
            return {}
        reference = subject.reference
        if reference.initial is None:
            return {}
        losses: dict[Name, list[Losses]] = {("joint",): _joint(subject.model, reference, reference.initial)}
        losses |= {("unimodal", m): _alone(reference, m, reference.initial.alone[m]) for m in subject.modalities}
        result: dict[Name, Tensor] = {}
        for of, (train, val) in losses.items():
            gained = val.initial - val.saved
            for name, value in (("overfitting", train.initial - train.saved - gained), ("generalization", gained)):
                result[name, *of] = value.float().cpu()[:, None].repeat(1, len(subject.clips))
        return result

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """OGR; NaN where the val loss hardly changed."""
        result: dict[Name, np.ndarray] = {}
        for of in (("joint",), *(("unimodal", m) for m in modalities)):
            if ("overfitting", *of) in means:
                change = np.abs(means["generalization", *of])
                change = np.where(change < LEAST_GENERALIZATION, np.nan, change)
                result["ogr", *of] = means["overfitting", *of] / change
        return result


class Losses(NamedTuple):
    """Losses of each run on one split, `(run,)`: at its initial weights, and at its saved ones."""

    initial: Tensor
    saved: Tensor


def _joint(model: FusionModel, reference: Reference, initial: Initial) -> list[Losses]:
    """Losses of the runs on train and on val."""
    before, row = initial.own, initial.own_row
    return [
        Losses(_loss(before, clips, num_runs_of(before))[row], _loss(model, clips, num_runs_of(model)))
        for clips in (reference.own.train, reference.own.val)
    ]


def _alone(reference: Reference, modality: str, initial: FusionModel) -> list[Losses]:
    """Losses of a modality's own heads on train and on val."""
    model = reference.model

    def saved(batch: Batch) -> Tensor:
        logits: Tensor = model.head.get_submodule(f"classifiers.{modality}")(model.encode(batch)[modality])
        return logits

    splits = (clips.only(modality) for clips in (reference.fold.train, reference.fold.val))
    num_heads = num_runs_of(initial)
    return [
        Losses(*(_loss(logits, clips, num_heads)[reference.row] for logits in (initial, saved))) for clips in splits
    ]


@torch.no_grad()
def _loss(logits_of: Callable[[Batch], Tensor], clips: Clips, num_runs: int) -> Tensor:
    """Mean cross-entropy of each run, `(run,)`; NaN without clips."""
    total = torch.zeros(num_runs, dtype=torch.double, device=clips.target.device)
    chunks = clips.chunks(num_runs)
    for start in chunks:
        batch = clips.slice(start, start + chunks.step, num_runs)
        total += MULTICLASS.loss(logits_of(batch).double(), batch.target) * batch.target.shape[-1]
    return total / len(clips) if len(clips) else torch.full_like(total, torch.nan)
