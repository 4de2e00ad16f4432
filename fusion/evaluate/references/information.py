"""The information that is there to use: what each modality tells about the class, alone and together, in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from amr.fusion.evaluate.measures.base import Measure, measures
from amr.fusion.evaluate.perturb import Name, Subject
from amr.fusion.evaluate.references.unimodal import ComparedSubject, each_alone, logits_of
from amr.fusion.run_axis.axes import at_target

NATS_PER_BIT = math.log(2)
TEMPERATURES = (0.1, 10.0)
HALVINGS = 30


@measures.register("information")
class Information(Measure):
    """Partial information decomposition by models, with minimal mutual information as redundancy, in bits.

        I_m = H(y) - NLL of the uni-modal head of m,    I = H(y) - NLL of the run's head
        redundancy = min_m I_m,    unique_m = I_m - redundancy,    synergy = I - max_m I_m

    The NLL is over the test clips that have every modality, at the temperature that is best on val. H(y) is the entropy
    of their classes. A head knows at most what its input tells, so I_m and I are lower bounds, up to the noise of few
    clips; a poor head makes synergy negative. With the minimum as redundancy, redundancy and synergy are upper bounds
    and unique information is a lower bound of the decomposition that Liang et al. (2023) estimate: redundancy cannot
    exceed any I_m, and the modality that tells least has no unique information by definition.
    """

    summary = "information about the class, in bits: redundant, unique and synergistic, by the NLL of heads"
    citation = "Liang et al. 2023, Quantifying & Modeling Multimodal Interactions; min-MI PID, Barrett 2015"
    least_modalities = 2
    words: ClassVar[Mapping[str, str]] = {
        "information": "information (bits),",
        "information.label": "information in the class (bits)",
        "information.joint": "information of the head (bits)",
        "information.redundancy": "redundancy (bits)",
        "information.synergy": "synergy (bits)",
    }

    def per_clip(self, subject: Subject) -> dict[Name, Tensor]:
        """Pointwise information: log p(y | x) - log p(y) in bits; NaN if a clip lacks a modality."""
        if not isinstance(subject, ComparedSubject) or subject.reference is None:
            return {}
        reference = subject.reference
        val, test = reference.fold.val, reference.fold.test
        complete, complete_val = test.present.all(-1), val.present.all(-1)
        surprise = _class_surprise(test.target, complete, subject.logits.shape[-1])

        def information(logits: Tensor, of_val: Tensor) -> Tensor:
            heat = temperature(of_val[:, complete_val], val.target[complete_val])
            log_p = (logits.double() / heat[:, None, None]).log_softmax(-1)
            of_target = at_target(log_p, test.target)
            return (of_target / NATS_PER_BIT + surprise).float().cpu()

        joint = information(subject.logits, logits_of(subject.model, reference.own.val))
        result: dict[Name, Tensor] = {("information", "joint"): joint}
        result["information", "label"] = surprise.float().cpu().repeat(len(joint), 1)
        alone, alone_val = (each_alone(reference.model, clips) for clips in (test, val))
        for m in subject.modalities:
            result["information", "unimodal", m] = information(alone[m], alone_val[m])[reference.row.cpu()]
        return result

    def derived(self, means: Mapping[Name, np.ndarray], modalities: Sequence[str]) -> dict[Name, np.ndarray]:
        """Redundancy, unique information of each modality, and synergy."""
        if ("information", "joint") not in means:
            return {}
        # information is never negative: a head that is worse than guessing has found none
        alone = np.maximum([means["information", "unimodal", m] for m in modalities], 0)
        least, most = alone.min(0), alone.max(0)
        result: dict[Name, np.ndarray] = {
            ("information", "redundancy"): least,
            ("information", "synergy"): means["information", "joint"] - most,
        }
        return result | {("information", "unique", m): alone[i] - least for i, m in enumerate(modalities)}


def _class_surprise(target: Tensor, counted: Tensor, num_classes: int) -> Tensor:
    """-log2 of the frequency of each clip's class among the counted clips, `(clips,)`; NaN for the other clips.

    Its mean over the counted clips is the entropy of their classes.
    """
    counts = torch.bincount(target[counted], minlength=num_classes).double()
    return torch.where(counted, counts.sum().log2() - counts[target].log2(), torch.nan)


@torch.no_grad()
def temperature(logits: Tensor, target: Tensor) -> Tensor:
    """Temperature of each run with the lowest NLL (Guo et al. 2017), `(run,)`, from 0.1 to 10; 1 without clips.

    The NLL is convex in b = 1 / T, and its slope is the mean over clips of E_p[logit] - logit of the class. So
    halving an interval of log b finds the zero of the slope.

    Args:
        logits: Logits, `(run, clips, classes)`.
        target: Classes, `(clips,)`.
    """
    if len(target) == 0:
        return torch.ones(len(logits), dtype=torch.double, device=logits.device)
    logits = logits.double()
    of_target = at_target(logits, target)
    low = torch.full((len(logits),), -math.log(TEMPERATURES[1]), dtype=torch.double, device=logits.device)
    high = torch.full_like(low, -math.log(TEMPERATURES[0]))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        p = (middle.exp()[:, None, None] * logits).softmax(-1)
        slope = ((p * logits).sum(-1) - of_target).mean(-1)
        low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
    return (-(low + high) / 2).exp()
