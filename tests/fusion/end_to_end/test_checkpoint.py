from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amr.common.progress import Progress
from amr.fusion.end_to_end.augment import Augment, AugmentConfig
from amr.fusion.end_to_end.checkpoint import Checkpoint
from amr.fusion.train.reporter import Reporter


def make(folder, seconds_between=0.0, progress=None) -> tuple[Checkpoint, Augment]:
    augment = Augment(AugmentConfig(time_mask=0.5), {"audio": "audio"}, 0)
    reporter = Reporter("x", 9, progress or Progress())
    return Checkpoint(folder, 7, ("audio", "video"), augment, reporter, seconds_between), augment


def epoch_values(epoch: int) -> dict[str, torch.Tensor]:
    value = torch.tensor([float(epoch)])
    return {"train_loss": value, "val_accuracy": value / 10, "val_share": torch.tensor([[0.25, 0.75]])}


def run(checkpoint: Checkpoint, epochs: range, history: list, last: int = 0) -> None:
    for epoch in epochs:
        history.append(epoch_values(epoch))
        checkpoint.epoch(history[-1], lambda: {"history": list(history)}, last=epoch == last)


def test_curves_continue_from_the_checkpoint_and_name_the_modalities(tmp_path):
    killed, _ = make(tmp_path)
    history: list = []
    assert killed.resume() is None
    run(killed, range(1, 3), history)
    killed._seconds_between = 1e9
    run(killed, range(3, 5), history)  # in the curves, but not in a checkpoint
    again, _ = make(tmp_path)
    state = again.resume()
    assert state is not None
    assert len(state["history"]) == 2
    run(again, range(3, 6), state["history"])
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert set(curves.Tags()["scalars"]) == {"train_loss", "val_accuracy", "val_share_audio", "val_share_video"}
    for event, epoch in zip(curves.Scalars("train_loss"), range(1, 6), strict=True):
        assert (event.step, event.value) == (epoch, epoch)
    assert {event.value for event in curves.Scalars("val_share_video")} == {0.75}


def test_random_streams_start_from_the_seed_and_continue_from_the_checkpoint(tmp_path):
    first, augment = make(tmp_path)
    first.resume()
    start = torch.rand(3)
    x = torch.randn(1, 2, 50)
    augment("audio", x)
    run(first, range(1, 2), [])
    expected = torch.rand(3), augment("audio", x)
    again, other = make(tmp_path)
    torch.manual_seed(99)
    again.resume()
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(other("audio", x), expected[1])
    first.file.unlink()
    make(tmp_path)[0].resume()
    assert torch.equal(torch.rand(3), start)


def test_the_last_epoch_is_always_saved_and_others_after_some_time(tmp_path):
    checkpoint, _ = make(tmp_path, seconds_between=1e9)
    checkpoint.resume()
    run(checkpoint, range(1, 4), [])
    assert not checkpoint.file.exists()
    run(checkpoint, range(4, 5), [], last=4)
    assert checkpoint.file.is_file()
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["SHA256SUMS", "checkpoint.pt"]


def test_a_kill_during_writing_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoint, _ = make(tmp_path)
    checkpoint.resume()
    history: list = []
    run(checkpoint, range(1, 2), history)

    def torn(state, file):
        file.write(b"PK")
        raise OSError("no room")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="no room"):
        run(checkpoint, range(2, 3), history)
    state = make(tmp_path)[0].resume()
    assert state is not None
    assert len(state["history"]) == 1


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("has_checksum", [True, False])
@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_nothing_is_taken_from_a_damaged_checkpoint_and_it_is_said(tmp_path, damage, has_checksum):
    checkpoint, _ = make(tmp_path)
    checkpoint.resume()
    start = torch.rand(3)
    run(checkpoint, range(1, 3), [])
    content = bytearray(checkpoint.file.read_bytes())
    content[len(content) // 2 if has_checksum else 1] ^= 1
    if damage == "other":
        torch.save({"training": {}}, checkpoint.file)
    else:
        checkpoint.file.write_bytes(content if damage == "flip" else content[: len(content) // 3])
    if not has_checksum:
        (tmp_path / "SHA256SUMS").unlink()
    progress = Notes()
    again, _ = make(tmp_path, progress=progress)
    assert again.resume() is None
    assert torch.equal(torch.rand(3), start)
    assert progress.notes == [f"warning: {again.file} is damaged: training starts from the beginning"]
    assert not again.file.exists()
    assert not (tmp_path / "SHA256SUMS").exists()


def test_a_checkpoint_without_a_checksum_gets_one(tmp_path):
    checkpoint, _ = make(tmp_path)
    checkpoint.resume()
    run(checkpoint, range(1, 2), [])
    lines = (tmp_path / "SHA256SUMS").read_bytes()
    (tmp_path / "SHA256SUMS").unlink()
    assert make(tmp_path)[0].resume() is not None
    assert (tmp_path / "SHA256SUMS").read_bytes() == lines


@pytest.mark.usefixtures("power_cuts")
def test_a_power_cut_loses_no_checkpoint(tmp_path):
    cut, _ = make(tmp_path)
    history: list = []
    cut.resume()
    run(cut, range(1, 3), history)
    again, _ = make(tmp_path)
    saved = again.resume()
    assert saved is not None
    assert [values["train_loss"].item() for values in saved["history"]] == [1.0, 2.0]
