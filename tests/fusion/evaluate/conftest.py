"""A group of three heads with known weights, by default linear, and clips, some of which lack a modality."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.model import FusionModel, ModelShape

from ..conftest import make_clips

NUM_CLASSES = 4


def make_subject(
    dims: dict[str, int],
    num_clips: int = 30,
    seed: int = 0,
    gaps: bool = True,
    head: str = "concat",
    hidden: int = 0,
) -> Subject:
    clips = make_clips(num_clips, dims, NUM_CLASSES, seed)
    train = make_clips(60, dims, NUM_CLASSES, seed + 1)
    if gaps:
        present = clips.present.clone()
        present[::7, 0] = False
        present[3::7, -1] = False
        clips = Clips(
            {m: e * present[:, i, None] for i, (m, e) in enumerate(clips.embeddings.items())}, present, clips.target
        )
    shape = ModelShape.of(dims, NUM_CLASSES, head=head, hidden=hidden, adapter="none", adapter_dim=4)
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


def logits_of(subject: Subject, run: int, parts: dict[str, np.ndarray | None]) -> np.ndarray:
    """Logits of a run for one clip, `(classes,)`; None is an absent modality."""
    z = {
        m: torch.zeros(1, 1, subject.clips.embeddings[m].shape[-1])
        if parts[m] is None
        else torch.tensor(parts[m]).float().expand(1, 1, -1)
        for m in subject.modalities
    }
    present = torch.tensor([[[parts[m] is not None for m in subject.modalities]]])
    with torch.no_grad():
        return run_alone(subject, run).model.head(z, present)[0, 0].double().numpy()


def run_alone(subject: Subject, run: int) -> Subject:
    """The same clips with one run of the group."""
    model = FusionModel(subject.model.shape, [0]).eval()
    model.load_state_dict({k: v[run : run + 1] for k, v in subject.model.state_dict().items()})
    return Subject(model, subject.clips, subject.mean, subject.std, subject.seed, subject.noise_draws)


def parts_or_none(subject: Subject, i: int) -> dict[str, np.ndarray | None]:
    """Embeddings of a clip; None for modalities that it lacks."""
    return {
        m: part if present else None
        for (m, part), present in zip(clip(subject, i).items(), subject.clips.present[i].tolist(), strict=True)
    }


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
