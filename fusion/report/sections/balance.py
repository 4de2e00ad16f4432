"""The score against use share and against share, and share against use share and Shapley use share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from amr.fusion.frontier.front import pareto
from amr.fusion.report.plots.marks import MUTED, kind_marker, label, setting_marker
from amr.fusion.report.plots.picture import Picture, fraction_axis, of_all, plot, rows_height, tick
from amr.fusion.report.plots.scatter import CROWDED, NUMBERED, Path, Point, Scatter
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, counterpart, over_seeds, reference_of, shown
from amr.fusion.report.tables import fraction, make_table

MAX_ROWS = 14
KINDS = {"share": "share", "use share": "use_share", "Shapley use share": "shapley_use_share"}
COMPARED = (
    "Share: part of the decision, by gradient x input. Use share: a modality's use (accuracy lost if it is permuted "
    "between test clips) over the sum of all, negative values taken as 0. Shapley use share: part of what the "
    "modalities gain together, by Shapley values, absent ones permuted; outside 0 to 1 if a modality misleads. The "
    "line between them is the gap: if it is long, the share does not show what the head uses. "
)
SAME_PATH = ("method", "head", "modalities", "lr", "attribution", "amr_weight", "amr_level", "method_option")


@sections.register("verdict")
def accuracy_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """The score over use share; None for a frontier, which has a picture of its own."""
    if results.frontier is not None:
        return None
    return _accuracy_against(results, settings, "verdict", "use share", "use_share")


@sections.register("share")
def accuracy_against_share(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """The score over share."""
    return _accuracy_against(results, settings, "share", "share", "share")


def _accuracy_against(
    results: ResultFolder, settings: Sequence[Setting], name: str, words: str, measure: str
) -> Picture | None:
    """The score over a measure of each modality, one plot per modality; of two modalities, over that of the first."""
    score = results.score
    placed = [s for s in settings if len(s.modalities) > 1 and s.has(measure) and s.gain() is not None]
    placed = [s for s in placed if s.modalities == results.modalities]
    if len(placed) < 2:  # a single point shows no more than the table
        return None
    modalities = _drawn_modalities(results, settings, measure)
    front = _front(placed, measure)
    others = [s for s in settings if s not in placed and s.gain() is not None]
    scatters = {m: _scatter(placed, others, front, f"{words} of {m}", f"{measure}.{m}", results) for m in modalities}
    first = modalities[0]
    xs, ys = zip(*((point.x, point.y) for point in scatters[first].points), strict=True)
    outside = [f"{s.label} {fraction(s.mean(score.name))}" for s in others]
    whiskered = any(p.y_half is not None or p.x_half is not None for p in scatters[first].points)
    second, second_words = [*score.main.items()][1]
    columns = ["setting", *(f"{words} of {m}" for m in modalities), score.words, "± (95 %)"]
    columns += [second_words, "on the front"]
    rows = [
        [
            s.label,
            *(s.mean(f"{measure}.{m}") for m in modalities),
            s.mean(score.name),
            s.half_width(score.name),
            s.mean(second),
            "-" if s in others else "yes" if s in front else "no",
        ]
        for s in (*placed, *others)
    ]
    return Picture(
        name,
        f"{score.title} against {words}",
        f"{score.in_words(DEFINED[measure])} One point per setting{over_seeds(placed)}, hollow without AMR"
        + (CROWDED if scatters[first].is_crowded else "; whiskers are 95 % intervals") * whiskered
        + ". "
        + NUMBERED * scatters[first].is_numbered
        + scatters[first].paths_words
        + "Ringed points are on the Pareto front, chosen on val: no other setting is both better there and "
        f"closer to balance, 1/{len(results.modalities)} for each modality."
        + (f" No points, as they have no {words}: {', '.join(outside)}." if outside else ""),
        f"Scatter of {score.words} over the {words} of {first}, {len(placed)} settings. The {words} goes from "
        f"{fraction(min(xs))} to {fraction(max(xs))}, {score.words} from {fraction(min(ys))} to {fraction(max(ys))}. "
        f"On the Pareto front: {', '.join(s.label for s in front)}.",
        {m if len(modalities) > 1 else "": scatter.plot() for m, scatter in scatters.items()},
        make_table(f"{name}-data", f"{score.title} and {words} of each setting.", columns, rows),
        "Modality" if len(modalities) > 1 else "",
    )


def _drawn_modalities(results: ResultFolder, settings: Sequence[Setting], measure: str) -> Sequence[str]:
    """Of two modalities, the first, as the other mirrors it; of more, all, in the order of the reference's parts."""
    if len(results.modalities) == 2:
        return results.modalities[:1]
    reference = reference_of(settings)
    values = {} if reference is None else reference.by_modality(measure)
    return sorted(results.modalities, key=lambda m: -(values.get(m) or 0.0))


DEFINED = {
    "share": "Share: a modality's part of the decision, by gradient x input.",
    "use_share": "Use share: a modality's use (accuracy lost if it is permuted between test clips) over the sum of "
    "all, negative values taken as 0.",
}


def _front(placed: Sequence[Setting], measure: str) -> list[Setting]:
    """Settings on the Pareto front of score and balance on val; on test, if it was not measured on val."""

    def values(setting: Setting) -> tuple[float, float]:
        for split in ("val", "test"):
            gain = setting.gain(split)
            shares = [setting.mean(f"{measure}.{m}", split) for m in setting.modalities]
            known = [share for share in shares if share is not None]
            if gain is not None and len(known) == len(shares):
                return sum(abs(share - 1 / len(known)) for share in known), gain
        return 2.0, -math.inf

    return [placed[i] for i in pareto([values(setting) for setting in placed])]


def _scatter(
    placed: Sequence[Setting],
    others: Sequence[Setting],
    front: Sequence[Setting],
    title: str,
    measure: str,
    results: ResultFolder,
) -> Scatter:
    points = {setting.label: _point(setting, measure) for setting in placed}
    return Scatter(
        [*points.values()],
        title,
        1 / len(results.modalities),
        front=[points[setting.label] for setting in front],
        paths=_paths(placed, points),
        levels=[_point(setting, measure) for setting in others],
        score=results.score,
    )


def _point(setting: Setting, measure: str) -> Point:
    x, y = setting.mean(measure), setting.mean(setting.score.name)
    return Point(
        setting.number,
        setting.label,
        0.0 if x is None else x,
        0.0 if y is None else y,
        setting.half_width(measure),
        setting.half_width(setting.score.name),
        setting_marker(setting),
    )


def _paths(placed: Sequence[Setting], points: dict[str, Point]) -> list[Path]:
    """Lines over the ratios of what else is equal; an arrow from a setting without AMR to the only one with it."""
    groups: dict[tuple[str, ...], list[Setting]] = {}
    for setting in placed:
        if setting.regularized:
            groups.setdefault(tuple(setting.texts[name] for name in SAME_PATH), []).append(setting)
    paths = []
    for members in groups.values():
        plain = counterpart(members[0], placed)
        if len(members) > 1 and len(members[0].modalities) == 2:
            ordered = sorted((points[setting.label] for setting in members), key=lambda point: point.x)
            paths.append(Path(ordered))
        elif len(members) == 1 and plain is not None:
            paths.append(Path([points[plain.label], points[members[0].label]], is_pair=True))
    return paths


@sections.register("use")
def share_against_use(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """For each setting, a modality's share, use share and Shapley use share."""
    known = [setting for setting in settings if setting.fuses and setting.has("share")]
    joint = known if len(known) <= MAX_ROWS else shown(known, MAX_ROWS)
    modalities = results.modalities[:1] if len(results.modalities) == 2 else results.modalities
    values = {m: {kind: [g.mean(f"{name}.{m}") for g in joint] for kind, name in KINDS.items()} for m in modalities}
    labels = [tick(setting.label) for setting in joint]
    first = modalities[0]
    if not any(setting.has(name) for setting in joint for name in ("use_share", "shapley_use_share")):
        return None
    listed = [
        f"{setting.label}: " + ", ".join(f"{kind} {fraction(values[first][kind][i])}" for kind in KINDS)
        for i, setting in enumerate(joint)
    ]
    rows = [[s.label, m, *(values[m][kind][i] for kind in KINDS)] for m in modalities for i, s in enumerate(joint)]
    return Picture(
        "use",
        "Share against use",
        results.score.in_words(COMPARED) + f"Dashed: balance, 1/{len(results.modalities)}." + of_all(joint, known),
        f"Share, use share and Shapley use share of {first}. " + "; ".join(listed) + ".",
        {
            m: plot(_dumbbells(labels, values[m], m, 1 / len(results.modalities)), rows_height(labels))
            for m in modalities
        },
        make_table("use-data", "Share, use share and Shapley use share.", ["setting", "modality", *KINDS], rows),
        "Modality" if len(modalities) > 1 else "",
    )


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
            marker=kind_marker(index),
            cliponaxis=False,  # a mark at 1 is whole
            hovertemplate=f"%{{y}}<br>{kind}: %{{x:.3f}}<extra></extra>",
        )
    figure.add_vline(x=balance, line={"color": MUTED, "dash": "dash", "width": 1})
    known = [mark for marks in values.values() for mark in marks if mark is not None]
    margin = [min(0.0, *known) - 0.03, max(1.0, *known) + 0.03]
    figure.update_xaxes(**fraction_axis(f"parts of {label(modality)}", range=margin))
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
