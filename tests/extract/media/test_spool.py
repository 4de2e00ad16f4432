from __future__ import annotations

import errno

import numpy as np
import pytest

from amr.extract.media import spool
from amr.extract.media.spool import Spool, TooLarge, blocks, forget, mapping_of

PIECES = [np.random.default_rng(0).normal(size=(length, 3)).astype(np.float32) for length in (5, 1, 400, 70, 2)]


@pytest.mark.parametrize("memory_bytes", [0, 1000, 4000, 1 << 20])
@pytest.mark.parametrize("block_bytes", [1, 2000])
def test_pieces_are_joined_wherever_they_lie(monkeypatch, memory_bytes, block_bytes):
    monkeypatch.setattr(spool, "MEMORY_BYTES", memory_bytes)
    monkeypatch.setattr(spool, "BLOCK_BYTES", block_bytes)
    collected = Spool(clean=lambda array: np.abs(array, out=array))
    for piece in PIECES:
        collected.append(piece)
    joined = collected.finish()
    expected = np.abs(np.concatenate(PIECES))
    np.testing.assert_array_equal(joined, expected)
    assert (mapping_of(joined[3:]) is not None) == (memory_bytes < expected.nbytes)
    forget(joined)
    np.testing.assert_array_equal(np.concatenate(list(blocks(joined, 7))), expected)
    assert len(collected) == len(expected)


def test_nothing_is_an_empty_array():
    assert Spool().finish().shape == (0,)


def test_pieces_of_another_shape_or_type():
    collected = Spool()
    collected.append(PIECES[0])
    for other in (PIECES[0][:, :2], PIECES[0].astype(np.float64)):
        with pytest.raises(ValueError, match="pieces must be of one shape and type"):
            collected.append(other)


def test_a_full_temporary_folder(monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(
        TooLarge, match=r"the temporary folder .* must have room .* got .* free\. Free space there, or set TMPDIR"
    ):
        Spool().append(PIECES[0])


def test_a_process_without_addresses_for_a_mapped_file(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    collected = Spool()
    collected.append(PIECES[0])
    monkeypatch.setattr(spool, "FileMapping", refuse)
    with pytest.raises(TooLarge, match=r"addresses .* must have room for a clip .*Cannot allocate.*Raise `ulimit -v`"):
        collected.finish()
