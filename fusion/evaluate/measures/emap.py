"""EMAP: the accuracy of a head without its interactions (Hessel & Lee 2020).

EMAP is the additive function that is closest to the head on the test clips. With f the logits and the means over
clips, for two modalities (section 4):

    f^(i) = mean_j f(a_i, v_j) + mean_j f(a_j, v_i) - mean_jk f(a_j, v_k)

For M modalities these are the first-order terms of the functional ANOVA, with the others from independent clips:

    f^(i) = sum over m of E_m(i) - (M - 1) mean_i E_m(i),    E_m(i) = mean of f with m from clip i

The means are over all clips, or over some drawn ones if there are many, so that the cost does not grow with the square
of the clips. An additive head is its own EMAP. A clip that lacks a modality lends its absence like any other value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.model import predict_logits
from amr.fusion.run_axis.seeds import generator

MAX_EXACT = 200  # clips up to which all of them lend the other modalities
NUM_REFERENCES = 100  # clips that are drawn to lend them if there are more


def additive_logits(subject: Subject) -> Tensor:
    """Logits of the additive projection, `(run, clips, classes)`."""
    draws = generator(subject.seed, "emap")
    num_clips = len(subject.clips)
    references = torch.randperm(num_clips, generator=draws)
    if num_clips > MAX_EXACT:
        references = references[:NUM_REFERENCES]
    # one order per modality: for M > 2, the other modalities are from clips that are independent of each other
    lent = {m: references[torch.randperm(len(references), generator=draws)] for m in subject.modalities}
    effects = torch.stack([_effect(subject, m, lent) for m in subject.modalities])
    mean = effects[:, :, references.to(effects.device)].mean((0, 2)).unsqueeze(1)
    return effects.sum(0) - (len(effects) - 1) * mean


def _effect(subject: Subject, modality: str, lent: Mapping[str, Tensor]) -> Tensor:
    """Mean logits of each clip's modality with the others from the lent clips, `(run, clips, classes)`."""
    clips = subject.clips
    num_lent = len(lent[modality])
    step = max(1, clips.chunks(subject.num_runs).step // max(1, num_lent))
    means = []
    for chunk in torch.arange(len(clips)).split(step):
        rows = {m: order.repeat(len(chunk)) for m, order in lent.items()}
        rows[modality] = chunk.repeat_interleave(num_lent)
        logits = predict_logits(subject.model, _mixed(clips, rows))
        means.append(logits.unflatten(1, (len(chunk), num_lent)).mean(2))
    return torch.cat(means, dim=1)


def _mixed(clips: Clips, rows: Mapping[str, Tensor]) -> Clips:
    """Each modality from its own rows of the clips; the target is that of the first modality's."""
    device = clips.target.device
    present = [clips.present[rows[m].to(device), i] for i, m in enumerate(clips.embeddings)]
    embeddings = {m: e[rows[m].to(e.device)] for m, e in clips.embeddings.items()}
    return Clips(embeddings, torch.stack(present, dim=-1), clips.target[next(iter(rows.values())).to(device)])


@measures.register("emap")
class Emap(Measure):
    """Accuracy of the head's additive projection, and what it lacks of the head's own."""

    summary = "accuracy of the closest additive function, and what the head's interactions add to it"
    citation = "EMAP, Hessel & Lee 2020"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {
        "emap": "accuracy without interactions (EMAP)",
        "emap_gap": "accuracy gained by interactions (EMAP)",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Key `emap`: whether each clip is classified correctly by the additive projection."""
        if subject.is_additive:
            return {("emap",): subject.clean.correct}
        return {("emap",): (additive_logits(subject).argmax(-1) == subject.clips.target).float().cpu()}

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Key `emap_gap`: accuracy minus that of the additive projection."""
        return {("emap_gap",): means[("accuracy",)] - means[("emap",)]}
