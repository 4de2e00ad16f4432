"""Options of `amr report`: defaults, help and checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amr.common.options import check_options, coerce_fields, option


@dataclass(frozen=True)
class ReportConfig:
    """One page about folders of runs and sweeps.

    Raises:
        ValueError: An option is invalid for all folders.
    """

    dirs: tuple[str, ...] = option(
        (), "Folders of amr fit, amr sweep or amr table, or their names in runs/; one section each."
    )
    out: str = option("report.html", "Page to write.")
    title: str | None = option(None, "Heading of the page; by default the folder's name.")
    clips: int = option(
        8, "Number of one-sided decisions, and of costly errors, to show per section; 0: none.", least=0
    )
    no_media: bool = option(False, "Leave out frames and sound of those clips.")

    def __post_init__(self) -> None:
        """Check what can be checked without the folders."""
        coerce_fields(self)
        check_options(self)
        if not self.dirs:
            raise ValueError("DIR must be at least one folder, got none. Name a folder of amr fit or amr sweep.")
        if Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out must end in .html, got {self.out!r}. Pass --out report.html.")
