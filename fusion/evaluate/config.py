"""Options of `amr evaluate`: defaults, help and checks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from amr.common.files import check_unlinked, check_writable, has_checksum
from amr.common.options import DEVICES, check_options, coerce_fields, option
from amr.common.workspace import holds_runs, place, run_name, runs_dir

FORMAT = "amr-evaluation"
FILES = ("evaluation.json", "evaluation.csv", "evaluation.npz")
REFERENCES = ("people",)
LEAST_BOOTSTRAP = 20  # fewer samples have no tails to take percentiles of


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of one evaluation.

    Raises:
        ValueError: An option is invalid for every run.
    """

    run: Path = field(
        metadata={"help": "Folder of a run, sweep, table or training, or its name in runs/ or encoders/."}
    )
    cache: str | None = option(
        None,
        "Other cache with the same embeddings and classes to measure on, instead of the test clips of the fit; results "
        "go to runs/RUN_on_CACHE.",
        since="0.2",
    )
    against: str | None = option(
        None, "Reference to compare with; people: votes or tags of people, if the cache has them.", choices=REFERENCES
    )
    unimodal: str | None = option(
        None,
        "Unimodal training of the same encoders, or its name in encoders/, to compare a joint training with; by "
        "default the unimodal runs of its sweep, or its teachers.",
        since="0.2",
    )
    people: str | None = option(None, "Channels of votes and their modalities, such as voice=audio,face=video.")
    bootstrap: int = option(
        1000, "Number of bootstrap samples of the test clips, 20 or more; 0: no intervals.", least=0
    )
    noise_draws: int = option(5, "Number of noise draws per level.", least=1)
    seed: int = option(0, "Seed of permutations, noise, conflicts and resamples, the same for every run.", least=0)
    device: str = option("auto", "Device: auto, cpu or cuda.", choices=DEVICES)
    out: str | None = option(
        None, "Folder to write to, or its name in runs/; by default the run's folder, where amr report looks."
    )

    def __post_init__(self) -> None:
        """Check what can be checked without the run."""
        coerce_fields(self)
        check_options(self)
        if 0 < self.bootstrap < LEAST_BOOTSTRAP:
            raise ValueError(
                f"--bootstrap must be {LEAST_BOOTSTRAP} or more, or 0 for no intervals, got {self.bootstrap}. "
                f"The default is {EvaluateConfig.bootstrap}."
            )
        if self.people is not None and self.against is None:
            raise ValueError(
                f"--people must be used with --against people, got {self.people!r} without it. Add --against people."
            )
        for name in ("against", "unimodal"):
            value = getattr(self, name)
            if self.cache is not None and value is not None:
                raise ValueError(f"--{name} must be left out with --cache, got {value!r}. Leave out one of them.")

    def folder(self, run: Path) -> Path:
        """Folder for the results.

        Args:
            run: Folder of the run, sweep or table.
        """
        if self.out is not None:
            return place(self.out, runs_dir())
        if self.cache is None:
            return run
        names = [run_name(run).replace("/", "_"), "on", Path(self.cache).stem]
        sweep = run.resolve().parent.parent
        return runs_dir() / "_".join([sweep.name, *names] if (sweep / "sweep.json").is_file() else names)

    def check_writable(self, run: Path) -> None:
        """Raise ValueError if the results cannot be written, or would be taken for those of another run or program.

        Args:
            run: Folder of the run, sweep or table.
        """
        what, advice = "RUN" if self.out is None else "--out", "Pass --out with another folder."
        folder = self.folder(run)
        check_writable(folder, what, advice)
        if self.out is None:  # the folder of --out may hold anything else, and links in it are not written through
            check_unlinked(folder, what)
        if holds_runs(folder) and folder.resolve() != run.resolve():
            raise ValueError(f"{what} must not be another run or sweep, got {str(folder)!r}. {advice}")
        found = [name for name in FILES if (folder / name).exists()]
        if found and not _is_evaluation(folder / FILES[0]):
            raise ValueError(f"{what} must not hold an {found[0]} of another program, got {str(folder)!r}. {advice}")


def _is_evaluation(file: Path) -> bool:
    """Whether amr evaluate wrote a file, perhaps one that was damaged since then."""
    if has_checksum(file):
        return True
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, TypeError, KeyError):
        return False
