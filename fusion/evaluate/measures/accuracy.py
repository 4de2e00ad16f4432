"""Accuracy on unchanged clips, and shares of the decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from amr.fusion.choices import TASKS
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject


@measures.register("accuracy")
class Accuracy(Measure):
    """Fraction of clips whose predicted class is correct."""

    summary = "accuracy; also mAP and F1, as the fit measured them"
    tasks = TASKS
    words: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy",
        "map": "mAP",
        "f1": "F1",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Key `accuracy`: whether each clip is classified correctly."""
        return {("accuracy",): subject.clean.correct}


@measures.register("share")
class Share(Measure):
    """Share of each modality in the decision: gradient x input of the probability."""

    summary = "share of each modality in the decision, by gradient x input"
    citation = "AMR paper, section 3"
    least_modalities = 2
    tasks = TASKS
    words: ClassVar[Mapping[str, str]] = {
        "share": "share of",
        "share_logit": "share, under the logit, of",
        "share_spread": "share spread of",
        "one_sided": "one-sided clips",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Keys `share, modality`: share of the modality in each clip's decision."""
        return {("share", m): subject.share[..., i] for i, m in enumerate(subject.modalities)}
