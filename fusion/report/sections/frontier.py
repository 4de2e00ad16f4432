"""Accuracy against use share: what it costs to make a head use its modalities in a requested ratio (`amr frontier`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from amr.common.colors import COLORS
from amr.fusion.frontier.curves import Curve, curves_of, front_of, half_width, interval_of_change
from amr.fusion.frontier.reading import reading
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.picture import (
    INK,
    MUTED,
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
from amr.fusion.report.settings import Setting
from amr.fusion.report.tables import Table, fraction, make_table, side_by_side

HEIGHT = 520
CONTROLS = (
    "The controls, which need no regularizer, are embedding noise, weight decay, weighted UME and modality scaling. "
)


@sections.register("frontier")
def accuracy_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy over the use share of a modality, one curve per kind of setting; None without a frontier."""
    document = results.frontier
    if document is None or not curves_of(document):
        return None
    modalities = document["modalities"]
    shown = modalities[:1] if len(modalities) == 2 else modalities
    sentences = " ".join(reading(document))
    names = ", ".join(entry["setting"] for entry in document["front"])
    has_controls = any(entry["is_control"] for entry in document["settings"])
    return Picture(
        "frontier",
        "Accuracy against use share",
        f"{_points(document)} {has_controls * CONTROLS}Ringed points are on the Pareto front, chosen on val: no other "
        f"setting is both more accurate there and nearer to the target. Dashed: the target. {sentences}",
        f"Scatter of accuracy over the use share of {shown[0]}, {len(document['settings'])} settings. On the Pareto "
        f"front: {names}. {sentences}",
        {m: plot(_figure(document, m), HEIGHT) for m in shown},
        _table(document),
        "Modality" if len(shown) > 1 else "",
    )


def _points(document: Mapping[str, Any]) -> str:
    """What a point and its whiskers are."""
    seeds = max(len(entry["seeds"]) for entry in document["settings"])
    of_folds = f" and {document['folds']} folds" if document["folds"] else ""
    text = f"One point per setting, the mean over {seeds} {'seed' if seeds == 1 else 'seeds'}{of_folds}"
    if all(interval_of_change(entry) is None for entry in document["settings"]):
        return f"{text}."
    return f"{text}; whiskers are 95 % intervals of the paired change from the plain head."


def _figure(document: Mapping[str, Any], modality: str) -> go.Figure:
    curves = curves_of(document, modality)
    figure = go.Figure()
    for number, curve in enumerate(curves):
        _line(figure, curve, number)
    front = front_of(document, modality)
    figure.add_scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines+markers",
        name="Pareto front",
        line={"color": INK, "dash": "dot", "width": 1.5},
        marker={"color": INK, "symbol": "circle-open", "size": 17, "line": {"width": 1.5}},
        hoverinfo="skip",
    )
    figure.add_vline(x=document["target"][modality], line={"color": MUTED, "dash": "dash", "width": 1})
    points = [point for curve in curves for point in curve.points]
    target = document["target"][modality]
    xs = [bound for p in points for bound in (p.x - (p.x_half or 0), p.x + (p.x_half or 0))]
    ys = [bound for p in points for bound in (p.y - (p.y_half or 0), p.y + (p.y_half or 0))]
    figure.update_xaxes(**fraction_axis(f"use share of {modality}", range=wide_enough([target, *xs])))
    figure.update_yaxes(**fraction_axis("accuracy", range=wide_enough(ys)))
    return figure


def _line(figure: go.Figure, curve: Curve, number: int) -> None:
    points = curve.points
    shade = INK if number == 0 else color((number - 1) % len(COLORS))
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        error_x=whiskers([point.x_half for point in points], shade) | {"thickness": 0.5},
        error_y=whiskers([point.y_half for point in points], shade) | {"thickness": 0.5},
        mode="lines+markers" if curve.is_ordered else "markers",
        name=label(curve.name),
        line={"color": shade, "width": 1.5, "dash": "dash" if curve.is_control else "solid"},
        marker={"color": shade, "size": 8, "symbol": symbol(number + number // len(COLORS))},
        customdata=[label(point.label) for point in points],
        hovertemplate="%{customdata}<br>use share %{x:.3f}<br>accuracy %{y:.3f}<extra></extra>",
    )


def _table(document: Mapping[str, Any]) -> Table:
    order = "/".join(document["modalities"])
    first = document["modalities"][0]
    columns = ["setting", "val accuracy", "accuracy", "lost", "± (95 %)", f"use share {order}"]
    columns += [f"Shapley use share {order}", "cost of .10", "on the front"]
    rows = []
    for entry in document["settings"]:
        price = (entry["price"] or {}).get(first, {})
        rows.append(
            [
                entry["setting"],
                entry["val"]["accuracy"],
                entry["accuracy"],
                price.get("accuracy_lost"),
                half_width(price.get("accuracy_lost_interval")),
                side_by_side(entry["use_share"]),
                side_by_side(entry["shapley_use_share"]),
                price.get("per_tenth"),
                "yes" if entry["on_front"] else "no",
            ]
        )
    target = fraction(document["target"][first])
    notes = {
        "lost": "accuracy lost on test against the plain head, paired by seed and fold",
        "cost of .10": f"accuracy lost for each .10 of use share of {first} moved towards {target}; a dash if the 95 % "
        "interval of the move contains 0",
    }
    return make_table("frontier-data", "Accuracy, use share and price of each setting.", columns, rows, notes)
