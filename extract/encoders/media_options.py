"""Options that every encoder has: how its media are read. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from amr.common.options import flag
from amr.extract.encoders.base import Encoder
from amr.extract.encoders.spec import Spec
from amr.extract.media.sampling import FRAME_RATE_HZ

MODALITY = {"audio_track": "audio", "folder_fps": "video"}  # of the encoders that have the option


@dataclass(frozen=True)
class MediaOptions:
    """How the media of a clip are read.

    Args:
        audio_track: Index of the sound stream in a file; by default the one that the file marks as default.
        folder_fps: Frames per second of a folder of images.
    """

    audio_track: int | None = None
    folder_fps: float | None = None

    def __post_init__(self) -> None:
        if self.audio_track is not None and self.audio_track < 0:
            raise ValueError(f"audio_track must be at least 0, got {self.audio_track}. Type audio_track=0.")
        if self.folder_fps is not None and not 0 < self.folder_fps < math.inf:
            raise ValueError(f"folder_fps must be above 0, got {self.folder_fps}. Type folder_fps={FRAME_RATE_HZ:g}.")
        if self.folder_fps == FRAME_RATE_HZ:
            object.__setattr__(self, "folder_fps", None)

    @classmethod
    def split(cls, spec: Spec) -> tuple[MediaOptions, Spec]:
        """Separate these options of a spec from those of the encoder's family."""
        own = {name: text for name, text in spec.options.items() if name not in MODALITY}
        media = {name: text for name, text in spec.options.items() if name in MODALITY}
        return Spec(spec.family, spec.model, media).read(cls), Spec(spec.family, spec.model, own)

    @property
    def chosen(self) -> dict[str, float]:
        """Options that are not at their defaults."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def apply_where_unsaid(self, encoders: Mapping[str, Encoder]) -> None:
        """Let every encoder that has an option, and does not say it itself, read its media so.

        Args:
            encoders: Embedding name -> encoder.

        Raises:
            ValueError: No encoder has the option.
        """
        for name, value in self.chosen.items():
            having = [encoder for encoder in encoders.values() if encoder.modality == MODALITY[name]]
            if not having:
                specs = " ".join(f"{each}={encoder.spec}" for each, encoder in encoders.items())
                raise ValueError(
                    f"{flag(name)} must be used with an encoder of {MODALITY[name]}, got {specs}. Leave it out."
                )
            for encoder in having:
                if name not in encoder.preprocessing:
                    MediaOptions(**{name: value}).apply(encoder)  # type: ignore[arg-type]

    def apply(self, encoder: Encoder) -> None:
        """Let an encoder read its media so. Only options off their defaults enter its preprocessing and its spec.

        Raises:
            ValueError: The encoder is of another modality.
        """
        for name, value in self.chosen.items():
            if encoder.modality != MODALITY[name]:
                raise ValueError(
                    f"{name} must be used with an encoder of {MODALITY[name]}, got {encoder.spec}. Leave it out."
                )
            setattr(encoder.prepare, name, value)
            encoder.preprocessing = {**encoder.preprocessing, name: value}
            encoder.spec = str(Spec.parse(encoder.spec).with_option(name, value))
