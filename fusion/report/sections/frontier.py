"""The score against use share: what it costs to make a head use its modalities in a ratio (`amr frontier`)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from amr.fusion.choices import score_of
from amr.fusion.frontier.curves import Curve, curves_of, half_width, interval_of_change
from amr.fusion.frontier.curves import Point as CurvePoint
from amr.fusion.frontier.reading import reading
from amr.fusion.report.frontier import relabelled, setting_of
from amr.fusion.report.plots.marks import setting_marker, style_marker
from amr.fusion.report.plots.picture import Picture
from amr.fusion.report.plots.scatter import CROWDED, NUMBERED, Path, Point, Scatter
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting
from amr.fusion.report.tables import Table, fraction, make_table, side_by_side

CONTROLS = (
    "The controls, which need no regularizer, are embedding noise, weight decay, weighted UME and modality scaling. "
)


@sections.register("frontier")
def accuracy_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """The score over the use share of a modality, one line per kind of setting; None without a frontier."""
    if results.frontier is None or not curves_of(results.frontier):
        return None
    marks = _marks(results.frontier, settings)
    document, score = relabelled(results.frontier, settings), results.score
    modalities = document["modalities"]
    shown = modalities[:1] if len(modalities) == 2 else modalities
    sentences = " ".join(reading(document))
    names = ", ".join(entry["setting"] for entry in document["front"])
    has_controls = any(entry["is_control"] for entry in document["settings"])
    useless = [entry["setting"] for entry in document["settings"] if entry["distance"] is None]
    scatters = {m: _scatter(document, m, marks) for m in shown}
    return Picture(
        "frontier",
        f"{score.title} against use share",
        f"Use share: a modality's use ({score.lost} if it is permuted between test clips) over the sum of all. "
        f"{_points(document, scatters[shown[0]])} "
        f"{NUMBERED * scatters[shown[0]].is_numbered}{has_controls * CONTROLS}Lines join the "
        "settings of a kind in the order of their option, dashed for controls. Ringed points are on the Pareto front, "
        f"chosen on val: no other setting is both better there and nearer to the target."
        + f" Not drawn, as they use no modality on test: {', '.join(useless)}."
        * bool(useless),
        f"Scatter of {score.words} over the use share of {shown[0]}, {len(document['settings'])} settings. On the "
        f"Pareto front: {names}. {sentences}",
        {m: scatter.plot() for m, scatter in scatters.items()},
        _table(document),
        "Modality" if len(shown) > 1 else "",
    )


def _points(document: Mapping[str, Any], scatter: Scatter) -> str:
    """What a point and its whiskers are."""
    seeds = max(len(entry["seeds"]) for entry in document["settings"])
    of_folds = f" and {document['folds']} folds" if document["folds"] else ""
    text = f"One point per setting, the mean over {seeds} {'seed' if seeds == 1 else 'seeds'}{of_folds}"
    if all(interval_of_change(entry, score_of(document)) is None for entry in document["settings"]):
        return f"{text}."
    if scatter.is_crowded:
        return f"{text}{CROWDED}."
    return f"{text}; whiskers are 95 % intervals of the paired change from the plain head."


Mark = tuple[int, dict[str, Any]]  # number of a setting on the page, and options of its point


def _marks(document: Mapping[str, Any], settings: Sequence[Setting]) -> dict[str, Mark]:
    """Label on the page to the mark of a setting; settings without runs get the next free numbers and styles."""
    free = itertools.count(1 + max((max(setting.number, setting.style) for setting in settings), default=0))
    marks = {}
    for entry in document["settings"]:
        setting = setting_of(entry, settings)
        if setting is None:
            number = next(free)
            marks[entry["setting"]] = number, style_marker(number, is_hollow=True)
        else:
            marks[setting.label] = setting.number, setting_marker(setting)
    return marks


def _scatter(document: Mapping[str, Any], modality: str, marks: Mapping[str, Mark]) -> Scatter:
    curves = curves_of(document, modality)
    points = {p.label: _point(p, marks) for curve in curves for p in curve.points}
    ordered = [curve for curve in curves if curve.is_ordered and len(curve.points) > 1]
    return Scatter(
        [*points.values()],
        f"use share of {modality}",
        document["target"][modality],
        "target",
        [points[entry["setting"]] for entry in document["front"] if entry["setting"] in points],
        [_path(curve, points) for curve in ordered],
        score=score_of(document),
    )


def _path(curve: Curve, points: Mapping[str, Point]) -> Path:
    return Path([points[p.label] for p in curve.points], is_dashed=curve.is_control)


def _point(point: CurvePoint, marks: Mapping[str, Mark]) -> Point:
    number, marker = marks[point.label]
    return Point(number, point.label, point.x, point.y, point.x_half, point.y_half, marker)


def _table(document: Mapping[str, Any]) -> Table:
    order = "/".join(document["modalities"])
    first = document["modalities"][0]
    score = score_of(document)
    columns = ["setting", f"val {score.words}", score.words, "lost", "± (95 %)", f"use share {order}"]
    columns += [f"Shapley use share {order}", "cost of .10", "on the front"]
    rows = []
    for entry in document["settings"]:
        price = (entry["price"] or {}).get(first, {})
        rows.append(
            [
                entry["setting"],
                entry["val"][score.name],
                entry[score.name],
                price.get(f"{score.name}_lost"),
                half_width(price.get(f"{score.name}_lost_interval")),
                side_by_side(entry["use_share"]),
                side_by_side(entry["shapley_use_share"]),
                price.get("per_tenth"),
                "yes" if entry["on_front"] else "no",
            ]
        )
    target = fraction(document["target"][first])
    notes = {
        "lost": f"{score.lost} on test against the plain head, paired by seed and fold",
        "cost of .10": f"{score.lost} for each .10 of use share of {first} moved towards {target}; a dash if the 95 % "
        "interval of the move contains 0",
    }
    return make_table("frontier-data", f"{score.title}, use share and price of each setting.", columns, rows, notes)
