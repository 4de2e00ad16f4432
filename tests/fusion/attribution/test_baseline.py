import torch

from amr.fusion.attribution.baseline import baseline_values, mean_encoding


def test_the_mean_is_over_clips_that_have_the_modality_and_their_steps():
    z = {"audio": torch.randn(2, 6, 4).double(), "video": torch.randn(2, 6, 3, 5).double()}
    present = torch.ones(2, 6, 2, dtype=torch.bool)
    present[0, :2, 0] = False
    z["video"][:, 1, 2] = 0  # padding
    mean = mean_encoding([(z, present)])
    torch.testing.assert_close(mean["audio"][0], z["audio"][0, 2:].mean(0))
    torch.testing.assert_close(mean["audio"][1], z["audio"][1].mean(0))
    torch.testing.assert_close(mean["video"], z["video"].flatten(1, 2).sum(1) / 17)


def test_chunks_give_the_mean_of_all_clips():
    z, present = {"a": torch.randn(1, 10, 4).double()}, torch.rand(3, 10, 1) > 0.3
    chunks = [({"a": z["a"][:, rows]}, present[:, rows]) for rows in (slice(0, 3), slice(3, 10))]
    torch.testing.assert_close(mean_encoding(chunks)["a"], mean_encoding([(z, present)])["a"])


def test_a_modality_that_no_clip_has_gets_zero():
    assert torch.equal(mean_encoding([({"a": torch.ones(2, 3)}, torch.zeros(2, 1).bool())])["a"], torch.zeros(3))


def test_padded_steps_keep_zero():
    z = {"audio": torch.ones(2, 3), "video": torch.ones(2, 4, 3)}
    z["video"][0, 2:] = 0
    values = baseline_values({m: torch.full((3,), 7.0) for m in z}, z, torch.ones(2, 2, dtype=torch.bool))
    assert torch.equal(values["audio"].expand_as(z["audio"]), torch.full((2, 3), 7.0))
    assert values["video"][..., 0].tolist() == [[7, 7, 0, 0], [7, 7, 7, 7]]
