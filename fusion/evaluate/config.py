"""Options of `amr evaluate`: defaults, help and checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amr.common.options import DEVICES, check_options, option

REFERENCES = ("people",)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of one evaluation.

    Raises:
        ValueError: An option is invalid for every run.
    """

    run: Path = field(metadata={"help": "Folder of a run, of amr sweep or of amr table."})
    against: str | None = option(
        None, "Reference to compare with; people: votes or tags of people, if the cache has them.", choices=REFERENCES
    )
    people: str | None = option(None, "Channels of votes and their modalities, such as voice=audio,face=video.")
    bootstrap: int = option(1000, "Number of bootstrap samples of the test clips; 0: no intervals.", least=0)
    noise_draws: int = option(5, "Number of noise draws per level.", least=1)
    seed: int = option(0, "Seed of permutations, noise, conflicts and resamples, the same for every run.", least=0)
    device: str = option("auto", "Device: auto, cpu or cuda.", choices=DEVICES)

    def __post_init__(self) -> None:
        """Check what can be checked without the run."""
        check_options(self)
        if self.people is not None and self.against is None:
            raise ValueError(
                f"--people must be used with --against people, got {self.people!r} without it. Add --against people."
            )
