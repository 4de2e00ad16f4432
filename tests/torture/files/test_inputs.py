"""The short form of the torture of inputs."""

from __future__ import annotations

import numpy as np
import pytest

from .inputs import formats, one_format, rows

TRIES, OF_SLOW = 20, 10
SLOW = ("mat v7.3", "parquet")


@pytest.mark.parametrize(("number", "each"), [*enumerate(formats())], ids=[each.name for each in formats()])
def test_a_mutated_file_is_read_or_refused(tmp_path, number, each):
    tries = OF_SLOW if each.name.startswith(SLOW) else TRIES
    np.save(tmp_path / "whole.npy", rows())
    (tmp_path / "labels.txt").write_text("cat\ndog\n" * 12)
    outcome = one_format(each, number, tries, tmp_path)
    assert (outcome.tries, outcome.lost) == (tries, ())
