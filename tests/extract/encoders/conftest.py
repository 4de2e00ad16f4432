"""Small networks in files, for tests of what runs them; and what stands for packages that are hard to install."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ...conftest import without

OPSET = 13
Shape = Sequence[int | str]


def is_there(module: str, install: str) -> None:
    """Skip a test that lacks an optional package; fail it if CI=true, because CI has every package."""
    if find_spec(module) is None:
        without(module, install)


def needs(module: str, extra: str) -> Any:
    """Import the optional package of an extra; see `is_there`."""
    is_there(module, f"pip install 'amr-fusion[{extra}]'")
    return import_module(module)


def slaney_filters(sr: int, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None) -> np.ndarray:
    """`librosa.filters.mel` by its definition: triangles of equal area on Slaney's scale, `(bands, frequencies)`."""

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    mels = np.linspace(to_mel(fmin), to_mel(fmax or sr / 2), n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))[:, None]
    slopes = (np.fft.rfftfreq(n_fft, 1 / sr) - edges[:-1]) / np.diff(edges, axis=0)
    return 2 / (edges[2:] - edges[:-2]) * np.maximum(0, np.minimum(slopes[:-1], 1 - slopes[1:]))


@contextmanager
def importing(**modules: object) -> Iterator[None]:
    """Import packages in the block with these in place of others that they need, such as librosa, slow to compile."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, module in modules.items():
            patch.setitem(sys.modules, name.replace("__", "."), module)
        yield


class Networks:
    """Maker of small networks."""

    def __init__(self) -> None:
        self.onnx = needs("onnx", "onnx")
        needs("onnxruntime", "onnx")

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> Any:
        """A node; attributes that are nodes in a list are the graphs of branches."""
        for name, value in attributes.items():
            if isinstance(value, list) and isinstance(value[0], self.onnx.NodeProto):
                output = self.onnx.helper.make_tensor_value_info(
                    value[-1].output[0], self.onnx.TensorProto.FLOAT, [1, 9]
                )
                attributes[name] = self.onnx.helper.make_graph(value, name, [], [output])
        return self.onnx.helper.make_node(kind, inputs, outputs, domain=domain, **attributes)

    def constant(self, name: str, values: np.ndarray) -> Any:
        """A constant of the network."""
        return self.onnx.numpy_helper.from_array(np.asarray(values), name)

    def save(
        self,
        path: str | Path,
        nodes: Sequence[Any],
        inputs: Sequence[tuple[str, Shape]],
        outputs: Sequence[tuple[str, Shape]],
        constants: Sequence[Any] = (),
        *,
        kind: type = np.float32,
        domains: Sequence[str] = (),
        beside: str | None = None,
    ) -> None:
        """Write a network; text in a shape is an axis of any length; `beside` names a file for the constants."""
        helper = self.onnx.helper
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        ports = [
            [helper.make_tensor_value_info(name, dtype, [*shape]) for name, shape in each] for each in (inputs, outputs)
        ]
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        graph = helper.make_graph(list(nodes), "network", *ports, list(constants))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if beside is not None:
            from onnx.external_data_helper import convert_model_to_external_data

            convert_model_to_external_data(model, location=beside, size_threshold=0)
        self.onnx.save(model, str(path))


@pytest.fixture(scope="session")
def networks() -> Networks:
    """Maker of small networks in files."""
    return Networks()
