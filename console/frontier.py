"""`amr frontier`: what it costs to make a head use its modalities in a requested ratio."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amr.common.cluster.options import ClusterOptions
from amr.common.options import OUTPUT, quoted
from amr.common.workspace import find_cache, find_run
from amr.console.commands import cluster_options, configured, parameter, taken_cluster
from amr.console.output import say, say_notes, show, table
from amr.console.progress import stderr_progress
from amr.fusion.frontier.config import OF_GRADIENTS, VARIED, FrontierConfig

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100  # of sentences
_OVERWRITE = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what another frontier, sweep or table left in --out.", rich_help_panel=OUTPUT
    ),
]


def add_frontier(app: typer.Typer) -> None:
    """Add `amr frontier` to an app."""
    instead: dict[str, inspect.Parameter | None] = dict.fromkeys((*VARIED, *OF_GRADIENTS))
    instead |= {"overwrite": parameter("overwrite", _OVERWRITE, False), **cluster_options()}
    configured(app, "frontier", FrontierConfig, _frontier, build=_request, instead=instead)


def _request(*, overwrite: bool, **values: Any) -> tuple[FrontierConfig, bool, ClusterOptions]:
    cluster = taken_cluster(values)
    return FrontierConfig(**values), overwrite, cluster


def _frontier(request: tuple[FrontierConfig, bool, ClusterOptions], as_json: bool) -> None:
    """Find what it costs in accuracy to make a head use its modalities in a requested ratio, beside controls."""
    config, overwrite, cluster = request
    if config.runs is None:  # wrong names are refused before torch is imported
        find_cache(config.cache)
    else:
        find_run(config.runs, "--runs")
    from amr.fusion.frontier.frontier import frontier
    from amr.fusion.frontier.reading import reading

    with stderr_progress() as progress:
        result = frontier(config, progress, overwrite=overwrite, cluster=cluster)
    say_notes(result.notes, result.warnings)
    if result.diverged:
        say(f"warning: {len(result.diverged)} runs diverged and are left out, such as {result.diverged[0]}")
    show(result.to_json(), as_json, lambda: front_table(result.document))
    if not as_json:
        sentences = [textwrap.fill(each, WIDTH, break_on_hyphens=False) for each in reading(result.document)]
        show(None, False, lambda: "\n" + "\n".join(sentences))
    if result.document["best"] is not None:
        say(f"next: {result.document['best']['predict']}")
    say(f"frontier.json, .csv and .png in {result.folder}; the page: amr report {quoted(result.folder)}")


def front_table(document: Mapping[str, Any]) -> Table:
    """Table with the plain head, the settings on the front, the nearest to the target last, and the chosen head."""
    from amr.fusion.choices import score_of
    from amr.fusion.frontier.reading import shares_text

    first = document["modalities"][0]
    shown = {entry["setting"]: entry for entry in (document["settings"][0], *document["front"])}
    if document["best"] is not None:
        shown |= {
            each["setting"]: each for each in document["settings"] if each["setting"] == document["best"]["setting"]
        }
    score = score_of(document)
    columns = ["setting", score.words, "use share", "Shapley use share", "lost", "± 95 %", "per .10"]
    rows = [_row(entry, first, score.name) for entry in shown.values()]
    order = "/".join(document["modalities"])
    target = shares_text(document["target"])
    return table(f"front chosen on val, measured on test; shares {order}, target {target}", columns, rows)


def _row(entry: Mapping[str, Any], first: str, score: str) -> list[object]:
    from amr.fusion.frontier.curves import half_width
    from amr.fusion.frontier.reading import shares_text

    price = (entry["price"] or {}).get(first) or {}
    shares = [shares_text(entry[name]) for name in ("use_share", "shapley_use_share")]
    lost = [price.get(f"{score}_lost"), half_width(price.get(f"{score}_lost_interval"))]
    return [entry["setting"], entry[score], *shares, *lost, price.get("per_tenth")]
