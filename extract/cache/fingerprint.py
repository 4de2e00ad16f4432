"""Fingerprint of an embedding: one checksum of all that it depends on. Also how two embeddings differ, in words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pandas as pd

from amr.extract.cache.reader import EmbeddingInfo


def clip_files(clips: pd.DataFrame, modality: str) -> pd.DataFrame:
    """File and interval of each clip: id, path, start_seconds, end_seconds, all text, "" if absent.

    Args:
        clips: Table of a manifest or a cache. `<modality>_path` takes precedence over `path`.
        modality: Modality whose path is used.
    """
    return pd.DataFrame(_clip_files(clips, modality), dtype=str)


def _clip_files(clips: pd.DataFrame, modality: str) -> dict[str, list[str]]:
    path = f"{modality}_path" if f"{modality}_path" in clips else "path"
    columns = {"id": "id", "path": path, "start_seconds": "start_seconds", "end_seconds": "end_seconds"}
    empty = [""] * len(clips)
    return {name: clips[column].tolist() if column in clips else empty for name, column in columns.items()}


def fingerprint(info: EmbeddingInfo, clips: pd.DataFrame) -> str:
    """sha256 over clip ids, paths, start and end, encoder, weights, preprocessing and dtype.

    Labels, splits and groups are left out, so they can change without a new extraction.
    """
    rows = list(zip(*_clip_files(clips, info.modality).values(), strict=True))
    payload = _made_with(info) | {"clips": rows}
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def differences(old: EmbeddingInfo, new: EmbeddingInfo) -> list[tuple[str, str, str]]:
    """Settings in which two embeddings differ, each as (name, old, new).

    A trained encoder may be named in several ways: by its training, its folder, another path. Its weights decide.
    """
    found = _compare(_made_with(old), _made_with(new))
    if old.encoder.startswith("trained:") and new.encoder.startswith("trained:") and old.weights_sha256:
        return [each for each in found if each[0] != "encoder" or old.weights_sha256 != new.weights_sha256]
    return found


def clip_difference(old: pd.DataFrame, new: pd.DataFrame, modality: str) -> str | None:
    """Describe how the embedded clips differ from the requested ones; None if they do not."""
    before, after = clip_files(old, modality), clip_files(new, modality)
    if len(before) != len(after):
        return f"has {len(before)} clips, the manifest {len(after)}"
    for column, what in (("id", "id"), ("path", "path"), ("start_seconds", "start"), ("end_seconds", "end")):
        changed = (before[column] != after[column]).to_numpy()
        if changed.any():
            row = int(changed.argmax())
            return (
                f"has another {what} in {int(changed.sum())} of {len(before)} clips, "
                f"first {before[column].iloc[row]!r} where the manifest has {after[column].iloc[row]!r} "
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
    text = str(value) if value not in (None, "") else "none"
    return text if len(text) <= 60 else f"{text[:57]}..."
