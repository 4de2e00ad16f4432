"""Text and numbers in an HDF5 file: how they are stored, and that a change is seen."""

from __future__ import annotations

import itertools
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.extract.cache.arrays import (
    data_sha256,
    num_texts,
    read_numbers,
    read_text,
    read_text_attribute,
    row_blocks,
    row_crc32,
    write_attributes,
    write_numbers,
    write_text,
)
from amr.extract.cache.damage import Finding


@pytest.fixture
def file():
    with h5py.File("memory", "w", driver="core", backing_store=False) as opened:
        yield opened


ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(ANY_TEXT | st.text("ab", min_size=60, max_size=70), max_size=5))
def test_texts_are_read_as_written(texts):
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        write_text(file, "texts", texts)
        assert read_text(file["texts"]).tolist() == texts
        assert num_texts(file["texts"]) == len(texts)


@pytest.mark.parametrize(("length", "is_fixed"), [(0, True), (64, True), (65, False)])
def test_only_short_texts_have_a_fixed_length(file, length, is_fixed):
    write_text(file, "texts", ["x" * length, "y"])
    assert isinstance(file["texts"], h5py.Dataset) is is_fixed
    filtered = [file["texts"]] if is_fixed else [file["texts/bytes"], file["texts/offsets"]]
    assert all(data.fletcher32 for data in filtered)


def test_length_counts_bytes(file):
    write_text(file, "texts", ["ä" * 33])
    assert read_text(file["texts"]).tolist() == ["ä" * 33]
    assert isinstance(file["texts"], h5py.Group)


def test_names_that_are_no_utf8_survive(file):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    write_text(file, "texts", [name])
    write_attributes(file, root=name)
    assert read_text(file["texts"])[0] == read_text_attribute(file, "root") == name


def test_nul_is_refused(file):
    with pytest.raises(ValueError, match=r"^label must be text without the character NUL, got it in row 2\. Remove it"):
        write_text(file, "label", ["a", "b\0"])


@pytest.mark.parametrize("text", ["short", "long" * 30])
def test_another_text_is_seen(file, text):
    write_text(file, "texts", [text, "b"])
    data = file["texts"] if text == "short" else file["texts/bytes"]
    data[0] = data[-1]
    with pytest.raises(Finding, match="texts: checksum differs"):
        read_text(file["texts"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, bool])
def test_numbers_are_read_as_written(file, dtype):
    values = np.random.default_rng(0).integers(0, 2, (700, 3, 500)).astype(dtype)
    shape, kind = values.shape, np.dtype(dtype)
    write_numbers(file, "x", shape, kind, (values[rows] for rows in row_blocks(shape, kind)))
    np.testing.assert_array_equal(read_numbers(file["x"]), values)
    assert file["x"].fletcher32
    assert file["x"].chunks[1:] == (3, 500)
    assert file["x"].chunks[0] * 1500 * kind.itemsize <= 2**20
    assert file["x"].attrs["sha256"].decode() == data_sha256(file["x"])
    file["x"][699, 2, 499] = not values[699, 2, 499]
    with pytest.raises(Finding, match="x: checksum differs"):
        read_numbers(file["x"])


@given(rows=st.integers(1, 100_000), dims=st.integers(1, 10_000_000))
def test_blocks_are_whole_chunks_and_fit_into_memory(rows, dims):
    blocks = list(row_blocks((rows, dims), np.dtype(np.float16)))
    assert blocks[0].start == 0
    assert blocks[-1].stop == rows
    assert all(one.stop == other.start for one, other in itertools.pairwise(blocks))
    largest = max(block.stop - block.start for block in blocks)
    assert largest == 1 or largest * dims * 2 <= 2**24


def test_checksums_of_rows_are_those_of_zlib():
    values, present = np.arange(6, dtype=np.float16).reshape(2, 3), np.array([True, False])
    steps = np.array([2, 0], dtype=np.int32)
    expected = [zlib.crc32(present[i].tobytes() + steps[i].tobytes() + values[i].tobytes()) for i in range(2)]
    assert row_crc32(values, present, steps).tolist() == expected
    assert row_crc32(values, present, None)[0] == zlib.crc32(b"\1" + values[0].tobytes())
