from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from amr.fusion.data.clips import Batch, Clips
from amr.fusion.end_to_end.media_clips import CLIPS_AT_ONCE, MediaClips

from ...gpu.conftest import gpu  # noqa: F401  (a fixture)

CLIPS = torch.tensor([7, 2, 9, 4, 0, 5])
NEXT = torch.tensor([1, 2, 3, 4, 5, 0])


def make(augment=None) -> tuple[MediaClips, Clips]:
    """Six of ten clips; their store has rows for some, in any order. And the same clips as `Clips`, with zeros."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "audio": torch.randn(6, 2, 3, 4, generator=generator).half(),
        "video": torch.randn(10, 5, generator=generator).half(),
    }
    rows = {"audio": torch.tensor([2, -1, 0, -1, 1, -1, -1, 5, 4, 3]), "video": torch.randperm(10, generator=generator)}
    whole = {m: torch.cat([e, torch.zeros(1, *e.shape[1:])]) for m, e in tensors.items()}  # -1 is the last row
    present = torch.rand(10, 2, generator=generator) < 0.6
    target = torch.arange(10) % 3
    plain = Clips({m: whole[m][rows[m]][CLIPS] for m in tensors}, present[CLIPS], target[CLIPS])
    of_clips = {m: own[CLIPS] for m, own in rows.items()}
    return MediaClips(tensors, present[CLIPS], target[CLIPS], of_clips, augment), plain


def assert_same_batch(batch: Batch, expected: Batch) -> None:
    assert list(batch.embeddings) == list(expected.embeddings)
    for modality, value in expected.embeddings.items():
        assert torch.equal(batch.embeddings[modality], value)
        assert batch.embeddings[modality].dtype == torch.float32
    assert torch.equal(batch.present, expected.present)
    assert torch.equal(batch.target, expected.target)


def assert_same(clips: Clips, plain: Clips) -> None:
    assert len(clips) == len(plain)
    assert_same_batch(clips.slice(0, len(plain), 2), plain.slice(0, len(plain), 2))
    assert_same_batch(clips.slice(1, len(plain) + 5, 1), plain.slice(1, len(plain) + 5, 1))
    index = torch.arange(len(plain)).flip(0)[None].repeat(2, 1)
    for num_runs in (2, 4):
        assert_same_batch(clips.gather(index, num_runs), plain.gather(index, num_runs))


CHANGES = {
    "none": lambda clips: clips,
    "take": lambda clips: clips.take(torch.tensor([4, 1, 1])),
    "mask": lambda clips: clips.take(clips.target == 0),
    "only": lambda clips: clips.only("video"),
    "permuted": lambda clips: clips.with_permuted("video", NEXT),
    "permuted, taken": lambda clips: clips.with_permuted("audio", NEXT).take(torch.tensor([3, 0])),
    "permuted twice": lambda clips: clips.with_permuted("audio", NEXT).with_permuted(
        "audio", torch.tensor([0, 2, 1, 4, 3, 5])
    ),
    "permuted, only": lambda clips: clips.with_permuted("video", NEXT).only("video"),
    "taken, only, taken": lambda clips: clips.take(torch.arange(5)).only("audio").take(torch.tensor([0])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_clips_of_a_store_equal_plain_clips_of_its_rows(change):
    clips, plain = make()
    assert_same(CHANGES[change](clips), CHANGES[change](plain))


def test_tensors_of_the_store_are_not_copied():
    clips, _ = make()
    for changed in (clips.take(torch.tensor([1])), clips.only("audio"), clips.pool_steps(), CHANGES["permuted"](clips)):
        assert isinstance(changed, MediaClips)
        for modality, tensor in changed.embeddings.items():
            assert tensor.data_ptr() == clips.embeddings[modality].data_ptr()


def test_only_training_batches_are_augmented():
    calls: list[tuple[str, tuple[int, ...]]] = []

    def augment(name: str, x: Tensor) -> Tensor:
        calls.append((name, tuple(x.shape)))
        return x + 1

    clips, plain = make(augment)
    assert_same_batch(clips.slice(0, 6, 3), plain.slice(0, 6, 3))
    assert calls == []
    index = torch.tensor([[0, 3]])
    batch = clips.take(torch.arange(6)).gather(index, 2)
    assert calls == [("audio", (1, 2, 2, 3, 4)), ("video", (1, 2, 5))]
    for modality, value in plain.gather(index, 2).embeddings.items():
        assert torch.equal(batch.embeddings[modality], value + 1)


def test_chunks_are_small_whatever_the_number_of_runs():
    clips, _ = make()
    many = clips.take(torch.zeros(150, dtype=torch.long))
    assert list(many.chunks(1)) == list(many.chunks(100)) == [0, CLIPS_AT_ONCE, 2 * CLIPS_AT_ONCE]
    assert many.chunks(1).step == CLIPS_AT_ONCE


def test_batches_go_to_the_device_of_the_target(gpu):  # noqa: F811
    clips, _ = make()
    away = replace(clips, present=clips.present.to("cuda"), target=clips.target.to("cuda"))
    for batch in (away.slice(0, 4, 3), away.gather(torch.tensor([[0, 1, 2, 3]]), 3)):
        assert batch.embeddings["audio"].is_cuda
        assert torch.equal(batch.embeddings["audio"].cpu(), clips.slice(0, 4, 3).embeddings["audio"])
        assert torch.equal(batch.host_present, batch.present.cpu())
        assert batch.target.shape == (3, 4)
