"""Render everything as one self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from amr.common.colors import COLORS, SETTING_COLORS
from amr.common.files import check_ours, check_writable, write_text
from amr.common.options import printable
from amr.common.progress import Progress
from amr.common.workspace import find_run
from amr.fusion.report.chapter import Chapter, chapter_of
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.read import UNLIKE_OURS, ResultFolder, read_results, unlike_ours
from amr.fusion.report.settings import settings_of, with_styles

TEMPLATES = Path(__file__).parent / "templates"

MARKS = (b"amr report", b"amr fit", b"amr sweep")  # the commands are on every page, the first since 0.2


@dataclass(frozen=True)
class Report:
    """Result of a report.

    Args:
        out: Path of the page.
        sections: Folder to the number of its pictures.
        num_bytes: Size of the page.
    """

    out: Path
    sections: Mapping[str, int]
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Output of `amr report --json`."""
        return {"out": str(self.out), "sections": dict(self.sections), "num_bytes": self.num_bytes}


def report(config: ReportConfig, progress: Progress | None = None) -> Report:
    """Read the folders and write the page.

    Args:
        config: Options of the report.
        progress: Listener.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: A folder holds neither a fit nor a sweep.
    """
    out = Path(config.out)
    check_ours(out, MARKS, "--out")
    check_writable(out.parent, "--out", "Pass --out with a page in another folder, such as ~/report.html.")
    folders = [read_results(find_run(name, "DIR")) for name in dict.fromkeys(config.dirs)]
    progress = progress or Progress()
    progress.start(len(folders), unit="folders")
    chapters = []
    for chapter in _chapters(folders, config):
        chapters.append(chapter)
        progress.advance(1)
    title = config.title or (folders[0].name if len(folders) == 1 else f"{len(folders)} results")
    page = render(title, chapters)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    num_pictures = {f.name: len(chapter.all_pictures) for f, chapter in zip(folders, chapters, strict=True)}
    return Report(out, num_pictures, out.stat().st_size)


def _chapters(folders: Sequence[ResultFolder], config: ReportConfig) -> Iterator[Chapter]:
    """Make the chapters, with one color for a modality and for a setting on the whole page."""
    of_page = tuple(dict.fromkeys(m for results in folders for m in results.modalities))
    current = folders[0].folder
    try:
        found = []
        for results in folders:
            current = results.folder
            found.append(settings_of(results))
        for number, (results, settings) in enumerate(zip(folders, with_styles(found), strict=True), start=1):
            current = results.folder
            yield chapter_of(replace(results, of_page=of_page), f"s{number}", config, settings)
    except UNLIKE_OURS as error:
        raise unlike_ours(current, error) from error


def render(title: str, chapters: Sequence[Chapter]) -> str:
    """Render the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_without_controls,
    )
    environment.filters |= {"breakable": _breakable, "probability": _probability}
    plots = {f"{s.id}-{p.name}": list(p.plots.values()) for s in chapters for p in s.all_pictures}
    decisions = [chapter.decisions for chapter in chapters if chapter.decisions is not None]
    num_runs = sum(len(each["runs"]) for each in decisions)
    return environment.get_template("report.html.j2").render(
        title=title,
        sections=chapters,
        colors=COLORS,
        setting_colors=SETTING_COLORS,
        can_compare=num_runs > 1,
        css=_verbatim("report.css"),
        js=_verbatim("report.js"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),  # noqa: S704 its own file
        plots=_json(plots),
        decisions=_json(decisions if num_runs > 1 else []),
    )


def _json(content: Any) -> Markup:
    """Content of a script element with JSON, which only "<" could end."""
    return Markup(json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704


def _without_controls(value: Any) -> Any:
    """Text of a name or label with control characters escaped: HTML allows none."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _breakable(text: str) -> Markup:
    """Name that a narrow column may break after a colon, a slash or an underscore."""
    return Markup(re.sub("([:/_])", r"\1<wbr>", str(escape(_without_controls(text)))))  # noqa: S704 escaped


def _probability(value: float) -> str:
    """Probability with three digits.

    >>> _probability(0.25), _probability(0.0001)
    ('0.250', '< 0.001')
    """
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _verbatim(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 our own file
