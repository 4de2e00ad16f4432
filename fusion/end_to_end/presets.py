"""Presets of `amr train-encoders`: encoders and augmentation of each dataset, from presets.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FILE = Path(__file__).with_name("presets.toml")
OTHER = "other"  # preset of clips of no known dataset
MODALITIES = ("audio", "video")


@dataclass(frozen=True)
class Preset:
    """Encoders of a dataset, and augmentation of its train clips.

    Args:
        encoders: Embedding name to encoder spec.
        flip: Whether half of the video clips are mirrored.
        resized_crop: Whether a random part of the frames is resized to the whole picture.
        time_crop: Part of a sound's time that a train clip shows, above 0, at most 1.
    """

    encoders: Mapping[str, str]
    flip: bool
    resized_crop: bool
    time_crop: float


def preset(dataset: str | None) -> Preset:
    """Return the preset of a dataset, that of unknown clips if it has none of its own.

    >>> preset("vggsound").time_crop, preset(None).flip
    (0.5, False)
    """
    presets = read_presets()
    return presets[dataset if dataset in presets else OTHER]


@cache
def read_presets() -> dict[str, Preset]:
    """Read dataset to preset."""
    return {name: _preset(table) for name, table in tomllib.loads(FILE.read_text(encoding="utf-8")).items()}


def _preset(table: dict[str, dict[str, Any]]) -> Preset:
    values = {name: setting["value"] for name, setting in table.items()}
    encoders = {m: values.pop(m) for m in MODALITIES}
    return Preset(MappingProxyType(encoders), **values)
