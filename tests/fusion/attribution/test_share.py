"""Shares depend on the length of an embedding: its L2 norm counts repeated dimensions, and use does not."""

import math

import numpy as np
import pytest
import torch

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis.seeds import Draws

from .conftest import DIMS, make


def repeat_video(head, z, copies):
    """The same function of a video embedding that is given several times: each copy has its part of the weights."""
    repeated = heads["concat"](HeadShape(DIMS | {"video": copies * DIMS["video"]}, 4, head.shape.hidden), Draws([0]))
    state = head.state_dict()
    first = "classifier.weight" if head.fusion is None else "fusion.weight"
    audio, video = state[first].split([*DIMS.values()], dim=-1)
    state[first] = torch.cat([audio, *[video / copies] * copies], dim=-1)
    repeated.double().load_state_dict(state)
    return repeated, z | {"video": z["video"].repeat(1, 1, copies)}


@pytest.mark.parametrize("copies", [2, 3, 4])
@pytest.mark.parametrize("hidden", [0, 6])
def test_repeating_an_embedding_divides_its_l2_norm_by_the_root_of_the_copies_and_changes_no_prediction(copies, hidden):
    torch.manual_seed(0)
    head, z, present = make(hidden=hidden)
    longer, longer_z = repeat_video(head, z, copies)
    partners = torch.arange(7).roll(1)[None]

    def share(attributor, head, z):
        return attributor.shares(head, z, present, partners=partners)[1]

    l1, l2, permutation = Attributor(pooling="l1"), Attributor(), Attributor(attribution="permutation")
    audio, video = share(l2, head, z).unbind(-1)
    expected = audio / (audio + video / math.sqrt(copies))
    torch.testing.assert_close(share(l2, longer, longer_z)[..., 0], expected)
    assert (expected > audio + 1e-3).all()
    torch.testing.assert_close(share(l1, longer, longer_z), share(l1, head, z))
    # use is the accuracy lost by these predictions, with a modality of other clips
    torch.testing.assert_close(longer(longer_z, present), head(z, present))
    for m in DIMS:
        permuted, longer_permuted = (x | {m: x[m].roll(1, dims=1)} for x in (z, longer_z))
        torch.testing.assert_close(longer(longer_permuted, present), head(permuted, present))
    torch.testing.assert_close(share(permutation, longer, longer_z), share(permutation, head, z))


def measured(folder, tmp_path, copies):
    """Test measures of a plain head on the embeddings of the first table of README, with video repeated."""
    video = tmp_path / f"video-{copies}.npy"
    np.save(video, np.tile(np.load(folder / "umt/visual_features.npy"), (1, copies)))
    cache, out = tmp_path / f"umt-{copies}.h5", tmp_path / f"fit-{copies}"
    embeddings = (f"audio={folder}/umt/audio_features.npy", f"video={video}")
    clips = {"ids": f"{folder}/clips.txt:720", "groups": r"ids:^\d{4}", "columns": "crema-d"}
    import_embeddings(ImportConfig(embeddings=embeddings, out=str(cache), **clips))
    # no AMR at weight 0: it only measures the L1 share, too
    with_l1 = {"amr_ratio": "1:1", "amr_weight": 0.0, "attribution_pooling": "l1"}
    return fit(FitConfig(cache=str(cache), folds=5, epochs=25, out=str(out), device="cpu", **with_l1)).test


def test_repeating_real_embeddings_before_a_fit_moves_the_share_and_hardly_the_use(test_data, tmp_path):
    once, repeated = (measured(test_data / "cremad-embeddings", tmp_path, copies) for copies in (1, 4))
    l2 = [each["share"]["audio"] for each in (once, repeated)]
    l1 = [each["share_regularized"]["audio"] for each in (once, repeated)]
    assert l2 == pytest.approx([0.525, 0.418], abs=0.02)  # folds and fits differ a little between versions
    assert l1 == pytest.approx([0.525, 0.272], abs=0.02)
    assert repeated["perceptual"] == pytest.approx(once["perceptual"], abs=0.02)
