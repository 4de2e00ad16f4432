import torch

from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.perturb import noisy, permuted, replace_by_mean, without

from ..conftest import make_clips


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
    noise = torch.ones(5, 4, 3)
    for changed in (replace_by_mean(clips, ["audio"], mean), noisy(clips, "audio", noise)):
        assert torch.equal((changed.embeddings["audio"] != 0), (clips.embeddings["audio"] != 0))
        assert torch.equal(changed.present, clips.present)
        assert torch.equal(changed.embeddings["video"], clips.embeddings["video"])
    assert torch.equal(replace_by_mean(clips, ["audio"], mean).embeddings["audio"][1, 1], mean["audio"])
    torch.testing.assert_close(noisy(clips, "audio", noise).embeddings["audio"][0], clips.embeddings["audio"][0] + 1)


def test_a_removed_modality_is_zero_and_absent():
    changed = without(with_steps(), ["audio"])
    assert not changed.embeddings["audio"].any()
    assert changed.present[:, 0].sum() == 0
    assert changed.present[:, 1].all()


def test_modalities_of_one_permutation_come_from_one_clip():
    clips = make_clips(6)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    changed = permuted(clips, ["audio", "video"], order)
    for m, e in clips.embeddings.items():
        assert torch.equal(changed.embeddings[m], e[order])
    assert torch.equal(changed.target, clips.target)
