"""Exported networks of one input, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from amr.common.registry import unknown
from amr.extract.encoders.optional.exported_file import ExportedFile
from amr.extract.encoders.optional.extras import imported

FLOATS: dict[str, type[np.floating]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
ERRORS_ONLY = 3  # level of onnxruntime's messages on stderr


@dataclass(frozen=True)
class Port:
    """An input or an output of a network.

    Attributes:
        name: Its name.
        shape: Length of each axis; None where any length will do.
        dtype: Type of its numbers; None if they are no floating-point numbers.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: type[np.floating] | None

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('any' if each is None else str(each) for each in self.shape)})"


class Network:
    """A network from a file.

    Args:
        file: Checked file.
        what: Option that names it, for errors.
        num_threads: Number of threads that compute; by default as many as torch's. One starts no other, so that the
            process can be forked.

    Raises:
        ValueError: onnxruntime cannot run it.
    """

    def __init__(self, file: ExportedFile, what: str, num_threads: int | None = None) -> None:
        self.file, self.what, self.num_threads = file, what, num_threads
        self._runtime = imported("onnxruntime", "onnx", what)
        self.to("cpu")

    def to(self, device: torch.device | str) -> None:
        """Run on a device: on a GPU if onnxruntime can use it (package onnxruntime-gpu), else on the CPU."""
        device = torch.device(device)
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in self._runtime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.num_threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = self._runtime.InferenceSession(str(self.file.path), options, providers=providers)
        except Exception as error:
            raise ValueError(
                f"{self.what} must be a network that onnxruntime {self._runtime.__version__} can run, got "
                f"{str(self.file.path)!r}: {_reason(error)}. Export it again, for an older version of ONNX."
            ) from error

    @property
    def inputs(self) -> list[Port]:
        """Its inputs."""
        return [_port(each) for each in self._session.get_inputs()]

    @property
    def outputs(self) -> list[Port]:
        """Its outputs."""
        return [_port(each) for each in self._session.get_outputs()]

    def only_input(self) -> Port:
        """Its only input.

        Raises:
            ValueError: It has several, or takes no floating-point numbers.
        """
        inputs = self.inputs
        if len(inputs) != 1:
            raise ValueError(
                f"{self.what} must have exactly one input, got {len(inputs)}: {', '.join(map(str, inputs))}. "
                "Export the network with the others set."
            )
        if inputs[0].dtype is None:
            kind = self._session.get_inputs()[0].type
            raise ValueError(
                f"{self.what} must take floating-point numbers, got the input {inputs[0]} of {kind}. "
                "Export the network with such an input."
            )
        return inputs[0]

    def output_named(self, name: str | None) -> Port:
        """The output of a name; without one, the only output.

        Raises:
            ValueError: There is no such output, or there are several and no name.
        """
        outputs = {each.name: each for each in self.outputs}
        if name is not None:
            if name not in outputs:
                raise unknown("output", name, outputs)
            return outputs[name]
        if len(outputs) > 1:
            raise ValueError(
                f"output must be given for a network of several outputs, got {', '.join(map(str, outputs.values()))}. "
                f"Type output={next(iter(outputs))}."
            )
        return next(iter(outputs.values()))

    def run(self, values: np.ndarray, outputs: list[str]) -> Mapping[str, np.ndarray]:
        """Run the network.

        Args:
            values: Its input, in the shape that it takes, float32.
            outputs: Names of the outputs to compute.
        """
        (port,) = self.inputs
        found = self._session.run(outputs, {port.name: np.ascontiguousarray(values, dtype=port.dtype)})
        return dict(zip(outputs, found, strict=True))


def _port(described: Any) -> Port:
    shape = tuple(each if isinstance(each, int) and each > 0 else None for each in described.shape)
    return Port(described.name, shape, FLOATS.get(described.type))


def _reason(error: Exception) -> str:
    """First line of an error of onnxruntime, without the code and the place in its source."""
    text = str(error).strip().split("\n")[0]
    return text.rpartition(" : ")[2].rstrip(". ") or type(error).__name__
