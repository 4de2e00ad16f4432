from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from amr.fusion.data.dataset import Dataset
from amr.fusion.data.splits import SplitRows
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.evaluate.write import Arrays


@pytest.mark.parametrize(("num_classes", "dtype"), [(3, "int16"), (2**15, "int16"), (2**15 + 1, "int32")])
def test_every_class_can_be_a_prediction(tmp_path: Path, num_classes: int, dtype: str):
    clips = pd.DataFrame({"id": ["a", "b"]})
    target = torch.tensor([0, num_classes - 1])
    classes = tuple(map(str, range(num_classes)))
    dataset = Dataset(clips, {}, torch.ones(2, 1, dtype=torch.bool), target, classes, {})
    rows = np.arange(2)
    data = SimpleNamespace(
        dataset=dataset, folds=[SimpleNamespace(rows=SplitRows(rows[:0], rows[:0], rows), test=clips)]
    )
    probability = torch.nn.functional.one_hot(target, num_classes)[None].float().numpy()
    arrays = Arrays(data, ["run"], ["audio"])
    group = SimpleNamespace(data=data, runs=[SimpleNamespace(name="run")])
    arrays.add(group, PerClip(("audio",), np.zeros(2, int), rows, {}, {}, probability, np.ones((1, 2, 1))))
    arrays.save(tmp_path)
    preds = np.load(tmp_path / "evaluation.npz")["preds"]
    assert preds.dtype == dtype
    assert preds.tolist() == [target.tolist()]
