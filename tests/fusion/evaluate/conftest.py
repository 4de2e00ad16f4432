"""A group of three linear heads with known weights, and clips, some of which lack a modality."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amr.fusion.data.clips import Clips, train_statistics
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.model import FusionModel, ModelShape

from ..conftest import make_clips

NUM_CLASSES = 4


def make_subject(dims: dict[str, int], num_clips: int = 30, seed: int = 0, gaps: bool = True) -> Subject:
    clips = make_clips(num_clips, dims, NUM_CLASSES, seed)
    train = make_clips(60, dims, NUM_CLASSES, seed + 1)
    if gaps:
        present = clips.present.clone()
        present[::7, 0] = False
        present[3::7, -1] = False
        clips = Clips(
            {m: e * present[:, i, None] for i, (m, e) in enumerate(clips.embeddings.items())}, present, clips.target
        )
    shape = ModelShape.of(dims, NUM_CLASSES, head="concat", hidden=0, adapter="none", adapter_dim=4)
    return Subject(FusionModel(shape, [0, 1, 2]).eval(), clips, *train_statistics(train), seed=0, noise_draws=3)


@pytest.fixture(params=[("audio", "video"), ("a", "b", "c")], ids=["two", "three"])
def subject(request) -> Subject:
    return make_subject(dict(zip(request.param, (5, 4, 3), strict=False)))


def answer(subject: Subject, run: int, parts: dict[str, np.ndarray]) -> int:
    """Answer of a run to one clip: the argmax of W x + b."""
    classifier = subject.model.head.classifier
    weight, bias = (p[run].detach().double().numpy() for p in (classifier.weight, classifier.bias))
    return int((weight @ np.concatenate([parts[m] for m in subject.modalities]) + bias).argmax())


def clip(subject: Subject, i: int) -> dict[str, np.ndarray]:
    return {m: e[i].double().numpy() for m, e in subject.clips.embeddings.items()}


def swapped(subject: Subject) -> Subject:
    """The same heads and clips with the modalities in reverse order."""
    names = subject.modalities[::-1]
    dims = {m: subject.clips.embeddings[m].shape[-1] for m in names}
    shape = ModelShape.of(dims, NUM_CLASSES, head="concat", hidden=0, adapter="none", adapter_dim=4)
    model = FusionModel(shape, [0, 1, 2]).eval()
    state = subject.model.state_dict()
    columns = dict(
        zip(subject.modalities, state["head.classifier.weight"].split([*dims.values()][::-1], -1), strict=True)
    )
    model.load_state_dict(state | {"head.classifier.weight": torch.cat([columns[m] for m in names], -1)})
    clips = Clips({m: subject.clips.embeddings[m] for m in names}, subject.clips.present.flip(-1), subject.clips.target)
    return Subject(model, clips, subject.mean, subject.std, subject.seed, subject.noise_draws)
