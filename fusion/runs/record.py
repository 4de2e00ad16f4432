"""A run folder: the files that one fit writes, enough to predict new clips without the cache.

    config.json          the resolved FitConfig, classes, modalities and their encoders, cache, versions
    weights.safetensors  head, adapters, and the normalization of each modality
    history.csv          one row per epoch
    predictions.csv      one row per val or test clip; not written for runs of a sweep
    labels.csv           of several labels: clips, average precision and F1 of each; beside predictions.csv alone
    metrics.json         val and test, as `amr fit --json` prints them
    SHA256SUMS           checksums of these files, written just before metrics.json

With folds, all files except config.json are in fold-0/, fold-1/, ...; a metrics.json beside config.json holds the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amr.common.files import CHECKSUMS, read_json, write_json
from amr.common.version import versions
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.choices import MOMENTUM, OWN_WEIGHTS
from amr.fusion.config import FitConfig

# in the order in which a run appears: a run with metrics.json is finished
RUN_FILES = (
    "config.json",
    "weights.safetensors",
    "history.csv",
    "predictions.csv",
    "labels.csv",
    CHECKSUMS,
    "metrics.json",
)
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
        model: Name of a model that was not fitted here, but audited (`amr.audit`); None for a fit.
    """

    config: FitConfig
    classes: tuple[str, ...]
    modalities: Mapping[str, Mapping[str, Any]]
    cache: str
    notes: tuple[str, ...] = ()
    fuses: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: str | None = None

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

    def check_fitted(self, option: str = "RUN") -> None:
        """Raise ValueError for an audit, which has neither weights nor a cache.

        Args:
            option: Name of the argument, for the error.
        """
        if self.model is not None:
            raise ValueError(
                f"{option} must be a run of amr fit, got the audit of {self.model}, which has no weights. "
                "amr report shows it; amr.audit measures its model again."
            )

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
        """Write config.json, the first file of a run: checksums of an earlier one are removed."""
        (folder / CHECKSUMS).unlink(missing_ok=True)
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
            ValueError: The config.json is damaged, or not one of a run.
        """
        record = read_json(folder / "config.json", option)
        if record is None:
            raise FileNotFoundError(
                f"{option} must be the folder of a run, got {str(folder)!r}. Make one with amr fit."
            )
        try:
            settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["config"].items()}
            settings = _schedule_of_0_1(settings) | settings
            found = cls(
                config=FitConfig(**settings),
                classes=tuple(record["classes"]),
                modalities=record["modalities"],
                cache=record["cache"],
                notes=tuple(record["notes"]),
                # version 0.1 did not save it; two of its methods did not fuse
                fuses=record.get("fuses", settings["method"] not in ("unimodal", "ume")),
                versions=record.get("versions", {}),
                warnings=tuple(record.get("warnings", ())),
                model=record.get("model"),
            )
            found._check()
            return found
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{option} must be the folder of a run, got {str(folder)!r}, whose config.json is not one of amr fit. "
                "Make one with amr fit."
            ) from error

    def _check(self) -> None:
        """Raise TypeError or ValueError for values that no fit writes; `FitConfig` checks its own."""
        texts = (*self.classes, *self.notes, *self.warnings, self.cache, self.model or "")
        infos = self.modalities.values()
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(info, dict) for info in infos):
            raise TypeError("texts and modalities must be such")
        if not (self.classes and self.modalities) or not all(_is_count(info["embed_dim"]) for info in infos):
            raise ValueError("classes, modalities and embed_dim must be 1 or more")
        names = ("modality", "encoder", "weights_sha256", "fingerprint")
        if not all(isinstance(info[name], str) for info in infos for name in names):
            raise TypeError(f"{', '.join(names)} must be texts")
        if not all(isinstance(info["preprocessing"], dict) for info in infos) or not isinstance(self.fuses, bool):
            raise TypeError("preprocessing must be a mapping, fuses a boolean")
        if self.config.amr_ratio is not None:
            parse_ratio(self.config.amr_ratio, [*self.modalities])


def _schedule_of_0_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Momentum and steps of the learning rate of a fit of version 0.1, which did not save them; {} of an audit."""
    if settings.get("optimizer") is None:
        return {}
    steps = settings["method"] in ("ogm-ge", "ogm")  # the only methods with a schedule then
    momentum = MOMENTUM if settings["optimizer"] == "sgd" else None
    return {"momentum": momentum, "lr_step": 70 if steps else 0, "lr_factor": 0.1 if steps else None}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_measures(measures: Any, modalities: Sequence[str], score: str = "accuracy") -> None:
    """Raise ValueError or TypeError if the measures of a split are not such as a fit writes."""
    if measures is None:
        return
    for name in (score, "share", "share_regularized", "num_clips"):
        if measures[name] is None:
            raise TypeError(f"{name} is null")
    for name, value in measures.items():
        if isinstance(value, dict) and not {*modalities} <= value.keys():
            raise ValueError(f"{name} is not of {', '.join(modalities)}")
        for number in value.values() if isinstance(value, dict) else [value]:
            if number is not None and not _is_number(number):
                raise TypeError(f"{name} is {number!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
