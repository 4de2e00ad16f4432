"""Lines of a journal that count, and lines that are passed over."""

import json

import numpy as np
import pytest

from amr.extract.cache.journal import Failure, Journal

OURS = Failure(1, "b", "audio", "too short")
DONE = {"f": np.array([False, True])}


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b"17",
        b"null",
        b'{"fingerprint": "f", "row": 1}',
        b'{"fingerprint": "f", "row": 7, "id": "a", "modality": "audio", "reason": "none"}',
        b'{"fingerprint": "f", "row": "x", "id": "a", "modality": "audio", "reason": "none"}',
        b'{"fingerprint": ["f"], "row": 1, "id": "a", "modality": "audio", "reason": "none"}',
        b'{"fingerprint": "other", "row": 1, "id": "a", "modality": "audio", "reason": "none"}',
        b'{"fingerprint": "f", "row": 0, "id": "a", "modality": "audio", "reason": "none"}',
        b'{"fingerprint": "f", "ro',
        b"\xff\x00",
    ],
)
def test_a_line_that_is_not_ours_is_passed_over(tmp_path, line):
    journal = Journal(tmp_path / "a.h5")
    journal.path.write_bytes(line + b"\n")
    journal.append("f", [OURS])
    assert journal.read(DONE) == [OURS]
    journal.compact(DONE)
    assert [json.loads(text)["id"] for text in journal.path.read_text().splitlines()] == ["b"]


@pytest.mark.usefixtures("power_cuts")
def test_a_power_cut_loses_no_failure_of_a_clip_that_is_done(tmp_path):
    journal = Journal(tmp_path / "a.h5")
    journal.append("f", [OURS])
    journal.compact(DONE)
    assert journal.read(DONE) == [OURS]
