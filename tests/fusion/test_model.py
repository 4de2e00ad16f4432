"""The mean of z that a model keeps for attributions."""

from copy import deepcopy

import pytest
import torch

from amr.fusion import model as model_module
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.data import clips as clips_module
from amr.fusion.model import FusionModel, predict_shares, update_mean

from .conftest import make_clips, make_recipe

MEAN = Attributor(attribution="shapley", baseline="mean")


def make_model(clips, adapter="none", seeds=(0, 1)):
    return FusionModel(make_recipe(clips, adapter=adapter).shape, seeds)


@pytest.mark.parametrize("adapter", ["none", "linear", "mlp"])
def test_it_is_the_mean_of_z_over_the_clips_whatever_the_chunks(adapter, monkeypatch):
    clips = make_clips()
    model = make_model(clips, adapter)
    update_mean(model, clips, MEAN)
    z = model.encode(clips.slice(0, len(clips), 2))
    for m, mean in model.mean.items():
        torch.testing.assert_close(mean, z[m].mean(1).expand(2, -1).detach())
    before = model.mean
    monkeypatch.setattr(clips_module, "CHUNK_NUMBERS", 2 * 14 * 7)  # 7 clips per chunk
    assert len(clips.chunks(2)) > 1
    update_mean(model, clips, MEAN)
    for m, mean in model.mean.items():
        torch.testing.assert_close(mean, before[m])
    assert predict_shares(model, clips, MEAN)[2].all()


def test_it_follows_the_adapters_in_place_because_a_recorded_step_reads_it_there():
    clips = make_clips()
    model = make_model(clips, "linear")
    update_mean(model, clips, MEAN)
    tensor, before = model.mean["audio"], model.mean["audio"].clone()
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter *= 2
    update_mean(model, clips, MEAN)
    assert model.mean["audio"] is tensor
    torch.testing.assert_close(tensor, 2 * before)


def test_without_adapters_it_is_measured_once(monkeypatch):
    clips = make_clips()
    model = make_model(clips)
    update_mean(model, clips, MEAN)
    monkeypatch.setattr(model_module, "mean_encoding", None)
    update_mean(model, clips, MEAN)


@pytest.mark.parametrize("attributor", [Attributor(), Attributor(baseline="mean"), Attributor(attribution="shapley")])
def test_attributions_without_it_leave_it_out(attributor):
    clips = make_clips()
    model = make_model(clips)
    update_mean(model, clips, attributor)
    assert model.mean is None
    assert model.run_mean(0) is None
    assert predict_shares(model, clips, attributor)[2].all()


def test_copies_and_other_types_keep_it_and_the_state_dict_does_not():
    clips = make_clips()
    model = make_model(clips)
    names = list(model.state_dict())
    update_mean(model, clips, MEAN)
    assert list(model.state_dict()) == names
    copy = deepcopy(model).double()
    assert copy.mean["video"].dtype == torch.double
    torch.testing.assert_close(copy.mean["video"].float(), model.mean["video"])
    torch.testing.assert_close(model.run_mean(1)["video"], model.mean["video"][1])
