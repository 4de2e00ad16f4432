"""Accuracy against dominance, and what the shares say beside what shuffling and Shapley values say."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from amr.common.colors import COLORS
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.figure import (
    INK,
    MUTED,
    ROW_PIXELS,
    Figure,
    colour,
    fraction_axis,
    plot,
    symbol,
    wide_enough,
)
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import DASH, SHAPLEY_SHARES, make_table, percent

MAX_ROWS = 14
HOVER = "%{customdata}<br>share %{x:.1%}<br>accuracy %{y:.1%}<extra></extra>"


def dominance(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """Accuracy over the share of the first of two modalities, or over the largest share of more."""
    placed = [
        (setting, x, y)
        for setting in settings
        if (x := _x(setting, results)) is not None and (y := _y(setting)) is not None
    ]
    if len(placed) < 2:  # a single point says no more than the table
        return None
    first, two = results.modalities[0], len(results.modalities) == 2
    front = pareto([(abs(x - 0.5) if two else x, y) for _, x, y in placed])
    figure = go.Figure()
    lines: dict[tuple[str, ...], list[int]] = {}
    for i, (setting, _, _) in enumerate(placed):
        lines.setdefault(tuple(setting.texts[k] for k in ("method", "head", "modalities", "lr")), []).append(i)
    if len(lines) <= len(COLORS):
        for place, (texts, members) in enumerate(lines.items()):
            name = ", ".join(texts[:2]) if len(lines) > 1 else "joint heads"
            _line(figure, [placed[i] for i in members], place, name)
    else:
        _cloud(figure, placed)
    _front(figure, [placed[i][1:] for i in front])
    alone = [(setting, y) for setting in settings if _x(setting, results) is None and (y := _y(setting)) is not None]
    xs = [x for _, x, _ in placed]
    x_range, y_range = wide_enough(xs, 0.5), wide_enough([y for _, _, y in placed])
    _levels(figure, alone, x_range, y_range)
    outside = [f"{setting.label} {percent(y)}" for setting, y in alone if not y_range[0] <= y <= y_range[1]]
    if two:
        figure.add_vline(x=0.5, line={"color": MUTED, "dash": "dot", "width": 1})
    what = f"share of {first} in the decision" if two else "largest share of a modality in the decision"
    figure.update_xaxes(**fraction_axis(what, range=x_range))
    figure.update_yaxes(**fraction_axis("accuracy", range=y_range))
    rows = [
        [g.label, x, y, g.half_width("accuracy"), g.mean("map"), "yes" if i in front else "no"]
        for i, (g, x, y) in enumerate(placed)
    ]
    rows += [[g.label, None, y, g.half_width("accuracy"), g.mean("map"), DASH] for g, y in alone]
    columns = ["setting", what, "accuracy", "± (95 %)", "mAP", "on the front"]
    names = ", ".join(placed[i][0].label for i in front)
    return Figure(
        "dominance",
        "Accuracy against dominance",
        "Each point is a setting, the mean over seeds; whiskers are 95 % intervals over seeds, hollow points are "
        "without AMR. Ringed points are on the Pareto front: no other setting is both more accurate and closer to "
        f"balance{' (the dotted vertical line)' if two else ''}."
        + (f" Outside the picture: {', '.join(outside)}." if outside else ""),
        f"Scatter of accuracy over the {what}, {len(placed)} settings. Shares go from {percent(min(xs), 0)} to "
        f"{percent(max(xs), 0)}, accuracy from {percent(min(y for _, _, y in placed))} to "
        f"{percent(max(y for _, _, y in placed))}. On the Pareto front: {names}.",
        {"": plot(figure, 440)},
        make_table("dominance-data", "Accuracy and dominance of each setting.", columns, rows),
    )


def _front(figure: go.Figure, points: Sequence[tuple[float, float]]) -> None:
    """Rings around the points that no other beats, and a line between them."""
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
    figure: go.Figure, alone: Sequence[tuple[Setting, float]], x_range: Sequence[float], y_range: Sequence[float]
) -> None:
    """What has no dominance as lines across, where they fall into the picture."""
    dashes = iter(("dash", "dashdot", "longdash", "longdashdot") * len(alone))
    for setting, y in alone:
        if y_range[0] <= y <= y_range[1]:  # a weak one would squeeze the points into a line
            figure.add_scatter(
                x=x_range,
                y=[y, y],
                mode="lines",
                name=f"{setting.label} {percent(y)}",
                line={"color": MUTED, "dash": next(dashes), "width": 1.5},
                hoverinfo="skip",
            )


def _line(figure: go.Figure, points: Sequence[tuple[Setting, float, float]], place: int, name: str) -> None:
    points = sorted(points, key=lambda point: point[1])
    asked = [point for point in points if point[0].regularized]
    if len(asked) > 1 and len({setting.texts["amr_weight"] for setting, _, _ in asked}) == 1:
        figure.add_scatter(
            x=[x for _, x, _ in asked],
            y=[y for _, _, y in asked],
            mode="lines",
            line={"color": colour(place), "width": 1.5},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[x for _, x, _ in points],
        y=[y for _, _, y in points],
        error_y={
            "array": [setting.half_width("accuracy") or 0 for setting, _, _ in points],
            "thickness": 1,
            "width": 3,
            "color": MUTED,
        },
        mode="markers+text",
        name=name,
        marker={
            "color": colour(place),
            "size": 9,
            "symbol": [symbol(place) + ("" if setting.regularized else "-open") for setting, _, _ in points],
            "line": {"width": 2, "color": colour(place)},
        },
        text=[setting.texts["amr_ratio"] for setting, _, _ in points],
        textposition=[  # beside the whiskers, and away from the right edge
            f"{'top' if setting.regularized else 'bottom'} {'left' if i == len(points) - 1 else 'right'}"
            for i, (setting, _, _) in enumerate(points)
        ],
        textfont={"size": 11, "color": MUTED},
        customdata=[setting.label for setting, _, _ in points],
        hovertemplate=HOVER,
    )


def _cloud(figure: go.Figure, points: Sequence[tuple[Setting, float, float]]) -> None:
    """More lines than colours: a colour for each head, or method, whichever are fewer; names on hover."""
    by = min(("head", "method"), key=lambda name: len({setting.texts[name] for setting, _, _ in points}))
    for place, value in enumerate(dict.fromkeys(setting.texts[by] for setting, _, _ in points)):
        members = [point for point in points if point[0].texts[by] == value]
        figure.add_scatter(
            x=[x for _, x, _ in members],
            y=[y for _, _, y in members],
            mode="markers",
            name=f"{by} {value}",
            marker={
                "color": colour(place),
                "size": 9,
                "symbol": [symbol(place) + ("" if setting.regularized else "-open") for setting, _, _ in members],
                "line": {"width": 2, "color": colour(place)},
            },
            customdata=[setting.label for setting, _, _ in members],
            hovertemplate=HOVER,
        )


def _x(setting: Setting, results: ResultFolder) -> float | None:
    if not setting.fuses:
        return None
    shares = [value for value in setting.by_modality("share").values() if value is not None]
    if not shares:
        return None
    return setting.mean(f"share.{results.modalities[0]}") if len(results.modalities) == 2 else max(shares)


def _y(setting: Setting) -> float | None:
    return setting.mean("accuracy")


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other one beats: the first number is a cost, the second a gain.

    >>> pareto([(0.1, 0.7), (0.2, 0.6), (0.3, 0.8)])
    [0, 2]
    """
    return [
        i
        for i, (cost, gain) in enumerate(points)
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
    ]


def use_share(setting: Setting) -> dict[str, float] | None:
    """Each modality's part of what shuffling costs, costs below zero taken as none; None where nothing costs."""
    costs = setting.by_modality("perceptual")
    if any(value is None for value in costs.values()):
        return None
    kept = {m: max(0.0, float(value or 0.0)) for m, value in costs.items()}
    total = sum(kept.values())
    return {m: value / total for m, value in kept.items()} if total > 0 else None


def share_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """For each setting, a modality's share by attribution, of what shuffling costs, and by Shapley values."""
    joint = [
        setting for setting in settings if setting.fuses and setting.mean(f"share.{setting.modalities[0]}") is not None
    ]
    joint = joint if len(joint) <= MAX_ROWS else shown(joint, MAX_ROWS)
    if not joint:
        return None
    kinds = {
        "attribution": lambda g, m: g.mean(f"share.{m}"),
        "shuffling (perceptual)": lambda g, m: (use_share(g) or {}).get(m),
        "Shapley share of accuracy": lambda g, m: g.by_modality(*SHAPLEY_SHARES).get(m),
    }
    modalities = results.modalities[:1] if len(results.modalities) == 2 else results.modalities
    values = {m: {kind: [of(g, m) for g in joint] for kind, of in kinds.items()} for m in modalities}
    labels = [setting.label for setting in joint]
    rows = [[label, m, *(values[m][kind][i] for kind in kinds)] for m in modalities for i, label in enumerate(labels)]
    if all(row[3] is None and row[4] is None for row in rows):
        return None
    height = 130 + ROW_PIXELS * len(joint)
    first = modalities[0]
    gaps = [
        f"{g.label}: attribution {percent(a, 0)}, shuffling {percent(b, 0)}"
        for g, a, b in zip(joint, values[first]["attribution"], values[first]["shuffling (perceptual)"], strict=True)
    ]
    return Figure(
        "use",
        "Share against use",
        "The share that attribution gives a modality, beside its part of the accuracy that shuffling costs, and its "
        "Shapley share of accuracy. The line between is the gap: where it is long, the share does not tell what the "
        "head uses.",
        f"Share of {first} by three measures. " + "; ".join(gaps) + ".",
        {m: plot(_dumbbells(labels, values[m], m), height) for m in modalities},
        make_table("use-data", "Shares by three measures.", ["setting", "modality", *kinds], rows),
        "Modality" if len(modalities) > 1 else "",
    )


def _dumbbells(labels: Sequence[str], values: dict[str, list[float | None]], modality: str) -> go.Figure:
    figure = go.Figure()
    xs: list[float | None] = []
    ys: list[str] = []
    for label, *marks in zip(labels, *values.values(), strict=True):
        there = [mark for mark in marks if mark is not None]
        if there:
            xs += [min(there), max(there), None]
            ys += [label, label, label]
    figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": MUTED, "width": 2}, hoverinfo="skip", showlegend=False)
    for place, (kind, marks) in enumerate(values.items()):
        if all(mark is None for mark in marks):
            continue
        figure.add_scatter(
            x=marks,
            y=labels,
            mode="markers",
            name=kind,
            marker={"size": 11, "symbol": symbol(place), "color": colour(place)},
            hovertemplate=f"%{{y}}<br>{kind}: %{{x:.1%}}<extra></extra>",
        )
    figure.add_vline(x=0.5, line={"color": MUTED, "dash": "dot", "width": 1})
    figure.update_xaxes(**fraction_axis(f"share of {modality}", range=[-0.03, 1.03]))
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
