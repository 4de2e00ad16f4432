"""A run folder: what one fit leaves behind, enough to predict new clips without the cache.

    config.json          the FitConfig as it was resolved, classes, modalities and their encoders, cache, versions
    weights.safetensors  head, adapters, and the normalization of each modality
    history.csv          one row an epoch
    predictions.csv      one row a val or test clip; runs of a sweep leave it out
    metrics.json         val and test, as `amr fit --json` prints them

With folds, those but config.json are in fold-0/, fold-1/, ..., and metrics.json is there for the whole as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amr.common.files import write_json
from amr.common.version import versions
from amr.fusion.config import FitConfig


@dataclass(frozen=True)
class RunRecord:
    """What a run says of itself, in config.json.

    Args:
        config: the fit's settings, with the method's own filled in.
        classes: in the order of the logits.
        modalities: modality to its embedding: embed_dim, encoder, weights_sha256, preprocessing, fingerprint.
        cache: path of the cache.
        notes: Decisions and omissions, in words.
        fuses: Whether modalities meet in one head (`Method.fuses`).
        versions: Versions of the packages that fitted it; filled in by `save`.
    """

    config: FitConfig
    classes: tuple[str, ...]
    modalities: Mapping[str, Mapping[str, Any]]
    cache: str
    notes: tuple[str, ...] = ()
    fuses: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write config.json."""
        record = asdict(self) | {"versions": versions("torch")}
        write_json(folder / "config.json", record)

    @classmethod
    def read(cls, folder: Path, option: str = "RUN") -> RunRecord:
        """Read config.json.

        Args:
            folder: Folder of a run.
            option: Name of the argument, for errors.

        Raises:
            FileNotFoundError: The folder is not a run.
            ValueError: Its config.json is not that of a run.
        """
        file = folder / "config.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"{option} must be the folder of a run, got {str(folder)!r}. Make one with amr fit."
            )
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["config"].items()}
            return cls(
                config=FitConfig(**settings),
                classes=tuple(record["classes"]),
                modalities=record["modalities"],
                cache=record["cache"],
                notes=tuple(record["notes"]),
                # version 0.1 had two methods that fuse nothing and did not say so
                fuses=record.get("fuses", settings["method"] not in ("unimodal", "ume")),
                versions=record.get("versions", {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{option} must be the folder of a run, got {str(folder)!r}, whose config.json is not one of amr fit. "
                "Make one with amr fit."
            ) from error
