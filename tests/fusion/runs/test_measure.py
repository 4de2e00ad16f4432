import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data.clips import Clips
from amr.fusion.runs.measure import mean_measures, measure
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe


@pytest.fixture(scope="module")
def fitted():
    clips = make_clips(150)
    noise = Clips(
        {**clips.embeddings, "video": torch.randn(150, 6, generator=torch.Generator().manual_seed(0))},
        clips.present,
        clips.target,
    )
    return train_group(make_recipe(noise, epochs=15), [Member(0), Member(1, (0.5, 0.5), 1.0)], noise, noise), noise


def test_permuting_costs_accuracy_for_the_informative_modality_only(fitted):
    group, clips = fitted
    for result in measure(group.model, clips, Attributor()):
        assert result["accuracy"] > 0.8
        assert result["perceptual"]["audio"] > 0.3
        assert abs(result["perceptual"]["video"]) < 0.1
        assert result["num_clips"] == 150
        assert sum(result["share"].values()) == pytest.approx(1, abs=1e-5)


def test_the_regularized_share_is_the_attributor_s(fitted):
    group, clips = fitted
    by_logit = measure(group.model, clips, Attributor("logit"))
    for result in by_logit:
        assert result["share_regularized"] == result["share_logit"]
        assert result["share_regularized"] != result["share"]


def test_measures_without_clips_are_none(fitted):
    assert measure(fitted[0].model, make_clips(0), Attributor()) is None


def test_clips_with_one_modality_have_no_share(fitted):
    group, clips = fitted
    present = torch.tensor([True, False]).expand(150, 2)
    only_audio = Clips({"audio": clips.embeddings["audio"], "video": torch.zeros(150, 6)}, present, clips.target)
    result = measure(group.model, only_audio, Attributor())[0]
    assert result["share"] == {"audio": None, "video": None}
    assert result["num_clips_without_share"] == 150


def test_folds_are_averaged_without_weights():
    folds = [
        {"accuracy": 0.5, "share": {"a": None}, "num_clips": 3},
        {"accuracy": 1.0, "share": {"a": 0.25}, "num_clips": 4},
    ]
    assert mean_measures(folds) == {"accuracy": 0.75, "share": {"a": 0.25}, "num_clips": 7}
