"""Targets of a batch: whatever is passed, they are those of the task, or are refused with advice."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.audit.targets import read_target
from amr.fusion.choices import TASKS

DTYPES = (torch.int64, torch.int32, torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64)
VALUES = st.sampled_from([0, 0, 1, 1, 1, 2, 5, -1, 0.5, -2.5, float("nan"), float("inf")])


@given(st.data(), st.sampled_from(TASKS), st.sampled_from(DTYPES), st.lists(st.integers(1, 3), max_size=3))
def test_targets_are_those_of_the_task_or_refused(data, task, dtype, shape):
    size = int(np.prod(shape))
    numbers = data.draw(st.lists(VALUES, min_size=size, max_size=size))
    if not dtype.is_floating_point:
        numbers = [round(x) if np.isfinite(x) else 3 for x in numbers]
    target = torch.tensor(numbers, dtype=torch.float64).view(shape).to(dtype)
    refusal = ""
    try:
        found = read_target(target, task)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert re.fullmatch(r"target must .*, got .*\. (Pass|Leave) .*\.", refusal)
        return
    assert len(found) == shape[0]
    column = target[:, 0] if len(shape) == 2 and shape[1] == 1 and task != "multilabel" else target
    assert found.tolist() == column.double().tolist()
    assert found.dtype == (torch.int64 if task == "multiclass" else torch.float32)
    assert found.ndim == (2 if task == "multilabel" else 1)
    if task == "multilabel":
        assert {*found.flatten().tolist()} <= {0, 1}
    if task == "multiclass":
        assert (found >= 0).all()


@pytest.mark.parametrize("target", [["dog", "cat"], None, [torch.zeros(3), torch.zeros(2)]], ids=str)
def test_what_is_no_array_is_refused(target):
    with pytest.raises(ValueError, match="target must be a tensor or an array of numbers, got a"):
        read_target(target, "multiclass")
    with pytest.raises(ValueError, match=r"real numbers, got torch.complex64 \(2,\)"):
        read_target(torch.zeros(2, dtype=torch.complex64), "regression")
