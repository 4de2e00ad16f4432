from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.pipeline.store_files import NO_MEDIA, TODO, RowFile, StoreInfo, rows_in_tensors

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
    states = INFO.states(tmp_path)
    states[1, 0] = TODO
    RowFile(tmp_path / "store.states", states.shape, np.uint8, writable=True).write(0, states)
    assert not INFO.is_whole(tmp_path)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 2), min_size=1))
def test_rows_are_counted_over_the_clips_with_media(states):
    rows = rows_in_tensors(np.array(states, np.uint8))
    for column in (0, 1):
        with_media = [clip for clip, state in enumerate(states) if state[column] != NO_MEDIA]
        assert {clip: row for clip, row in enumerate(rows[:, column].tolist()) if row != -1} == {
            clip: row for row, clip in enumerate(with_media)
        }


@given(st.lists(st.integers(0, 8)), st.integers(0, 8))
def test_rows_are_read_as_numpy_reads_them(tmp_path_factory, rows, start):
    values = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float16)
    path = tmp_path_factory.mktemp("rows") / "a.npy"
    np.save(path, values)
    file = RowFile(path, values.shape, np.float16, writable=True)
    np.testing.assert_array_equal(file.take(np.array(rows, np.int64)), values[rows])
    np.testing.assert_array_equal(file.read(start, 9), values[start:])
    file.write(start, -values[start:])
    np.testing.assert_array_equal(np.load(path), np.concatenate([values[:start], -values[start:]]))


def test_a_file_that_is_shortened_while_it_is_read_is_an_error(tmp_path):
    """A mapped one would end the process with SIGBUS."""
    np.save(tmp_path / "a.npy", np.ones((9, 5000), np.float16))
    file = RowFile(tmp_path / "a.npy", (9, 5000), np.float16)
    os.truncate(tmp_path / "a.npy", 50128)
    assert file.read(0, 5).all()
    for rows in ([8], [5], [0, 1, 2, 3, 4, 5], [7, 0]):
        with pytest.raises(RuntimeError, match=r"a\.npy must have 90128 bytes, got 50128: .*Give the same"):
            file.take(np.array(rows))
