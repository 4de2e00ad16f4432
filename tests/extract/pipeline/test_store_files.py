from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.pipeline.store_files import NO_MEDIA, TODO, StoreInfo, rows_in_tensors

EXIST = np.array([[True, False], [False, False], [True, True]])
INFO = StoreInfo("x", 3, {"a": (2, 3), "b": (1, 4)}, [], done=False)


def test_an_incomplete_store_json_is_no_store(tmp_path):
    (tmp_path / "store.json").write_text('{"fingerprint": "x"}')
    assert StoreInfo.read(tmp_path) is None
    INFO.create(tmp_path, EXIST)
    assert StoreInfo.read(tmp_path) == INFO
    assert INFO.is_whole(tmp_path)
    assert INFO.states(tmp_path).tolist() == [[TODO, NO_MEDIA], [NO_MEDIA, NO_MEDIA], [TODO, TODO]]
    sizes = [path.stat().st_size - 128 for path in INFO.tensor_files(tmp_path).values()]  # without numpy's header
    assert sizes == [12, 8]
    assert INFO.num_bytes == sum(sizes)


@pytest.mark.parametrize(
    "info",
    [
        replace(INFO, num_clips=2),
        replace(INFO, num_clips=4),
        replace(INFO, shapes={"a": (2, 4), "b": (1, 4)}),
        replace(INFO, shapes={"a": (3, 3), "b": (1, 4)}),
    ],
)
def test_files_of_other_sizes_are_no_whole_store(tmp_path, info):
    INFO.create(tmp_path, EXIST)
    assert not info.is_whole(tmp_path)


def test_states_that_do_not_fit_the_tensors_are_no_whole_store(tmp_path):
    INFO.create(tmp_path, EXIST)
    INFO.states(tmp_path, "r+")[1, 0] = TODO
    assert not INFO.is_whole(tmp_path)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=1))
def test_rows_are_counted_over_the_clips_with_media(states):
    rows = rows_in_tensors(np.array(states, np.uint8))
    for column in (0, 1):
        with_media = [clip for clip, state in enumerate(states) if state[column] != NO_MEDIA]
        assert {clip: row for clip, row in enumerate(rows[:, column].tolist()) if row != -1} == {
            clip: row for row, clip in enumerate(with_media)
        }
