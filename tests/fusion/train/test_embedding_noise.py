"""Noise on the embeddings or encodings of a batch."""

import torch

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.train.embedding_noise import EmbeddingNoise, EncodingNoise


def test_noise_is_in_units_of_the_train_deviation_and_leaves_absent_clips_and_padding():
    draws = torch.Generator().manual_seed(0)
    audio = torch.randn(4000, 2, generator=draws) * torch.tensor([2.0, 0.0]) + 5
    video = torch.randn(4000, 3, 2, generator=draws)
    video[:, 2] = 0  # padding
    present = torch.ones(4000, 2, dtype=torch.bool)
    present[:10] = False
    clips = Clips({"audio": audio * present[:, :1], "video": video * present[:, 1:, None]}, present, torch.zeros(4000))
    noise = EmbeddingNoise((0.5, 2.0), train_statistics(clips)[1], [0, 0], "noise")
    batch = clips.gather(torch.arange(4000)[None], 2)
    noisy = noise.add(batch)
    change = {m: noisy.embeddings[m] - e for m, e in batch.embeddings.items()}
    deviation = change["audio"][0, 10:].std(0)
    torch.testing.assert_close(deviation, torch.tensor([1.0, 0.0]), rtol=0.05, atol=1e-6)
    torch.testing.assert_close(change["video"][0, 10:, :2].std((0, 1)), torch.tensor([2.0, 2.0]), rtol=0.05, atol=0)
    assert (change["audio"][0, :10] == 0).all()
    assert (change["video"][0, :10] == 0).all()
    assert (change["video"][0, :, 2] == 0).all()
    assert len(noisy.embeddings["audio"]) == 1  # runs of one seed still share their clips


def test_a_modality_without_noise_is_the_same_tensor():
    embeddings = {m: torch.randn(1, 5, 3) for m in ("audio", "video")}
    batch = Batch(embeddings, torch.ones(1, 5, 2, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.long))
    noise = EmbeddingNoise((0.0, 1.0), {m: torch.ones(3) for m in embeddings}, [0], "noise")
    noisy = noise.add(batch)
    assert noisy.embeddings["audio"] is embeddings["audio"]
    assert not torch.equal(noisy.embeddings["video"], embeddings["video"])
    assert noisy.target is batch.target


def test_noise_on_encodings_is_in_units_of_the_batch_deviation_and_leaves_absent_clips():
    draws = torch.Generator().manual_seed(0)
    z = {m: torch.randn(1, 4000, 2, generator=draws) * torch.tensor([2.0, 0.0]) + 5 for m in ("audio", "video")}
    present = torch.ones(1, 4000, 2, dtype=torch.bool)
    present[0, :10, 0] = False
    z["audio"][0, :10] = 0

    class Encoders:
        def encode(self, batch):
            return dict(z)

    batch = Batch(z, present, torch.zeros(1, 4000, dtype=torch.long))
    noise = EncodingNoise((0.5, 0.0), [0], torch.device("cpu"), "noise")
    same, noisy = noise.encode(Encoders(), batch)
    assert same is batch
    assert noisy["video"] is z["video"]
    change = noisy["audio"] - z["audio"]
    torch.testing.assert_close(change[0, 10:].std(0), torch.tensor([1.0, 0.0]), rtol=0.05, atol=1e-6)
    assert (change[0, :10] == 0).all()
