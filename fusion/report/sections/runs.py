"""All runs: their settings and results, as a table with filters and as parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from amr.fusion.attribution.base import attributions
from amr.fusion.report.plots.marks import MUTED, label, setting_color, setting_marker
from amr.fusion.report.plots.picture import Picture, plot, tick
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting
from amr.fusion.report.tables import Cell, fraction, make_table
from amr.fusion.runs.read import SETTINGS, Run

AXIS_PIXELS = 46
MAX_DRAWN = 400  # lines that a browser draws at once
WORDS = {
    "amr_ratio": "AMR ratio",
    "amr_weight": "AMR weight",
    "amr_level": "AMR level",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "embedding_noise": "embedding noise",
    "method_option": "method options",
    "head_option": "head options",
    "batch_size": "batch size",
}
ALSO = ("adapter", "hidden", "experts", "epochs", "batch_size", "optimizer", "normalize")  # that SETTINGS lacks


@sections.register("runs")
def runs(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """One line per run through its settings and results; None of fewer than two runs."""
    members = [(setting, run) for setting in settings for run in setting.runs]
    if len(members) < 2:
        return None
    options = {name: [_option(setting, run, name) for setting, run in members] for name in (*SETTINGS, *ALSO)}
    options["seed"] = [str(run.seed) for _, run in members]
    varied = {name: texts for name, texts in options.items() if len(_set(name, texts)) > 1}
    measured = {words: [_measure(run, words, results) for _, run in members] for words in _measures(results)}
    measured = {words: values for words, values in measured.items() if any(v is not None for v in values)}
    columns = [*(WORDS.get(name, name) for name in options), *measured]
    rows: list[list[object]] = []
    for i, (setting, run) in enumerate(members):
        cells = [_text_cell(texts[i]) for texts in options.values()]
        rows.append([Cell(run.name, run.name), setting.label, *cells, *(values[i] for values in measured.values())])
    scores = [value for value in measured[results.score.words] if value is not None]
    few = f" The picture has the {MAX_DRAWN} best on val of {len(members)} runs." if len(members) > MAX_DRAWN else ""
    return Picture(
        "runs",
        "All runs",
        "One line per run, in the color of its setting, through what differs between runs and through its results. "
        "Each axis goes from its lowest value, on the left, to its highest; texts are in the order of the runs. Filter "
        f"by the values of an option or by words: lines and rows follow.{few}",
        f"Parallel coordinates of {len(members)} runs over {', '.join(WORDS.get(n, n) for n in varied)} and results. "
        f"{results.score.title} goes from {fraction(min(scores))} to {fraction(max(scores))}.",
        {"": _coordinates(members, varied, measured)},
        make_table("runs-data", "Settings and results of every run.", ["run", "setting", *columns], rows),
        filters=("setting", *(WORDS.get(name, name) for name in varied)),
    )


def _set(name: str, texts: Sequence[str]) -> set[str]:
    """Values of an option; without noise is one, too."""
    return {*texts} - ({"-"} if name != "embedding_noise" else set())


def _option(setting: Setting, run: Run, name: str) -> str:
    if name not in SETTINGS:
        return str(getattr(run.config, name, None) or "-")
    text = setting.texts[name]
    return attributions[text].label if name == "attribution" and text in attributions else text


def _text_cell(text: str) -> Cell:
    """Cell of an option, aligned and sorted as a number if it is one."""
    try:
        value = float(text)
    except ValueError:
        return Cell(text, text)
    return Cell(text, value, True) if math.isfinite(value) else Cell(text, text)


def _measures(results: ResultFolder) -> list[str]:
    modalities = results.modalities[:1] if len(results.modalities) == 2 else results.modalities
    score = results.score
    return [
        f"val {score.words}",
        *score.main.values(),
        *(f"use share of {m}" for m in modalities),
        *(f"share of {m}" for m in modalities),
    ]


def _measure(run: Run, words: str, results: ResultFolder) -> float | None:
    if words.startswith("val "):
        return run.val_measures.get(results.score.name)
    names = {text: name for name, text in results.score.main.items()}
    if words in names:
        return run.measures.get(names[words])
    kind, _, modality = words.partition(" of ")
    return run.measures.get(f"{kind.replace(' ', '_')}.{modality}") if len(run.modalities) > 1 else None


def _coordinates(
    members: Sequence[tuple[Setting, Run]], varied: Mapping[str, Sequence[str]], measured: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """One row per axis, lowest value on the left: names and values have room on a phone, too."""
    columns: dict[str, Sequence[Any]] = {WORDS.get(name, name): texts for name, texts in varied.items()}
    columns |= measured
    axes = {name: _scaled(values) for name, values in columns.items()}
    val = [run.val_gain for _, run in members]
    drawn = sorted(sorted(range(len(members)), key=lambda i: -val[i])[:MAX_DRAWN])
    figure, named = go.Figure(), set[str]()
    for y in range(len(axes)):
        figure.add_hline(y=y, line={"color": MUTED, "width": 1}, layer="below")
    for i in drawn:
        setting, run = members[i]
        values = [columns[name][i] for name in axes]
        texts = [fraction(v) if isinstance(v, float) else "-" if v is None else label(str(v)) for v in values]
        figure.add_scatter(
            x=[axis.places[i] for axis in axes.values()],
            y=list(range(len(axes))),
            mode="lines+markers",
            name=label(setting.label),
            showlegend=setting.label not in named,
            line={"color": setting_color(setting), "width": 1.25},
            marker=setting_marker(setting, 6),
            opacity=0.75,
            customdata=[f"{label(name)}: {text}" for name, text in zip(axes, texts, strict=True)],
            hovertemplate=f"{label(run.name)}<br>{label(setting.label)}<br>%{{customdata}}<extra></extra>",
        )
        named.add(setting.label)
    figure.update_yaxes(
        tickvals=list(range(len(axes))),
        ticktext=[f"{tick(name)}<br>{label(axis.ends)}" for name, axis in axes.items()],
        range=[len(axes) - 0.4, -0.4],
        showgrid=False,
    )
    figure.update_xaxes(visible=False, range=[-0.04, 1.04])
    found = plot(figure, 30 + AXIS_PIXELS * len(axes))
    found["layout"]["meta"] = {"rows": [members[i][1].name for i in drawn]}
    return found


@dataclass(frozen=True)
class _Axis:
    """Places of the runs on an axis, 0 to 1 (None without a value), and words for its ends."""

    places: Sequence[float | None]
    ends: str


def _scaled(values: Sequence[Any]) -> _Axis:
    """Numbers by size; else texts in the order of the runs."""
    try:
        numbers = [None if value is None or value == "-" else float(value) for value in values]
    except ValueError:
        order = list(dict.fromkeys(str(value) for value in values if value != "-"))
        places = {text: i / max(1, len(order) - 1) for i, text in enumerate(order)}
        return _Axis([places.get(str(value)) for value in values], f"{order[0]} to {order[-1]}")
    known = [number for number in numbers if number is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    is_measure = any(isinstance(value, float) for value in values)
    texts = [f"{end:.3f}" if is_measure else f"{end:g}" for end in (low, high)]
    span = high - low or 1.0
    return _Axis([None if n is None else (n - low) / span for n in numbers], " to ".join(texts))
