"""The short form of the torture of inputs."""

from __future__ import annotations

import pytest

from .inputs import _one_format, formats, np, rows

TRIES = 40


@pytest.mark.parametrize("number", range(len(formats())), ids=[each.name for each in formats()])
def test_a_mutated_file_is_read_or_refused(tmp_path, number):
    np.save(tmp_path / "whole.npy", rows())
    (tmp_path / "labels.txt").write_text("cat\ndog\n" * 12)
    outcome = _one_format(formats()[number], number, TRIES, tmp_path)
    assert (outcome.tries, outcome.lost) == (TRIES, ())
