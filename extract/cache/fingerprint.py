"""Fingerprint of an embedding: one checksum of all that it depends on. Also how two embeddings differ, in words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pandas as pd

from amr.data_manifests.schema import TEXT
from amr.extract.cache.reader import IMPORTED, EmbeddingInfo


def clip_files(clips: pd.DataFrame, modality: str) -> pd.DataFrame:
    """File and interval of each clip: id, path, start_seconds, end_seconds, all text, "" if absent.

    For the modality text, if any clip has one in a column `text`, the text of each clip, too.

    Args:
        clips: Table of a manifest or a cache. `<modality>_path` takes precedence over `path`.
        modality: Modality whose path is used.
    """
    return pd.DataFrame(_clip_files(clips, modality), dtype=str)


def _clip_files(clips: pd.DataFrame, modality: str) -> dict[str, list[str]]:
    path = f"{modality}_path" if f"{modality}_path" in clips else "path"
    columns = {"id": "id", "path": path, "start_seconds": "start_seconds", "end_seconds": "end_seconds"}
    empty = [""] * len(clips)
    files = {name: clips[column].tolist() if column in clips else empty for name, column in columns.items()}
    if modality == TEXT and TEXT in clips:
        texts = [text if text.strip() else "" for text in clips[TEXT].tolist()]
        files |= {TEXT: texts} if any(texts) else {}
    return files


def fingerprint(info: EmbeddingInfo, clips: pd.DataFrame) -> str:
    """sha256 over clip ids, paths or texts, start and end, encoder, weights, preprocessing and dtype.

    Labels, splits and groups are left out, so they can change without a new extraction. Imported embeddings depend on
    no text, also where a column has that name.
    """
    files = _clip_files(clips, info.modality)
    if info.encoder.startswith(IMPORTED):
        files.pop(TEXT, None)
    rows = list(zip(*files.values(), strict=True))
    payload = _made_with(info) | {"clips": rows}
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def differences(old: EmbeddingInfo, new: EmbeddingInfo) -> list[tuple[str, str, str]]:
    """Settings in which two embeddings differ, each as (name, old, new).

    A trained encoder may be named in several ways: by its training, its folder, another path. Its weights decide. So
    may a model of transformers: by its name, or by the path of a folder.
    """
    found = _compare(_made_with(old), _made_with(new))
    families = {info.encoder.partition(":")[0] for info in (old, new)}
    if families in ({"trained"}, {"hf"}) and old.weights_sha256:
        return [each for each in found if each[0] != "encoder" or old.weights_sha256 != new.weights_sha256]
    return found


def clip_difference(old: pd.DataFrame, new: pd.DataFrame, modality: str) -> str | None:
    """Describe how the embedded clips differ from the requested ones; None if they do not."""
    before, after = clip_files(old, modality), clip_files(new, modality)
    if len(before) != len(after):
        return f"has {len(before)} clips, the manifest {len(after)}"
    columns = list(dict.fromkeys([*before, *after]))
    before, after = (clips.reindex(columns=columns, fill_value="") for clips in (before, after))
    for column in columns:
        what = {"start_seconds": "start", "end_seconds": "end"}.get(column, column)
        changed = (before[column] != after[column]).to_numpy()
        if changed.any():
            row = int(changed.argmax())
            return (
                f"has another {what} in {int(changed.sum())} of {len(before)} clips, "
                f"first {_cut(before[column].iloc[row])} where the manifest has {_cut(after[column].iloc[row])} "
                f"(clip {after['id'].iloc[row]!r})"
            )
    return None


def _made_with(info: EmbeddingInfo) -> dict[str, Any]:
    return {
        "encoder": info.encoder,
        "weights_sha256": info.weights_sha256,
        "preprocessing": json.loads(json.dumps(info.preprocessing)),
        "dtype": info.dtype,
    }


def _compare(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _compare(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append((f"{prefix}{key}", _short(before), _short(after)))
    return found


def _short(value: object) -> str:
    return _begin(str(value) if value not in (None, "") else "none", 60)


def _cut(text: str) -> str:
    return repr(_begin(text, 200))


def _begin(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
