"""What an evaluation is asked to do: the defaults and the help of `amr evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amr.common.registry import unknown
from amr.extract.config import DEVICES, option

REFERENCES = ("people",)


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation: of which runs, against what, with how many draws.

    Raises:
        ValueError: a value that no run could make right.
    """

    run: Path = field(metadata={"help": "Folder of a run, of amr sweep or of amr table."})
    against: str | None = option(None, "people: what people saw and heard, where the cache has votes or tags of it.")
    people: str | None = option(None, "Which votes are of which modality, such as voice=audio,face=video.")
    bootstrap: int = option(1000, "Resamples of the test clips for the intervals; 0: no intervals.")
    noise_draws: int = option(5, "Draws of noise at each level.")
    seed: int = option(0, "Seed of permutations, noise, conflicts and resamples, the same for every run.")
    device: str = option("auto", "auto, cpu or cuda.")

    def __post_init__(self) -> None:
        """Check what can be checked without the run."""
        if self.against is not None and self.against not in REFERENCES:
            raise unknown("--against", self.against, REFERENCES)
        if self.people is not None and self.against is None:
            raise ValueError(
                f"--people must be with --against people, got {self.people!r} alone. Add --against people."
            )
        if self.bootstrap < 0:
            raise ValueError(
                f"--bootstrap must be 0 (no intervals) or more, got {self.bootstrap}. The default is 1000."
            )
        if self.noise_draws < 1:
            raise ValueError(f"--noise-draws must be 1 or more, got {self.noise_draws}. The default is 5.")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}. The default is 0.")
        if self.device not in DEVICES:
            raise unknown("--device", self.device, DEVICES)
