"""Gain of a head over its modalities' own heads: over their average (UME), and over the best of them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.references.unimodal import ComparedSubject, Reference, each_alone
from amr.fusion.model import predict_logits
from amr.fusion.tasks.multiclass import MULTICLASS


@measures.register("gain")
class Gain(Measure):
    """Accuracy minus that of UME and that of the best uni-modal head, which joint training must beat.

    The best head is that of the modality with the highest val accuracy, chosen in each fold. Uni-modal heads are tested
    on the clips that have their modality, and so is the gain over them.
    """

    summary = "gain over UME and over the best uni-modal head, chosen on val; accuracy of each uni-modal head"
    citation = "Du et al. 2023; Wang et al. 2020"
    least_modalities = 2
    words: ClassVar[dict[str, str]] = {
        "gain_over_ume": "gain over UME",
        "gain_over_best_unimodal": "gain over the best uni-modal head",
        "unimodal_accuracy": "accuracy of the uni-modal head of",
        "best_unimodal": "how often the best uni-modal head is that of",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Differences in correctness; NaN if a clip lacks the modality, or if there were no val clips to choose by."""
        if not isinstance(subject, ComparedSubject) or subject.reference is None:
            return {}
        reference, own = subject.reference, subject.clean.correct
        test, row = reference.fold.test, reference.row.cpu()
        correct = torch.stack(
            [
                torch.where(test.present[:, i], (logits.argmax(-1) == test.target).float(), torch.nan).cpu()
                for i, logits in enumerate(each_alone(reference.model, test).values())
            ]
        )[:, row]  # (modality, run, clips)
        best = best_by_val(reference)[row]
        chosen = torch.stack([torch.where(best < 0, torch.nan, (best == i).float()) for i in range(len(correct))])
        result: dict[Name, Tensor] = {}
        for i, m in enumerate(subject.modalities):
            result["unimodal_accuracy", m] = correct[i]
            result["best_unimodal", m] = chosen[i][:, None].repeat(1, len(test))
        of_best = torch.where((best < 0)[:, None], torch.nan, correct[best, torch.arange(len(best))])
        result["gain_over_best_unimodal",] = own - of_best
        if subject.model.shape.head != "ume":
            of_ume = (predict_logits(reference.model, test).argmax(-1) == test.target).float().cpu()
            result["gain_over_ume",] = own - of_ume[row]
        return result


def best_by_val(reference: Reference) -> Tensor:
    """Index of the modality with the highest val accuracy, of equals that with the lowest val loss; -1 without val.

    Each modality is measured on the val clips that have it.

    Returns:
        One index per uni-modal head, `(head,)`, on the CPU.
    """
    val = reference.fold.val
    scores: list[list[tuple[float, float]]] = []  # of each modality and head: accuracy, and minus the loss
    for i, logits in enumerate(each_alone(reference.model, val).values()):
        present = val.present[:, i]
        logits, target = logits[:, present], val.target[present].expand(len(logits), -1)
        accuracy = (logits.argmax(-1) == target).float().mean(-1).nan_to_num(-1)  # without clips
        scores.append(list(zip(accuracy.tolist(), (-MULTICLASS.loss(logits, target)).tolist(), strict=True)))
    best = [max(range(len(scores)), key=lambda i: of_head[i]) for of_head in zip(*scores, strict=True)]
    return torch.tensor([i if scores[i][head][0] >= 0 else -1 for head, i in enumerate(best)])
