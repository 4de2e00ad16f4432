"""`opensmile:<feature set>`: the field's standard acoustic features of voice (Eyben et al. 2016). No weights.

The package `opensmile` has everything inside: nothing is downloaded. Its license allows research, not products.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from amr.extract.encoders.base import Prepare, WeightFreeEncoder
from amr.extract.encoders.model import at_most
from amr.extract.encoders.optional.extras import imported
from amr.extract.encoders.registry import OPENSMILE_SETS
from amr.extract.encoders.spec import Spec, as_preprocessing
from amr.extract.media.spool import TooLarge

LEVELS = {"functionals": "Functionals", "lld": "LowLevelDescriptors"}
MAX_SECONDS = 3600  # openSMILE holds all of a sound, and takes about a second for 20 seconds of it


@dataclass(frozen=True)
class OpensmileOptions:
    """Options of `opensmile`.

    Args:
        level: Level of the features: functionals, statistics over the whole clip; lld, low-level descriptors of every
            hundredth of a second.
        sample_rate: Sample rate of the sound, in Hz.
        keep: Output of lld: the mean over time, or one vector per step (steps).
        max_steps: Maximum number of steps, with keep=steps. More are averaged over this many equal parts of the clip.
    """

    level: Literal["functionals", "lld"] = "functionals"
    sample_rate: int = 16000
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64

    def __post_init__(self) -> None:
        for name, least in (("sample_rate", 8000), ("max_steps", 1)):
            if getattr(self, name) < least:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}. Pass {name}={default}.")
        if self.keep == "steps" and self.level == "functionals":
            raise ValueError(
                "keep=steps must be used with level=lld, got level=functionals. Type level=lld,keep=steps."
            )


class PrepareOpensmile(Prepare):
    """Function from `(samples,)` to `(features,)`, or to `(steps, features)`."""

    def __init__(self, feature_set: str, options: OpensmileOptions) -> None:
        self.feature_set, self.options = feature_set, options
        self.sample_rate_hz = options.sample_rate

    def __call__(self, media: np.ndarray) -> Tensor:
        """Features of one clip's sound.

        Raises:
            TooLarge: It is longer than an hour.
            ValueError: It is too short, or openSMILE gives no number for a feature.
        """
        if len(media) > MAX_SECONDS * self.options.sample_rate:
            raise TooLarge(
                f"the sound of a clip must be at most {MAX_SECONDS} s long for openSMILE, got "
                f"{len(media) / self.options.sample_rate:.0f} s. Cut the clip with start_seconds and end_seconds."
            )
        smile = extractor(self.feature_set, self.options.level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # too short: said below
            frame = smile.process_signal(np.asarray(media), self.options.sample_rate)
        steps = frame.to_numpy(np.float32, copy=True)  # (steps, features)
        if np.isnan(steps).all():
            raise ValueError(f"openSMILE needs more sound than {len(media) / self.options.sample_rate:.3f} s")
        missing = [name for name, column in zip(frame.columns, steps.T, strict=True) if not np.isfinite(column).all()]
        if missing:
            raise ValueError(f"openSMILE gives no number for {', '.join(missing[:3])} of this sound")
        if self.options.keep == "steps":
            return at_most(torch.from_numpy(steps), self.options.max_steps).contiguous()
        return torch.from_numpy(steps).mean(0)


@cache
def extractor(feature_set: str, level: str) -> Any:
    """openSMILE with a feature set at a level, one for each process."""
    package = imported("opensmile", "opensmile", "opensmile")
    return package.Smile(getattr(package.FeatureSet, feature_set), getattr(package.FeatureLevel, LEVELS[level]))


class Opensmile(WeightFreeEncoder):
    """The `opensmile` encoder."""

    modality = "audio"

    def __init__(self, spec: Spec) -> None:
        spec = spec.with_model_among(OPENSMILE_SETS)
        name = str(spec.model)
        options = spec.read(OpensmileOptions)
        self.embed_dim = int(extractor(name, options.level).num_features)
        self.spec = spec.canonical(options)
        self.max_steps = options.max_steps if options.keep == "steps" else None
        self.preprocessing = {"feature_set": name, **as_preprocessing(options)}
        self.prepare = PrepareOpensmile(name, options)


def build(spec: Spec, name: str) -> Opensmile:
    """Build the encoder of a spec."""
    return Opensmile(spec)
