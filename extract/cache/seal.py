"""Check the structure of a cache before anything in it is used, and seal it with a checksum.

HDF5's filter protects values. Names, attributes, shapes and the places of chunks are covered by the seal: the root
attribute `structure_sha256`. Links, virtual and external datasets are refused: they lead to other files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator

import h5py
import numpy as np

from amr.extract.cache.arrays import num_texts, read_text_attribute, write_attributes
from amr.extract.cache.damage import Finding

SEAL = "structure_sha256"
GROUPS = ("embeddings", "present", "done", "num_steps")  # one dataset for each embedding
FACES = "faces"  # group with a dataset for each embedding of face crops; only if there is one
FIXED_COLUMNS = ("id", "path", "split", "group")


def seal(file: h5py.File) -> None:
    """Write the checksum of the structure."""
    write_attributes(file, **{SEAL: structure_sha256(file)})


def check_seal(file: h5py.File) -> None:
    """Compare the structure with its checksum."""
    if read_text_attribute(file, SEAL) != structure_sha256(file):
        raise Finding("structure: checksum differs, names, attributes or shapes were changed or damaged")


def check_layout(file: h5py.File, num_bytes: int) -> None:
    """Refuse what no cache has: links, values in other files, an object under two names, more values than bytes.

    Args:
        file: Open file.
        num_bytes: Size of the file.
    """
    for name, node in _objects(file):
        if isinstance(node, h5py.Dataset):
            if node.is_virtual or node.external:
                raise Finding(f"{name} has its values in another file")
            if math.prod(node.shape) * node.dtype.itemsize > num_bytes:
                raise Finding(f"{name} is shaped {node.shape}, more than the file's {num_bytes} bytes can hold")


def check_shapes(file: h5py.File) -> None:
    """Check that every column and every embedding has a row for each clip."""
    num_clips = num_texts(file["clips/id"])
    columns = {f"clips/{name}": file["clips"][name] for name in FIXED_COLUMNS}
    columns |= {f"clips/columns/{name}": column for name, column in file["clips/columns"].items()}
    for name, column in columns.items():
        if num_texts(column) != num_clips:
            raise Finding(f"{name} has {num_texts(column)} rows for {num_clips} clips")
    for name, data in file["embeddings"].items():
        if data.ndim not in (2, 3) or len(data) != num_clips:
            raise Finding(f"embeddings/{name} is shaped {data.shape} for {num_clips} clips")
        for group in GROUPS[1:] if data.ndim == 3 else GROUPS[1:3]:
            if file[group][name].shape != (num_clips,):
                raise Finding(f"{group}/{name} is shaped {file[group][name].shape} for {num_clips} clips")
    for name, data in file.get(FACES, {}).items():
        if name not in file["embeddings"] or data.shape != (num_clips,):
            raise Finding(f"{FACES}/{name} is shaped {data.shape} for {num_clips} clips, or of no embedding")


def structure_sha256(file: h5py.File) -> str:
    """sha256 over the structure: a line of JSON for the root and each object, parents first, in their groups' order."""
    digest = hashlib.sha256()
    for name, node in [("", file), *_objects(file)]:
        parts = [*node] if isinstance(node, h5py.Group) else _dataset(name, node)
        kind = "group" if isinstance(node, h5py.Group) else "dataset"
        digest.update(json.dumps([name, kind, parts, _attributes(name, node)]).encode() + b"\n")
    return digest.hexdigest()


def _objects(group: h5py.Group, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, h5py.Group]]:
    """Every group and dataset below a group with its path. No link is followed but a hard one, and none twice."""
    seen = {_address(group)} if seen is None else seen
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Finding(f"{path} is a link to another place")
        node = group[name]
        if _address(node) in seen:
            raise Finding(f"{path} is an object under two names")
        seen.add(_address(node))
        if not isinstance(node, h5py.Group | h5py.Dataset):
            raise Finding(f"{path} is neither a group nor a dataset")
        yield path, node
        if isinstance(node, h5py.Group):
            yield from _objects(node, f"{path}/", seen)


def _address(node: h5py.Group | h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(node.id).addr)


def _dataset(name: str, data: h5py.Dataset) -> list[object]:
    """Shape, type, chunks, filters, and the places of the values in the file."""
    _check_type(name, data.id.get_type(), data.dtype)
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(i)[:2] for i in range(plan.get_nfilters())]
    if data.chunks is None:
        places: list[object] = [data.id.get_offset(), data.id.get_storage_size()]
    else:
        places = []
        data.id.chunk_iter(
            lambda chunk: places.append([chunk.chunk_offset, chunk.filter_mask, chunk.byte_offset, chunk.size])
        )
        places.sort()
    return [data.shape, data.dtype.str, data.chunks, filters, places]


def _attributes(name: str, node: h5py.Group | h5py.Dataset) -> list[list[object]]:
    lines: list[list[object]] = []
    for key in sorted(node.attrs):
        if name == "" and key == SEAL:
            continue
        stored = node.attrs.get_id(key)
        _check_type(f"attribute {key}", stored.get_type(), stored.dtype)
        value = np.asarray(node.attrs[key])
        lines.append([key, value.dtype.str, value.shape, value.tobytes().hex()])
    return lines


def _check_type(name: str, stored: h5py.h5t.TypeID, dtype: np.dtype) -> None:
    """Accept plain numbers and text of a fixed length, exactly as they are written."""
    text = h5py.check_string_dtype(dtype)
    if dtype.kind not in "biufS" or (text is not None and text.length is None):
        raise Finding(f"{name} has values of another kind, {dtype}")
    if not stored.equal(h5py.h5t.py_create(dtype, logical=True)):
        raise Finding(f"{name} has values that are stored in another way than {dtype}")
