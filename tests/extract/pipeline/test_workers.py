import pickle

import pytest
import torch

from amr.extract.pipeline.load import Loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool])
def test_a_clip_comes_whole_from_another_process(dtype):
    loaded = Loaded({"a": torch.ones(3, 2).to(dtype), "b": torch.zeros(0, dtype=dtype)}, {"c": "broken"})
    back = pickle.loads(pickle.dumps(loaded))
    assert back.failures == {"c": "broken"}
    for name, value in loaded.inputs.items():
        assert back.inputs[name].dtype == dtype
        assert torch.equal(back.inputs[name], value)
        back.inputs[name].add_(0) if dtype != torch.bool else None  # writable
