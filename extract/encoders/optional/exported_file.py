"""Files of exported networks (ONNX), checked before anything is run: they are data, and no code of theirs is loaded."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amr.extract.encoders.optional.extras import imported

SUFFIX = ".onnx"
# Operators that onnxruntime has itself. Others would need a library that the file's author wrote.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


@dataclass(frozen=True)
class ExportedFile:
    """A file that holds an exported network.

    Attributes:
        path: Path of the file.
        sha256: Checksum of the file and, if its weights lie in other files, of those.
    """

    path: Path
    sha256: str


def read_exported(text: str | None, what: str) -> ExportedFile:
    """Find a file and check it.

    Args:
        text: Path, relative to the current folder.
        what: Option that names it, for errors.

    Raises:
        FileNotFoundError: The file does not exist, or one that holds its weights.
        ValueError: It is not a file of ONNX, or it needs operators of somebody's library or files elsewhere.
    """
    path = _find(text, what)
    onnx = imported("onnx", "onnx", what)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # each kind of damage has its own
        raise ValueError(
            f"{what} must be a file of ONNX, got {text!r}: {_first(error)} Export the network again."
        ) from (error)
    if not model.graph.node:
        raise ValueError(f"{what} must be a file of ONNX, got {text!r}, which holds no network. Export it again.")
    own = {*DOMAINS, *(each.domain for each in model.functions)}
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in _nodes(model) if node.domain not in own})
    if foreign:
        raise ValueError(
            f"{what} must use the operators of ONNX, got {text!r} with {', '.join(foreign)}, which need code from "
            "elsewhere. Export the network without custom operators."
        )
    digest = hashlib.sha256(path.read_bytes())
    for location in sorted(_external(model)):
        beside = _beside(path, location, what)
        digest.update(location.encode() + b"\0" + bytes.fromhex(_sha256(beside)))
    return ExportedFile(path, digest.hexdigest())


def _find(text: str | None, what: str) -> Path:
    path = Path(text or "").expanduser()
    if path.is_file():
        return path
    folder = path.parent
    others = [str(each) for each in folder.glob(f"*{SUFFIX}")] if folder.is_dir() else []
    close = difflib.get_close_matches(str(path), others, n=1)
    hint = f"Did you mean {close[0]}?" if close else "Give the path of an .onnx file, relative to the current folder."
    raise FileNotFoundError(f"{what} must name a file that exists, got {text!r}. {hint}")


def _beside(path: Path, location: str, what: str) -> Path:
    """File of weights, which must be in the folder of the network or below it."""
    folder = path.resolve().parent
    beside = (folder / location).resolve()
    if not beside.is_relative_to(folder):
        raise ValueError(
            f"{what} must have its weights beside it, got {str(path)!r} with weights in {location!r}. "
            "Export it as one file."
        )
    if not beside.is_file():
        raise FileNotFoundError(f"{what} must have its weights beside it, got no file {str(beside)!r}. Copy it there.")
    return beside


def _nodes(model: Any) -> Iterator[Any]:
    """Every node of a network, of its functions, and of the graphs inside its nodes."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node


def _external(model: Any) -> set[str]:
    """Locations of the weights that are in other files."""
    tensors = [*model.graph.initializer]
    for sparse in model.graph.sparse_initializer:
        tensors += [sparse.values, sparse.indices]
    for node in _nodes(model):
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for graph in (attribute.g, *attribute.graphs):
                tensors += graph.initializer
    return {each.value for tensor in tensors for each in tensor.external_data if each.key == "location"}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first(error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return f"{reason or type(error).__name__}."
