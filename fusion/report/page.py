"""Render everything as one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from amr.common.colors import COLORS
from amr.common.files import check_ours, check_writable, write_text
from amr.common.options import printable
from amr.common.progress import Progress
from amr.common.version import versions
from amr.common.workspace import find_run
from amr.fusion.attribution.base import attributions
from amr.fusion.config import FitConfig
from amr.fusion.report.commands import commands
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.read import UNLIKE_OURS, ResultFolder, read_results, unlike_ours
from amr.fusion.report.sections import ORDER, sections
from amr.fusion.report.sections.clips import OneSided, one_sided
from amr.fusion.report.sections.people import against_people
from amr.fusion.report.sections.picture import Picture
from amr.fusion.report.settings import Setting, settings_of
from amr.fusion.report.tables import Table, comparison_tables, headline
from amr.fusion.report.words import summary, terms, warnings

EVALUATED = {
    "num_permutations": "permutations",
    "noise_levels": "noise levels",
    "noise_draws": "noise draws",
    "conflict_draws": "conflict draws",
    "num_bootstrap": "bootstrap samples",
    "resampled": "drawn as",
}
TEMPLATES = Path(__file__).parent / "templates"

MARKS = (b"amr report", b"amr fit", b"amr sweep")  # the commands are on every page, the first since 0.2


@dataclass(frozen=True)
class Chapter:
    """Everything that the page says about one folder."""

    id: str
    title: str
    sentences: tuple[str, ...]
    terms: Mapping[str, str]
    warnings: tuple[str, ...]
    headline: Table
    pictures: tuple[Picture, ...]
    clips: OneSided | None
    people: tuple[Table, ...]
    tests: tuple[Table, ...]
    commands: tuple[str, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...]


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
    for number, results in enumerate(folders, start=1):
        try:
            chapters.append(chapter_of(results, f"s{number}", config))
        except UNLIKE_OURS as error:
            raise unlike_ours(results.folder, error) from error
        progress.advance(1)
    title = config.title or (folders[0].name if len(folders) == 1 else f"{len(folders)} results")
    page = render(title, chapters)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    num_pictures = {f.name: len(chapter.pictures) for f, chapter in zip(folders, chapters, strict=True)}
    return Report(out, num_pictures, out.stat().st_size)


def chapter_of(results: ResultFolder, id_: str, config: ReportConfig) -> Chapter:
    """Make the chapter of one folder."""
    settings = settings_of(results)
    return Chapter(
        id=id_,
        title=results.name if len(config.dirs) > 1 else "In short",
        sentences=tuple(summary(results, settings)),
        terms=terms(results),
        warnings=tuple(warnings(results, settings)),
        headline=headline(results, settings),
        pictures=_pictures(results, settings),
        clips=one_sided(results, settings, config.clips, media=not config.no_media),
        people=tuple(against_people(results, settings)),
        tests=tuple(comparison_tables(results)),
        commands=tuple(commands(results)),
        facts=_facts(results),
        notes=tuple(results.record.notes),
    )


def _pictures(results: ResultFolder, settings: Sequence[Setting]) -> tuple[Picture, ...]:
    names = [*ORDER, *(name for name in sections if name not in ORDER)]
    made = (sections[name](results, settings) for name in names)
    return tuple(picture for picture in made if picture is not None)


def _facts(results: ResultFolder) -> dict[str, str]:
    infos, each = results.modality_infos, "trained in each run"
    in_each = results.training is not None and len(results.runs) > 1
    encoders = ", ".join(f"{m}: {each if in_each else i['encoder']} ({i['embed_dim']})" for m, i in infos.items())
    config = results.runs[0].config
    facts = {
        "cache": each if in_each else str(results.cache),
        "embeddings": encoders,
        "attribution": "; ".join(dict.fromkeys(_attribution(each) for each in _regularized(results) or [config])),
        "fitted with": ", ".join(f"{name} {number}" for name, number in results.record.versions.items()),
        "page made with": ", ".join(f"{name} {number}" for name, number in versions("plotly", "jinja2").items()),
    }
    if results.evaluation is not None:
        settings = results.evaluation.get("settings", {})
        facts["evaluated with"] = ", ".join(
            f"{EVALUATED.get(name, name)} {_fact(value)}" for name, value in settings.items() if value is not None
        )
    return facts


def _regularized(results: ResultFolder) -> list[FitConfig]:
    return [run.config for run in results.runs if run.regularized]


def _attribution(config: FitConfig) -> str:
    """Words for the attribution that was regularized, with the settings that it uses."""
    attribution = attributions[config.attribution]
    details = [f"output: {config.attribution_output}"] if attribution.uses_output else []
    details += [f"norm: {config.attribution_pooling.upper()}"] if attribution.uses_pooling else []
    return f"{attribution.label} ({', '.join(details)})" if details else attribution.label


def _fact(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


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
    plots = {f"{s.id}-{p.name}": list(p.plots.values()) for s in chapters for p in s.pictures}
    return environment.get_template("report.html.j2").render(
        title=title,
        sections=chapters,
        colors=COLORS,
        css=_verbatim("report.css"),
        js=_verbatim("report.js"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),  # noqa: S704 its own file
        # in a script element, only "<" could end it
        plots=Markup(json.dumps(plots, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")),  # noqa: S704
    )


def _without_controls(value: Any) -> Any:
    """Text of a name or label with control characters escaped: HTML allows none."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _verbatim(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 our own file
