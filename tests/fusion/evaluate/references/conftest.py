"""Runs of three seeds with the uni-modal heads of two of them, on clips some of which lack a modality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import Fold
from amr.fusion.data.normalization import Normalization, train_statistics
from amr.fusion.data.splits import SplitRows
from amr.fusion.evaluate.references.unimodal import ComparedSubject, Initial, Reference, initial_alone
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ...conftest import make_clips, make_recipe

NUM_CLASSES = 3
SEEDS = (0, 1, 0)  # runs 0 and 2 are compared with the same heads


def with_gaps(clips: Clips) -> Clips:
    present = clips.present.clone()
    present[::7, 0] = False
    present[3::7, -1] = False
    return Clips(
        {m: e * present[:, i, None] for i, (m, e) in enumerate(clips.embeddings.items())}, present, clips.target
    )


def make_compared(
    dims: dict[str, int], adapter: str = "none", gaps: bool = True, num_val: int = 45, **changes: object
) -> ComparedSubject:
    splits = [make_clips(n, dims, NUM_CLASSES, seed) for seed, n in enumerate((60, num_val, 50))]
    train, val, test = [with_gaps(clips) for clips in splits] if gaps else splits
    recipe = make_recipe(train, NUM_CLASSES, head="ume", method="ume", adapter=adapter, **changes)
    ume = train_group(recipe, [Member(0), Member(1)], train, val).model
    shape = ModelShape.of(dims, NUM_CLASSES, head="concat", hidden=0, adapter=adapter, adapter_dim=5)
    joint = make_recipe(train, NUM_CLASSES, adapter=adapter, **changes)
    model = train_group(replace(joint, shape=shape), [Member(seed) for seed in SEEDS], train, val).model
    rows = np.arange(0)
    fold = Fold(SplitRows(rows, rows, rows), Normalization({}, {}, {}), train, val, test)
    reference = Reference(
        model=ume,
        row=torch.tensor(SEEDS),
        fold=fold,
        own=fold,
        initial=Initial(
            {m: initial_alone(ume.shape, m, [0, 1]) for m in dims},
            FusionModel(shape, [0, 1]).eval(),
            torch.tensor(SEEDS),
        ),
    )
    return ComparedSubject(model.eval(), test, *train_statistics(train), reference=reference)


@pytest.fixture(params=[("audio", "video"), ("a", "b", "c")], ids=["two", "three"])
def compared(request) -> ComparedSubject:
    return make_compared(dict(zip(request.param, (5, 4, 3), strict=False)))


def alone_logits(subject: ComparedSubject, modality: str, clips: Clips) -> np.ndarray:
    """Logits of the uni-modal heads in float64, `(run, clips, classes)`; without adapters."""
    classifier = subject.reference.model.head.classifiers[modality]
    weight, bias = (p.detach().double().numpy() for p in (classifier.weight, classifier.bias))
    x = clips.embeddings[modality].double().numpy()
    return np.stack([x @ weight[head].T + bias[head] for head in SEEDS])


def joint_logits(model: FusionModel, clips: Clips) -> np.ndarray:
    """Logits of linear concat heads in float64, `(run, clips, classes)`."""
    weight, bias = (p.detach().double().numpy() for p in (model.head.classifier.weight, model.head.classifier.bias))
    x = np.concatenate([e.double().numpy() for e in clips.embeddings.values()], axis=1)
    return np.stack([x @ w.T + b for w, b in zip(weight, bias, strict=True)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
