"""Encoders that are trained end to end on the GPU, with their clips there or in host memory."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.base import attributions
from amr.fusion.methods import methods
from amr.fusion.model import Fitted, ModelShape
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.trainer import train_group

from .conftest import watched_step

pytest.importorskip("torchvision")
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.config import AugmentConfig
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel

pytestmark = pytest.mark.gpu
SHAPES = {"audio": (1, 1, 8, 12), "video": (2, 3, 8, 8)}
DIM = 5


class Network(nn.Module):
    """A convolution with batch norm and dropout, mean over rows: `(batch, rows, channels, height, width)`."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(channels, DIM, 3), nn.BatchNorm2d(DIM), nn.ReLU(), nn.Dropout(0.0))

    def forward(self, x):
        return self.layers(x.flatten(0, 1)).mean((-2, -1)).unflatten(0, x.shape[:2]).mean(1)


def networks():
    return {name: Network(shape[1], i) for i, (name, shape) in enumerate(SHAPES.items())}


def media_clips(device: str, *, on_host: bool = False, num_clips: int = 16) -> MediaClips:
    """Random clips, some of which lack a modality."""
    draws, place = torch.Generator().manual_seed(0), "cpu" if on_host else device
    present = torch.ones(num_clips, 2, dtype=torch.bool)
    present[::5, 0] = present[1::6, 1] = False
    stored = {m: torch.randn(num_clips, *shape, generator=draws).half().to(place) for m, shape in SHAPES.items()}
    rows = {m: torch.where(present[:, i], torch.arange(num_clips), -1).to(place) for i, m in enumerate(SHAPES)}
    changes = AugmentConfig(shift=0.2, flip=True, time_mask=0.3, frequency_mask=0.3, resized_crop=True, time_crop=0.8)
    augment = Augment(changes, {m: m for m in SHAPES}, 0)
    return MediaClips(stored, present.to(device), (torch.arange(num_clips) % 3).to(device), rows, augment)


def trained(gpu, device, method="naive", attribution="grad_x_input", *, on_host=False, **changes) -> Fitted:
    shape = ModelShape.of(
        dict.fromkeys(SHAPES, DIM), 3, head=methods[method].head or "concat", hidden=0, adapter="none", adapter_dim=1
    )
    kind = methods[method]
    settings = (1, 8, "sgd", 0.01, 1e-4, "separate", "accuracy")
    options = kind.Options(super_epoch=1) if method == "gradient-blending" else kind.Options()
    recipe = Recipe(shape, kind, options, Attributor(attribution=attribution, num_points=2), *settings)
    clips = media_clips(device, on_host=on_host)

    def unimodal(modality):
        of_one = ModelShape.of({modality: DIM}, 3, head="concat", hidden=0, adapter="none", adapter_dim=1)
        model = EncoderModel(of_one, [0], {modality: networks()[modality]}).to(clips.target.device).eval()
        return Fitted(model, torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))

    hooks = EndToEndHooks(lambda shape, seeds: EncoderModel(shape, seeds, networks()), unimodal)
    member = Member(0, (0.5, 0.5), 1.0)
    make_step = watched_step(gpu) if device == "cuda" else watched_step(None)
    torch.manual_seed(0)
    val, recipe = replace(clips, augment=None), replace(recipe, **changes)
    return train_group(recipe, [member], clips, val, hooks=hooks, make_step=make_step)


def assert_near(gpu, ours, theirs):
    """Weights trained in bfloat16 are near those in float32."""
    assert all(parameter.is_cuda for parameter in ours.model.parameters())
    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.cpu(), expected[name], rtol=0.05, atol=0.02), name


@pytest.mark.parametrize("method", [name for name in methods if methods[name].end_to_end])
def test_each_method(gpu, method):
    assert_near(gpu, trained(gpu, "cuda", method), trained(gpu, "cpu", method))


@pytest.mark.parametrize("attribution", [*attributions])
def test_each_attribution(gpu, attribution):
    assert_near(gpu, trained(gpu, "cuda", "naive", attribution), trained(gpu, "cpu", "naive", attribution))


@pytest.mark.parametrize("changes", [{}, {"embedding_noise": (1.0, 1.0)}, {"amr_level": "clip"}], ids=str)
def test_clips_in_host_memory(gpu, changes):
    ours = trained(gpu, "cuda", on_host=True, **changes)
    assert_near(gpu, ours, trained(gpu, "cpu", **changes))
    head, z = ours.model.encoded(media_clips("cuda", on_host=True))
    assert all(value.is_cuda for value in (*z.embeddings.values(), z.present, z.target, *head.parameters()))
