"""What an evaluation is asked to do: defaults and help of `amr evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amr.common.options import DEVICES, check_options, option

REFERENCES = ("people",)


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation: of which runs, against what, with how many draws.

    Raises:
        ValueError: A value that no run could make right.
    """

    run: Path = field(metadata={"help": "Folder of a run, of amr sweep or of amr table."})
    against: str | None = option(
        None, "people: compare with what people saw and heard, if the cache has votes or tags.", choices=REFERENCES
    )
    people: str | None = option(None, "Channels of votes and their modalities, such as voice=audio,face=video.")
    bootstrap: int = option(1000, "Number of resamples of the test clips for intervals; 0: no intervals.", least=0)
    noise_draws: int = option(5, "Number of draws of noise at each level.", least=1)
    seed: int = option(0, "Seed of permutations, noise, conflicts and resamples, the same for every run.", least=0)
    device: str = option("auto", "Device: auto, cpu or cuda.", choices=DEVICES)

    def __post_init__(self) -> None:
        """Check what can be checked without the run."""
        check_options(self)
        if self.people is not None and self.against is None:
            raise ValueError(
                f"--people must be with --against people, got {self.people!r} alone. Add --against people."
            )
