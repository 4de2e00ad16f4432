"""Everything read and made, rendered as one page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from amr.common.colors import COLORS
from amr.common.files import write_text
from amr.common.progress import Progress
from amr.common.version import versions
from amr.fusion.report.commands import commands
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.read import ResultFolder, read_results
from amr.fusion.report.sections.balance import dominance, share_against_use
from amr.fusion.report.sections.clips import OneSided, one_sided
from amr.fusion.report.sections.curves import missing, noise, training
from amr.fusion.report.sections.decisions import confusion, per_class
from amr.fusion.report.sections.figure import Figure
from amr.fusion.report.sections.people import followed, people_table
from amr.fusion.report.settings import Setting, settings_of
from amr.fusion.report.tables import Table, comparison_tables, headline
from amr.fusion.report.words import summary

TEMPLATES = Path(__file__).parent / "templates"
# in an order that answers: what does it rely on, and did balance help?
FIGURES: tuple[Callable[[ResultFolder, Sequence[Setting]], Figure | None], ...] = (
    dominance,
    share_against_use,
    missing,
    noise,
    per_class,
    confusion,
    training,
    followed,
)


@dataclass(frozen=True)
class Section:
    """All that the page says of one folder."""

    id: str
    title: str
    sentences: tuple[str, ...]
    headline: Table
    figures: tuple[Figure, ...]
    clips: OneSided | None
    people: Table | None
    tests: tuple[Table, ...]
    commands: tuple[str, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What was written.

    Args:
        out: the page.
        sections: folder to the number of its pictures.
        num_bytes: of the page.
    """

    out: Path
    sections: Mapping[str, int]
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The document of `amr report --json`."""
        return {"out": str(self.out), "sections": dict(self.sections), "num_bytes": self.num_bytes}


def report(config: ReportConfig, progress: Progress | None = None) -> Report:
    """Read the folders and write the page.

    Args:
        config: which folders, and where to.
        progress: Listener.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: a folder holds no fit and no sweep.
    """
    sources = [read_results(Path(name)) for name in dict.fromkeys(config.dirs)]
    progress = progress or Progress()
    progress.start(len(sources), unit="folders")
    sections = []
    for number, results in enumerate(sources, start=1):
        sections.append(section_of(results, f"s{number}", config))
        progress.advance(1)
    title = config.title or (sources[0].name if len(sources) == 1 else f"{len(sources)} results")
    page = render(title, sections)
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return Report(out, {s.name: len(of.figures) for s, of in zip(sources, sections, strict=True)}, out.stat().st_size)


def section_of(results: ResultFolder, id_: str, config: ReportConfig) -> Section:
    """What the page says of a folder."""
    settings = settings_of(results)
    return Section(
        id=id_,
        title=results.name if len(config.dirs) > 1 else "In short",
        sentences=tuple(summary(results, settings)),
        headline=headline(results, settings),
        figures=tuple(figure for make in FIGURES if (figure := make(results, settings)) is not None),
        clips=one_sided(results, settings, config.clips, media=not config.no_media),
        people=people_table(settings),
        tests=tuple(comparison_tables(results)),
        commands=tuple(commands(results)),
        facts=_facts(results),
        notes=tuple(results.record.notes),
    )


def _facts(results: ResultFolder) -> dict[str, str]:
    encoders = ", ".join(f"{m}: {info['encoder']} ({info['embed_dim']})" for m, info in results.modality_infos.items())
    config = results.runs[0].config
    facts = {
        "cache": str(results.cache),
        "embeddings": encoders,
        "attribution": ", ".join(getattr(config, f"attribution{of}") for of in ("", "_output", "_pooling")),
        "fitted with": ", ".join(f"{name} {number}" for name, number in results.record.versions.items()),
        "page made with": ", ".join(f"{name} {number}" for name, number in versions("plotly", "jinja2").items()),
    }
    if results.evaluation is not None:
        settings = results.evaluation.get("settings", {})
        facts["evaluated with"] = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items() if v is not None)
    return facts


def render(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    plots = {f"{s.id}-{f.name}": list(f.plots.values()) for s in sections for f in s.figures}
    return environment.get_template("report.html.j2").render(
        title=title,
        sections=sections,
        colours=COLORS,
        css=_verbatim("report.css"),
        js=_verbatim("report.js"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        # in a script element, only "<" could end it
        plots=Markup(json.dumps(plots, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")),
    )


def _verbatim(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
