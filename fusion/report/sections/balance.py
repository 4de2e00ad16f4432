"""Accuracy against share, and share against use share and Shapley use share."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from amr.common.colors import COLORS
from amr.fusion.frontier.front import pareto
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.picture import (
    INK,
    MUTED,
    ROW_PIXELS,
    Picture,
    color,
    fraction_axis,
    label,
    plot,
    sections,
    symbol,
    whiskers,
    wide_enough,
)
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import DASH, fraction, make_table

MAX_ROWS = 14
MAX_NAMED = 10  # points of a line whose names do not cover each other
HOVER = "%{customdata}<br>share %{x:.3f}<br>accuracy %{y:.3f}<extra></extra>"
_INTERVALS = "whiskers are 95 % intervals, "
KINDS = {"share": "share", "use share": "use_share", "Shapley use share": "shapley_use_share"}


@sections.register("share")
def accuracy_against_share(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy over the share of the first of two modalities; with more modalities, over the largest share."""
    placed = [
        (setting, x, y)
        for setting in settings
        if (x := _share_of(setting, results)) is not None and (y := _accuracy_of(setting)) is not None
    ]
    if len(placed) < 2:  # a single point shows no more than the table
        return None
    first, two = results.modalities[0], len(results.modalities) == 2
    front = pareto([(abs(x - 0.5) if two else x, y) for _, x, y in placed])
    figure = go.Figure()
    lines: dict[tuple[str, ...], list[int]] = {}
    for i, (setting, _, _) in enumerate(placed):
        lines.setdefault(tuple(setting.texts[k] for k in ("method", "head", "modalities", "lr")), []).append(i)
    few = len(lines) <= len(COLORS)
    if few:
        for index, (texts, members) in enumerate(lines.items()):
            name = ", ".join(texts[:2]) if len(lines) > 1 else "joint heads"
            _line(figure, [placed[i] for i in members], index, name)
    else:
        _cloud(figure, placed)
    _front(figure, [placed[i][1:] for i in front])
    without_share = [
        (setting, y)
        for setting in settings
        if _share_of(setting, results) is None and (y := _accuracy_of(setting)) is not None
    ]
    xs = [x for _, x, _ in placed]
    x_range, y_range = wide_enough(xs, 0.5), wide_enough([y for _, _, y in placed])
    _levels(figure, without_share, x_range, y_range)
    outside = [f"{setting.label} {fraction(y)}" for setting, y in without_share if not y_range[0] <= y <= y_range[1]]
    if two:
        figure.add_vline(x=0.5, line={"color": MUTED, "dash": "dash", "width": 1})
    share = f"share of {first}" if two else "largest share of a modality"
    figure.update_xaxes(**fraction_axis(share, range=x_range))
    figure.update_yaxes(**fraction_axis("accuracy", range=y_range))
    rows = [
        [g.label, x, y, g.half_width("accuracy"), g.mean("map"), "yes" if i in front else "no"]
        for i, (g, x, y) in enumerate(placed)
    ]
    whiskered = few and any(half is not None for *_, half, _, _ in rows)
    rows += [[g.label, None, y, g.half_width("accuracy"), g.mean("map"), DASH] for g, y in without_share]
    columns = ["setting", share, "accuracy", "± (95 %)", "mAP", "on the front"]
    names = ", ".join(placed[i][0].label for i in front)
    return Picture(
        "share",
        "Accuracy against share",
        f"One point per setting, the mean over seeds; {_INTERVALS * whiskered}hollow points are without AMR. Ringed "
        "points are on the Pareto front: no other setting is both more accurate and closer to "
        f"balance{' (the dashed vertical line)' if two else ''}."
        + (f" Outside the picture: {', '.join(outside)}." if outside else ""),
        f"Scatter of accuracy over the {share}, {len(placed)} settings. Shares go from {fraction(min(xs))} to "
        f"{fraction(max(xs))}, accuracy from {fraction(min(y for _, _, y in placed))} to "
        f"{fraction(max(y for _, _, y in placed))}. On the Pareto front: {names}.",
        {"": plot(figure, 440)},
        make_table("share-data", "Accuracy and share of each setting.", columns, rows),
    )


def _front(figure: go.Figure, points: Sequence[tuple[float, float]]) -> None:
    """Add rings around the points on the Pareto front, and a line between them."""
    on_front = sorted(points)
    figure.add_scatter(
        x=[x for x, _ in on_front],
        y=[y for _, y in on_front],
        mode="lines+markers",
        name="Pareto front",
        line={"color": INK, "dash": "dot", "width": 1.5},
        marker={"color": INK, "symbol": "circle-open", "size": 17, "line": {"width": 1.5}},
        hoverinfo="skip",
    )


def _levels(
    figure: go.Figure,
    without_share: Sequence[tuple[Setting, float]],
    x_range: Sequence[float],
    y_range: Sequence[float],
) -> None:
    """Add settings without a share as horizontal lines, if they are inside the picture."""
    dashes = iter(("dash", "dashdot", "longdash", "longdashdot") * len(without_share))
    for setting, y in without_share:
        if y_range[0] <= y <= y_range[1]:  # a weak one would squeeze the points together
            figure.add_scatter(
                x=x_range,
                y=[y, y],
                mode="lines",
                name=f"{setting.label} {fraction(y)}",
                line={"color": MUTED, "dash": next(dashes), "width": 1.5},
                hoverinfo="skip",
            )


def _line(figure: go.Figure, points: Sequence[tuple[Setting, float, float]], index: int, name: str) -> None:
    points = sorted(points, key=lambda point: point[1])
    regularized = [point for point in points if point[0].regularized]
    if len(regularized) > 1 and len({setting.texts["amr_weight"] for setting, _, _ in regularized}) == 1:
        figure.add_scatter(
            x=[x for _, x, _ in regularized],
            y=[y for _, _, y in regularized],
            mode="lines",
            line={"color": color(index), "width": 1.5},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[x for _, x, _ in points],
        y=[y for _, _, y in points],
        error_y=whiskers([setting.half_width("accuracy") for setting, _, _ in points]),
        mode="markers",
        name=name,
        marker={
            "color": color(index),
            "size": 9,
            "symbol": [symbol(index) + ("" if setting.regularized else "-open") for setting, _, _ in points],
            "line": {"width": 2, "color": color(index)},
        },
        customdata=[setting.label for setting, _, _ in points],
        hovertemplate=HOVER,
    )
    for setting, x, y in regularized if len(regularized) <= MAX_NAMED else ():
        _name_point(figure, setting.ratio.removeprefix("AMR "), x, y)


def _name_point(figure: go.Figure, name: str, x: float, y: float) -> None:
    """Write a name above a point, slanting so that the names of neighbors do not touch."""
    style = {"showarrow": False, "textangle": -75, "xanchor": "left", "yanchor": "bottom", "yshift": 8}
    figure.add_annotation(x=x, y=y, text=label(name), font={"size": 11, "color": MUTED}, **style)


def _cloud(figure: go.Figure, points: Sequence[tuple[Setting, float, float]]) -> None:
    """Add points if lines are more than colors: one color per head or method, whichever are fewer; names on hover."""
    by = min(("head", "method"), key=lambda name: len({setting.texts[name] for setting, _, _ in points}))
    for index, value in enumerate(dict.fromkeys(setting.texts[by] for setting, _, _ in points)):
        members = [point for point in points if point[0].texts[by] == value]
        figure.add_scatter(
            x=[x for _, x, _ in members],
            y=[y for _, _, y in members],
            mode="markers",
            name=f"{by} {value}",
            marker={
                "color": color(index),
                "size": 9,
                "symbol": [symbol(index) + ("" if setting.regularized else "-open") for setting, _, _ in members],
                "line": {"width": 2, "color": color(index)},
            },
            customdata=[setting.label for setting, _, _ in members],
            hovertemplate=HOVER,
        )


def _share_of(setting: Setting, results: ResultFolder) -> float | None:
    if not setting.fuses:
        return None
    shares = [value for value in setting.by_modality("share").values() if value is not None]
    if not shares:
        return None
    return setting.mean(f"share.{results.modalities[0]}") if len(results.modalities) == 2 else max(shares)


def _accuracy_of(setting: Setting) -> float | None:
    return setting.mean("accuracy")


@sections.register("use")
def share_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """For each setting, a modality's share, use share and Shapley use share."""
    joint = [setting for setting in settings if setting.fuses and setting.has("share")]
    joint = joint if len(joint) <= MAX_ROWS else shown(joint, MAX_ROWS)
    modalities = results.modalities[:1] if len(results.modalities) == 2 else results.modalities
    values = {m: {kind: [g.mean(f"{name}.{m}") for g in joint] for kind, name in KINDS.items()} for m in modalities}
    labels = [setting.label for setting in joint]
    first = modalities[0]
    if not any(setting.has(name) for setting in joint for name in ("use_share", "shapley_use_share")):
        return None
    listed = [
        f"{label}: " + ", ".join(f"{kind} {fraction(values[first][kind][i])}" for kind in KINDS)
        for i, label in enumerate(labels)
    ]
    rows = [[label, m, *(values[m][kind][i] for kind in KINDS)] for m in modalities for i, label in enumerate(labels)]
    return Picture(
        "use",
        "Share against use",
        "Share: part of the decision, by gradient x input. Use share: a modality's use (accuracy lost if it is "
        "permuted between test clips) over the sum of all, negative values taken as 0. Shapley use share: part of the "
        "accuracy by Shapley values, absent modalities permuted; outside 0 to 1 if a modality misleads. The line "
        "between them is the gap: if it is long, the share does not show what the head uses. Dashed: equal parts.",
        f"Share, use share and Shapley use share of {first}. " + "; ".join(listed) + ".",
        {m: plot(_dumbbells(labels, values[m], m, 1 / len(results.modalities)), _height(joint)) for m in modalities},
        make_table("use-data", "Share, use share and Shapley use share.", ["setting", "modality", *KINDS], rows),
        "Modality" if len(modalities) > 1 else "",
    )


def _height(settings: Sequence[Setting]) -> int:
    return 130 + ROW_PIXELS * len(settings)


def _dumbbells(
    labels: Sequence[str], values: dict[str, list[float | None]], modality: str, balance: float
) -> go.Figure:
    figure = go.Figure()
    xs: list[float | None] = []
    ys: list[str] = []
    for name, *marks in zip(labels, *values.values(), strict=True):
        known = [mark for mark in marks if mark is not None]
        if known:
            xs += [min(known), max(known), None]
            ys += [name, name, name]
    figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": MUTED, "width": 2}, hoverinfo="skip", showlegend=False)
    for index, (kind, marks) in enumerate(values.items()):
        if all(mark is None for mark in marks):
            continue
        figure.add_scatter(
            x=marks,
            y=labels,
            mode="markers",
            name=kind,
            marker={"size": 11, "symbol": symbol(index), "color": color(index)},
            hovertemplate=f"%{{y}}<br>{kind}: %{{x:.3f}}<extra></extra>",
        )
    figure.add_vline(x=balance, line={"color": MUTED, "dash": "dash", "width": 1})
    known = [mark for marks in values.values() for mark in marks if mark is not None]
    margin = [min(0.0, *known) - 0.03, max(1.0, *known) + 0.03]
    figure.update_xaxes(**fraction_axis(f"{modality}: share, use share and Shapley use share", range=margin))
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
