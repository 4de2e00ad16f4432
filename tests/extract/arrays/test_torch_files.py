from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from amr.extract.arrays import ArraySpec, read_rows

X = torch.arange(12.0).reshape(6, 2) / 8


def read(tmp_path, tensor: object) -> np.ndarray:
    torch.save(tensor, tmp_path / "x.pt")
    return np.asarray(read_rows(ArraySpec(tmp_path / "x.pt")).values)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("float8", lambda: X.to(torch.float8_e4m3fn)),
        ("float8_e5m2", lambda: X.to(torch.float8_e5m2)),
        ("bfloat16", lambda: X.bfloat16()),
        ("sparse", lambda: X.to_sparse()),
        ("sparse rows", lambda: X.to_sparse_csr()),
        ("quantized", lambda: torch.quantize_per_tensor(X, 0.125, 0, torch.quint8)),
        ("negated", lambda: torch._neg_view(-X)),
        ("parameter", lambda: torch.nn.Parameter(X)),
    ],
)
def test_tensors_of_every_kind_are_read(tmp_path, name, make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = make()
        expected = X.to(torch.float8_e5m2).float() if name == "float8_e5m2" else X
        np.testing.assert_array_equal(read(tmp_path, tensor), expected.numpy())


def test_rows_of_a_nested_tensor_are_clips_of_several_lengths(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([X[:2], X[2:5]])
    values = read(tmp_path, nested)
    np.testing.assert_array_equal(values[0, :2], X[:2].numpy())
    np.testing.assert_array_equal(values[1], X[2:5].numpy())
    assert np.isnan(values[0, 2]).all()


def test_a_tensor_without_data_and_one_too_large_when_dense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold numbers, got a meta tensor"):
        read(tmp_path, X.to("meta"))
    huge = torch.sparse_coo_tensor([[0], [0]], [1.0], (6, 10**13), check_invariants=False)
    with pytest.raises(ValueError, match=r"made dense, must fit into the .* of memory at hand, got 218\.3 TiB"):
        read(tmp_path, huge)
