from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from amr.extract.encoders import file_tensor
from amr.extract.encoders.file_tensor import FileTensor, as_tensor
from amr.extract.encoders.model import rows_of_all
from amr.extract.media import spool
from amr.extract.media.spool import Spool
from amr.extract.pipeline.load import Loaded

ROWS = np.arange(3000, dtype=np.float32).reshape(500, 3, 2)


@pytest.fixture
def in_file(monkeypatch) -> FileTensor:
    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    collected = Spool()
    collected.append(ROWS)
    tensor = as_tensor(collected.finish())
    assert isinstance(tensor, FileTensor)
    return tensor


def test_what_is_computed_is_in_memory(in_file):
    assert type(in_file[:3]) is type(in_file + 1) is torch.Tensor
    in_file.forget()
    np.testing.assert_array_equal(in_file.numpy(), ROWS)
    assert type(as_tensor(ROWS)) is torch.Tensor


@pytest.mark.parametrize("most_in_memory", [0, ROWS.nbytes])
def test_a_part_of_a_file_is_not_sent_as_bytes(monkeypatch, most_in_memory):
    """An interval of hours of sound is a part: as bytes, it would be in memory twice."""
    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    collected = Spool()
    collected.append(ROWS)
    whole = collected.finish()
    monkeypatch.setattr(spool, "MEMORY_BYTES", most_in_memory)
    part = as_tensor(whole[3:400])
    assert type(part) is (torch.Tensor if most_in_memory else FileTensor)
    np.testing.assert_array_equal(part.numpy(), ROWS[3:400])


def _send(pipe) -> None:
    collected = Spool()
    collected.append(ROWS)
    pipe.send_bytes(pickle.dumps(Loaded({"long": as_tensor(collected.finish()), "short": torch.ones(3)}, {"x": "y"})))
    pipe.recv()


def test_it_travels_as_its_file(in_file):
    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=_send, args=(there,))
    process.start()
    assert here.poll(60)
    loaded = here.recv()
    here.send(None)
    process.join()
    assert isinstance(loaded.inputs["long"], FileTensor)
    assert loaded.failures == {"x": "y"}
    np.testing.assert_array_equal(loaded.inputs["long"].numpy(), ROWS)
    assert loaded.inputs["short"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("at_once", [1, 7, 64, 500, 2000])
def test_rows_of_all_clips(in_file, at_once):
    clips = [torch.from_numpy(ROWS[:5]), in_file, torch.from_numpy(ROWS[5:6])]
    found = list(rows_of_all(clips, at_once))
    expected = torch.cat(list(clips)).split(at_once)
    assert [len(each) for each in found] == [len(each) for each in expected]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_sender_that_has_died_is_not_a_lack_of_room():
    """Its clip is loaded again: `ClipLoader` knows the error of a dead worker."""

    class Dead:
        def detach(self) -> int:
            raise ConnectionRefusedError("its process is gone")

    with pytest.raises(ConnectionRefusedError):
        file_tensor._from_file(Dead(), (1,), "<f4")
