"""What a report is asked to show: the defaults and the help of `amr report` are this one dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amr.common.options import check_options, option


@dataclass(frozen=True)
class ReportConfig:
    """One page about folders of runs and sweeps.

    Raises:
        ValueError: a value that no folder could make right.
    """

    dirs: tuple[str, ...] = option((), "Folders of amr fit, amr sweep or amr table; a section each.")
    out: str = option("report.html", "Page to write.")
    title: str | None = option(None, "Heading of the page; named after the folders by default.")
    clips: int = option(8, "Number of clips with one-sided decisions to show in each section; 0: none.", least=0)
    no_media: bool = option(False, "Leave out frames and spectrograms of those clips.")

    def __post_init__(self) -> None:
        """Check what can be checked without the folders."""
        check_options(self)
        if not self.dirs:
            raise ValueError("DIR must be at least one folder, got none. Name a folder of amr fit or amr sweep.")
        if Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out must end in .html, got {self.out!r}. Pass --out report.html.")
