"""Everything that the page says about one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amr.common.version import versions
from amr.fusion.attribution.base import attributions
from amr.fusion.config import FitConfig
from amr.fusion.report.clips.gallery import Galleries, galleries
from amr.fusion.report.compare import compared
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.plots.marks import modality_color
from amr.fusion.report.plots.picture import Picture
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections import LEAD, ORDER, sections
from amr.fusion.report.sections.people import against_people
from amr.fusion.report.settings import Setting, settings_of
from amr.fusion.report.tables import Table, comparison_tables, headline
from amr.fusion.report.text import verdict
from amr.fusion.report.text.commands import commands
from amr.fusion.report.text.paths import shown_path, without_paths
from amr.fusion.report.text.words import summary, terms, warnings

EVALUATED = {
    "num_permutations": "permutations",
    "num_partners": "partners",
    "noise_levels": "noise levels",
    "noise_draws": "noise draws",
    "conflict_draws": "conflict draws",
    "num_bootstrap": "bootstrap samples",
    "resampled": "drawn as",
}


@dataclass(frozen=True)
class Chapter:
    """Everything that the page says about one folder."""

    id: str
    title: str
    verdict: tuple[str, ...]
    verdict_terms: Mapping[str, str]
    lead: Picture | None
    sentences: tuple[str, ...]
    terms: Mapping[str, str]
    warnings: tuple[str, ...]
    headline: Table
    pictures: tuple[Picture, ...]
    clips: Galleries | None
    people: tuple[Table, ...]
    tests: tuple[Table, ...]
    commands: tuple[str, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    decisions: Mapping[str, Any] | None = None
    colors: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_pictures(self) -> tuple[Picture, ...]:
        """The picture of the verdict, and all others."""
        return (*([] if self.lead is None else [self.lead]), *self.pictures)


def chapter_of(
    results: ResultFolder, id_: str, config: ReportConfig, settings: Sequence[Setting] | None = None
) -> Chapter:
    """Make the chapter of one folder.

    Args:
        results: Content of the folder.
        id_: Identifier of the chapter on the page.
        config: Options of the report.
        settings: Settings of the folder with the styles of the page; None for those of the folder alone.
    """
    settings = settings_of(results) if settings is None else settings
    pictures = _pictures(results, settings)
    lead = next((picture for picture in pictures if picture.name in LEAD), None)
    is_alone = len(config.dirs) == 1
    known = {str(results.cache): shown_path(results.cache), str(results.folder): shown_path(results.folder)}
    return Chapter(
        id=id_,
        title="In short" if is_alone else results.name,
        verdict=tuple(verdict.verdict(results, settings)),
        verdict_terms=verdict.terms(settings),
        lead=lead,
        sentences=tuple(summary(results, settings)),
        terms=terms(results),
        warnings=tuple(without_paths(text, known) for text in warnings(results, settings)),
        headline=headline(results, settings),
        pictures=tuple(picture for picture in pictures if picture is not lead),
        clips=galleries(results, settings, config.clips, media=not config.no_media),
        people=tuple(against_people(results, settings)),
        tests=tuple(comparison_tables(results)),
        commands=tuple(commands(results)),
        facts={name: without_paths(fact, known) for name, fact in _facts(results).items()},
        notes=tuple(without_paths(text, known) for text in results.record.notes),
        decisions=compared(results, settings, "" if is_alone else results.name),
        colors={m: modality_color(results, m) for m in results.modalities},
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
    of_cache = {
        "cache": each if in_each else shown_path(results.cache),
        "embeddings": encoders,
        "attribution": "; ".join(dict.fromkeys(_attribution(each) for each in _regularized(results) or [config])),
    }
    tapped = ", ".join(f"{m}: {info['encoder']}" for m, info in infos.items())
    own = results.record.model
    facts = {
        **(of_cache if own is None else {"model": own, "shares at": tapped}),
        "measured with" if own else "fitted with": ", ".join(
            f"{name} {number}" for name, number in results.record.versions.items()
        ),
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
    has_outputs = attribution.uses_output and config.task == "multiclass"  # of labels and numbers, there is one
    details = [f"output: {config.attribution_output}"] if has_outputs else []
    details += [f"norm: {config.attribution_pooling.upper()}"] if attribution.uses_pooling else []
    return f"{attribution.label} ({', '.join(details)})" if details else attribution.label


def _fact(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
