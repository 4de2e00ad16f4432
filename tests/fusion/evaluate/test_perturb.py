import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.measures import measures_for
from amr.fusion.evaluate.perturb import noisy, permuted, replace_by_mean, without

from ..conftest import make_clips
from .conftest import make_subject


def with_steps():
    steps = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)) + 2
    steps[1, 2:] = 0
    steps[4] = 0
    present = torch.tensor([[True, True]] * 4 + [[False, True]])
    return Clips({"audio": steps, "video": torch.ones(5, 2)}, present, torch.arange(5) % 2)


def test_train_statistics_are_over_present_steps():
    clips = with_steps()
    mean, std = train_statistics(clips)
    present = torch.cat([clips.embeddings["audio"][[0, 2, 3]].flatten(0, 1), clips.embeddings["audio"][1, :2]])
    torch.testing.assert_close(mean["audio"], present.mean(0))
    torch.testing.assert_close(std["audio"], present.std(0, correction=0))


def test_a_modality_that_no_train_clip_has_gets_zero_and_no_noise():
    clips = with_steps()
    mean, std = train_statistics(clips.take(torch.tensor([4])))
    assert not mean["audio"].any()
    assert not std["audio"].any()


def test_changes_affect_present_clips_of_one_modality_only():
    clips = with_steps()
    mean, _ = train_statistics(clips)
    batch, noise = clips.slice(0, 5, 3), torch.ones(5, 4, 3)
    for changed in (replace_by_mean(batch, ["audio"], mean), noisy(batch, "audio", noise)):
        assert torch.equal((changed.embeddings["audio"] != 0), (batch.embeddings["audio"] != 0))
        assert torch.equal(changed.present, batch.present)
        assert torch.equal(changed.embeddings["video"], batch.embeddings["video"])
    assert torch.equal(replace_by_mean(batch, ["audio"], mean).embeddings["audio"][0, 1, 1], mean["audio"])
    first = noisy(batch, "audio", noise).embeddings["audio"][0, 0]
    torch.testing.assert_close(first, clips.embeddings["audio"][0] + 1)


def test_a_removed_modality_is_zero_and_absent():
    changed = without(with_steps().slice(0, 5, 3), ["audio"])
    assert not changed.embeddings["audio"].any()
    assert changed.present.shape == (3, 5, 2)
    assert changed.present[..., 0].sum() == 0
    assert changed.present[..., 1].all()


class Largest(TorchDispatchMode):
    """Number of values of the largest tensor of real numbers that any operation gives."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor) and each.is_floating_point()]
        self.size = max([self.size, *(each.numel() for each in tensors)])
        return result


@pytest.mark.parametrize("hidden", [0, 8])
def test_no_measure_makes_a_tensor_of_all_embeddings(monkeypatch, hidden):
    monkeypatch.setattr("amr.fusion.data.clips.CHUNK_NUMBERS", 30_000)
    subject = make_subject({"audio": 200, "video": 200}, num_clips=250, hidden=hidden)
    with Largest() as largest:
        for measure in measures_for(2):
            measure.per_clip(subject)
            measure.reliability(subject)
    assert 250 * 4 <= largest.size < 250 * 200  # logits, but no embedding


def test_modalities_of_one_permutation_come_from_one_clip():
    clips = make_clips(6)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    changed = permuted(clips, ["audio", "video"], order)
    batch = changed.slice(0, 6, 1)
    for m, e in clips.embeddings.items():
        assert torch.equal(batch.embeddings[m][0], e[order])
    assert torch.equal(changed.target, clips.target)
