"""Methods without and with AMR, side by side: what it does to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from amr.fusion.report.plots.marks import MUTED, kind_marker, label
from amr.fusion.report.plots.picture import Picture, fraction_axis, plot, rows_height, tick, whiskers
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, counterpart, over_seeds
from amr.fusion.report.tables import BOUNDS, fraction, make_table
from amr.fusion.runs.statistics import FRACTION

HALVES = ("without AMR", "with AMR")
Row = tuple[str, Setting | None, Setting | None]  # name, without AMR, with AMR


@sections.register("methods")
def methods(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """One row per method: a point without AMR, one with it, and a line between them; None of fewer than two methods."""
    rows = _paired(settings)
    if sum(one is not None and two is not None for _, one, two in rows) < 2:
        return None
    modalities = results.modalities[:1] if len(results.modalities) == 2 else results.modalities
    score = results.score
    measures = {words: name for name, words in score.main.items()}
    measures |= {f"use share of {m}": f"use_share.{m}" for m in modalities}
    measures |= {f"share of {m}": f"share.{m}" for m in modalities}
    single = [setting for _, setting, _ in rows if setting is not None and len(setting.modalities) == 1]
    known = [setting for row in rows for setting in row[1:] if setting is not None]
    measures = {words: name for words, name in measures.items() if any(s.mean(name) is not None for s in known)}
    balance = {words: 1 / len(results.modalities) for words, name in measures.items() if "." in name}
    data = [
        [name, half, *(_value(s, measure) for measure in measures.values())]
        for name, *pair in rows
        for half, s in zip(HALVES, pair, strict=True)
        if s is not None
    ]
    listed = [
        f"{name} {' to '.join(fraction(s.mean(score.name)) for s in pair if s is not None)}" for name, *pair in rows
    ]
    drawn = [row for row in rows if row[1] not in single]  # a weak one would squeeze the points together
    listed_single = ", ".join(f"{setting.label} {fraction(setting.mean(score.name))}" for setting in single)
    outside = f" {score.title} of {listed_single}." if single else ""
    ratios = ", ".join(dict.fromkeys(s.ratio for s in known if s.regularized))
    return Picture(
        "methods",
        "Methods without and with AMR",
        f"One row per method{over_seeds(known)}{_intervals(known, measures)}: hollow without AMR, filled with "
        f"{ratios}. A method with a single point takes no ratio. Use share: part of the use "
        f"({score.lost} if the modality is permuted between test clips); share: part of the decision. Dashed in these: "
        f"balance, 1/{len(results.modalities)}.{_tests(results)}{outside}",
        f"Pairs of points. {score.title} without and with AMR: {'; '.join(listed)}.",
        {words: _dumbbells(drawn, words, name, balance.get(words)) for words, name in measures.items()},
        make_table("methods-data", "Each method without and with AMR.", ["method", "AMR", *measures], data),
        "Measure",
    )


def _value(setting: Setting, name: str) -> float | None:
    """Mean of a measure; a single modality has no share."""
    return None if "." in name and len(setting.modalities) == 1 else setting.mean(name)


def _intervals(settings: Sequence[Setting], measures: Mapping[str, str]) -> str:
    """Words for the intervals of a picture; empty if it has none."""
    drawn = {len(s.runs) > 1 for s in settings for name in measures.values() if s.half_width(name) is not None}
    if not drawn:
        return ""
    return " with 95 % intervals" if True in drawn else " with 95 % intervals over bootstrapped clips"


def _tests(results: ResultFolder) -> str:
    """Sentence on the tests of the page; empty if it has none."""
    tests = [*results.comparisons] or results.table_tests
    made = any(test.get("p") is not None for test in tests)
    return f" The {'paired tests' if made else 'changes'} are under Statistics." if tests else ""


def _paired(settings: Sequence[Setting]) -> list[Row]:
    """Settings without AMR, each with the only one with it; settings without a counterpart stand alone."""
    partners: dict[int, list[Setting]] = {}
    for setting in settings:
        plain = counterpart(setting, settings)
        if plain is not None:
            partners.setdefault(id(plain), []).append(setting)
    if any(len(each) > 1 for each in partners.values()):  # ratios or weights: not a table of methods
        return []
    rows: list[Row] = []
    for setting in settings:
        if not setting.regularized:
            partner = partners.get(id(setting), [None])[0]
            rows.append((_name(setting), setting, partner))
    return rows


def _name(setting: Setting) -> str:
    texts = setting.texts
    if len(setting.modalities) == 1:
        return setting.label
    return setting.label.removesuffix(" · no AMR").removesuffix("no AMR") or texts["method"]


def _dumbbells(rows: Sequence[Row], words: str, name: str, balance: float | None) -> Mapping[str, object]:
    figure = go.Figure()
    values = {id(s): s.mean(name) for row in rows for s in row[1:] if s is not None}
    rows = [row for row in rows if any(s is not None and values[id(s)] is not None for s in row[1:])]
    ticks = [tick(row[0]) for row in rows]
    for text, (_, one, two) in zip(ticks, rows, strict=True):
        if one is not None and two is not None:
            hidden = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(
                x=[values[id(one)], values[id(two)]], y=[text, text], line={"color": MUTED, "width": 2}, **hidden
            )
    of_halves = [one for _, one, _ in rows], [two for _, _, two in rows]
    for index, (half, of_half) in enumerate(zip(HALVES, of_halves, strict=True)):
        means = [None if s is None else values[id(s)] for s in of_half]
        half_widths, marker = [None if s is None else s.half_width(name) for s in of_half], kind_marker(index)
        figure.add_scatter(
            x=means,
            y=ticks,
            error_x=whiskers(half_widths, marker["color"], means=means, bounds=BOUNDS.get(name, FRACTION)),
            mode="markers",
            name=half,
            marker=marker,
            hovertemplate=f"%{{y}}, {half}<br>{label(words)} %{{x:.3f}}<extra></extra>",
        )
    if balance is not None:
        figure.add_vline(x=balance, line={"color": MUTED, "dash": "dash", "width": 1})
    figure.update_xaxes(**fraction_axis(label(words)))
    figure.update_yaxes(autorange="reversed", type="category")
    return plot(figure, rows_height(ticks))
