"""On clips whose best reachable accuracy is known, training reaches it."""

import pytest
import torch

from amr.data_manifests.synthetic import MODALITIES, SyntheticConfig, best_accuracy, draw_clips
from amr.fusion.data.clips import Clips
from amr.fusion.model import predict_logits
from amr.fusion.tasks.metrics import accuracy
from amr.fusion.train.recipe import Member

from .conftest import fit_group

NUM_CLASSES = 6


def synthetic(misleading: float) -> tuple[dict[str, Clips], dict[str, float]]:
    """Noisy embeddings of the class that each modality shows, by split, and the best reachable accuracies."""
    config = SyntheticConfig(num_clips=1200, misleading=misleading)
    table = draw_clips(config)
    draws = torch.Generator().manual_seed(0)
    names = sorted(table["label"].unique())
    embeddings = {}
    for m in MODALITIES:
        shown = torch.tensor([names.index(cue) if cue else len(names) for cue in table[f"{m}_cue"]])
        centers = torch.eye(len(names) + 1, 8)
        embeddings[m] = centers[shown] + 0.1 * torch.randn(len(table), 8, generator=draws)
    target = torch.tensor([names.index(label) for label in table["label"]])
    clips = Clips(embeddings, torch.ones(len(table), 2, dtype=torch.bool), target)
    splits = {split: clips.take(torch.tensor((table["split"] == split).tolist())) for split in ("train", "val", "test")}
    return splits, best_accuracy(config)


@pytest.mark.parametrize("misleading", [0.0, 0.25, 1.0])
def test_naive_and_unimodal_training_pass_95_percent_of_the_best_reachable_accuracy(misleading):
    splits, best = synthetic(misleading)
    settings = {"num_classes": NUM_CLASSES, "adapter": "none", "epochs": 20}

    def reached(name, train, val, test):
        model = fit_group(name, [Member(0)], train, val, **settings).model
        return float(accuracy(predict_logits(model, test), test.target)[0])

    assert reached("naive", *splits.values()) > 0.95 * best["both"]
    for m in MODALITIES:
        assert reached("unimodal", *(split.only(m) for split in splits.values())) > 0.95 * best[m]
