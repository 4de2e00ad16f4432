"""A run folder: the files that one fit writes, enough to predict new clips without the cache.

    config.json          the resolved FitConfig, classes, modalities and their encoders, cache, versions
    weights.safetensors  head, adapters, and the normalization of each modality
    history.csv          one row per epoch
    predictions.csv      one row per val or test clip; not written for runs of a sweep
    metrics.json         val and test, as `amr fit --json` prints them

With folds, all files except config.json are in fold-0/, fold-1/, ...; a metrics.json beside config.json holds the mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amr.common.files import write_json
from amr.common.version import versions
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.choices import OWN_WEIGHTS
from amr.fusion.config import FitConfig

NEAR_TARGET = 0.1  # largest distance of a share from its target that passes for reached


@dataclass(frozen=True)
class RunRecord:
    """Description of a run, in config.json.

    Args:
        config: Settings of the fit, with those of the method filled in.
        classes: Names of the classes, in the order of the logits.
        modalities: Modality to its embedding: embed_dim, encoder, weights_sha256, preprocessing, fingerprint.
        cache: Path of the cache.
        notes: Sentences about what was decided or left out.
        fuses: Whether one head fuses the modalities (`Method.fuses`).
        versions: Versions of the packages that fitted the run; filled in by `save`.
        warnings: Sentences about data that make results doubtful.
    """

    config: FitConfig
    classes: tuple[str, ...]
    modalities: Mapping[str, Mapping[str, Any]]
    cache: str
    notes: tuple[str, ...] = ()
    fuses: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def target_share(self) -> dict[str, float] | None:
        """Modality to its target share, in the order of the modalities; None without AMR."""
        if self.config.amr_ratio is None:
            return None
        return dict(zip(self.modalities, parse_ratio(self.config.amr_ratio, [*self.modalities]), strict=True))

    @property
    def named_ratio(self) -> str | None:
        """Ratio with names, such as audio=3:video=1; None without AMR."""
        return None if self.config.amr_ratio is None else named_ratio(self.config.amr_ratio, [*self.modalities])

    def missed_target(self, val: Mapping[str, Any] | None, test: Mapping[str, Any] | None) -> str | None:
        """Sentence about shares that are far from the target; None if they are near, or without AMR.

        Args:
            val: Measures of the val split, which are looked at if there are any.
            test: Measures of the test split.
        """
        target, measures = self.target_share, val or test
        if target is None or measures is None or self.config.regularizer_weight == 0:
            return None
        if self.config.attribution in OWN_WEIGHTS:  # the ratio says where to, not how far
            return None
        share = measures["share_regularized"]
        if any(value is None for value in share.values()):
            return f"the ratio {self.named_ratio} was not reached: no clip has a share. Run amr inspect {self.cache}"
        if max(abs(share[m] - part) for m, part in target.items()) <= NEAR_TARGET:
            return None
        shares, targets = ("/".join(f"{value:.2f}" for value in each.values()) for each in (share, target))
        return (
            f"the ratio {self.named_ratio} was not reached: shares {shares} for {targets} on "
            f"{'test' if val is None else 'val'}. Pass more --epochs, or a larger --amr-weight"
        )

    def save(self, folder: Path) -> None:
        """Write config.json."""
        record = asdict(self) | {"config": self.config.to_json(), "versions": versions("torch")}
        write_json(folder / "config.json", record)

    @classmethod
    def read(cls, folder: Path, option: str = "RUN") -> RunRecord:
        """Read config.json.

        Args:
            folder: Folder of a run.
            option: Name of the argument, for errors.

        Raises:
            FileNotFoundError: The folder is not a run.
            ValueError: The config.json is not one of a run.
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
                # version 0.1 did not save it; two of its methods did not fuse
                fuses=record.get("fuses", settings["method"] not in ("unimodal", "ume")),
                versions=record.get("versions", {}),
                warnings=tuple(record.get("warnings", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{option} must be the folder of a run, got {str(folder)!r}, whose config.json is not one of amr fit. "
                "Make one with amr fit."
            ) from error
