"""Settings as points: the score against a quantity, with a balance line, the Pareto front and labels at points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from amr.fusion.choices import SCORES, Score
from amr.fusion.report.plots.marks import INK, MUTED, label, thin
from amr.fusion.report.plots.picture import fraction_axis, plot, whiskers, wide_enough
from amr.fusion.runs.statistics import FRACTION, interval_inside

MAX_NAMED, MAX_LETTERS = 6, 24  # points with their names, and letters of a name; else points have their numbers
MAX_WHISKERED = 12  # points with whiskers, which would cover more of them
EDGE = 0.03  # of the width of an axis beyond its range: marks at a bound, such as 1, are whole
HEIGHT = 460
LAST_IN_KEY = 1001  # Plotly's own rank is 1000
NUMBERED = "Numbers at the points are those of the key. "
CROWDED = "; 95 % intervals are in the table, as the whiskers of so many points would cover them"


@dataclass(frozen=True)
class Point:
    """One setting.

    Args:
        number: Number of the setting on the page.
        name: Its label.
        x, y: Means of the quantity and of the score.
        x_half, y_half: Half the width of their 95 % intervals; None if unknown.
        marker: Options of its mark.
        short: Name at the point; by default the label.
    """

    number: int
    name: str
    x: float
    y: float
    x_half: float | None
    y_half: float | None
    marker: dict[str, Any]
    short: str = ""

    @property
    def text(self) -> str:
        """Name at the point."""
        return self.short or self.name


@dataclass(frozen=True)
class Path:
    """Points that a line connects, in order.

    Args:
        points: The points.
        is_dashed: Whether the line is dashed, as those of controls are.
        is_pair: Whether it leads from a setting to the same with AMR, as an arrow.
    """

    points: Sequence[Point]
    is_dashed: bool = False
    is_pair: bool = False


@dataclass(frozen=True)
class Scatter:
    """Everything that a scatter plot shows.

    Args:
        points: Points, all of them.
        x_title: Title of the horizontal axis.
        target: Value of the dashed line: balance, or what was requested; None for no line.
        target_name: Words at the line.
        front: Points on the Pareto front.
        paths: Lines between points.
        levels: Settings of which only the score is known: horizontal lines.
        score: Score on the vertical axis, such as accuracy.
    """

    points: Sequence[Point]
    x_title: str
    target: float | None
    target_name: str = "balance"
    front: Sequence[Point] = ()
    paths: Sequence[Path] = field(default_factory=tuple)
    levels: Sequence[Point] = ()
    score: Score = SCORES["multiclass"]

    @property
    def is_numbered(self) -> bool:
        """Whether points have numbers, because their names would cover each other."""
        return len(self.points) > MAX_NAMED or any(len(point.text) > MAX_LETTERS for point in self.points)

    @property
    def paths_words(self) -> str:
        """Sentences on the lines between points; empty if there are none."""
        words = "Arrows lead from a setting without AMR to the same one with it. " * any(p.is_pair for p in self.paths)
        return words + "Lines join settings that differ in the ratio only. " * any(not p.is_pair for p in self.paths)

    @property
    def is_crowded(self) -> bool:
        """Whether whiskers are left out, because they would cover the points."""
        return len(self.points) > MAX_WHISKERED

    def plot(self) -> dict[str, Any]:
        """Plotly's data and layout."""
        figure = go.Figure()
        for path in self.paths:
            _draw_path(figure, path)
        if len(self.front) > 1:
            _draw_front(figure, self.front)
        for point in sorted(self.points, key=lambda point: point.number):
            _draw_point(figure, point, self.x_title, self.score, is_bare=self.is_crowded)
        xs = [end for p in self.points for end in _ends(p.x, None if self.is_crowded else p.x_half)]
        ys = [end for p in self.points for end in _ends(p.y, None if self.is_crowded else p.y_half, self.score.bounds)]
        if self.target is not None:
            figure.add_vline(x=self.target, line={"color": MUTED, "dash": "dash", "width": 1})
            xs.append(self.target)
        x_range, y_range = _with_edges(wide_enough(xs)), _with_edges(wide_enough(ys, 0.1, self.score.bounds))
        for level in self.levels:
            if y_range[0] <= level.y <= y_range[1]:  # a weak one would squeeze the points together
                _draw_level(figure, level, x_range, self.score.words)
        figure.update_xaxes(**fraction_axis(self.x_title, range=x_range))
        figure.update_yaxes(**fraction_axis(self.score.words, range=y_range))
        drawn = plot(figure, HEIGHT)
        # the browser finds a free place for each: only it knows how many pixels there are
        labels = [
            {"x": p.x, "y": p.y, "text": str(p.number) if self.is_numbered else label(p.text)} for p in self.points
        ]
        if self.target is not None:
            named = f"{self.target_name} {self.target:.2f}"
            drawn["layout"]["annotations"] = [_line_name(self.target, named, x_range)]
        drawn["layout"]["meta"] = {"labels": labels}
        return drawn


def _ends(mean: float, half: float | None, bounds: tuple[float, float] = FRACTION) -> Sequence[float]:
    return interval_inside(mean, half, bounds) or (mean,)


def _with_edges(ends: Sequence[float]) -> list[float]:
    edge = EDGE * (ends[1] - ends[0])
    return [ends[0] - edge, ends[1] + edge]


def _line_name(x: float, text: str, x_range: Sequence[float]) -> dict[str, Any]:
    is_right = x > sum(x_range) / 2
    return {
        "x": x,
        "y": 1,
        "yref": "paper",
        "text": text,
        "showarrow": False,
        "xanchor": "right" if is_right else "left",
        "yanchor": "top",
        "xshift": -4 if is_right else 4,
        "font": {"size": 11, "color": MUTED},
    }


def _draw_point(figure: go.Figure, point: Point, x_title: str, score: Score, *, is_bare: bool) -> None:
    """Add a point, with its name and intervals on hovering; whiskers, unless it is bare."""
    halves: list[dict[str, Any]] = [
        whiskers([None if is_bare else half], thin(point.marker["color"]), means=[mean], bounds=bounds)
        for mean, half, bounds in ((point.x, point.x_half, FRACTION), (point.y, point.y_half, score.bounds))
    ]
    ends = [
        f"{name} %{{{axis}:.3f}}" + ("" if half is None else f" ± {half:.3f}")
        for name, axis, half in ((x_title, "x", point.x_half), (score.words, "y", point.y_half))
    ]
    figure.add_scatter(
        x=[point.x],
        y=[point.y],
        error_x=halves[0],
        error_y=halves[1],
        mode="markers",
        name=label(f"{point.number}  {point.name}"),
        marker=point.marker,
        hovertemplate=f"{label(point.name)}<br>" + "<br>".join(ends) + "<extra></extra>",
    )


def _draw_level(figure: go.Figure, level: Point, x_range: Sequence[float], words: str) -> None:
    figure.add_scatter(
        x=x_range,
        y=[level.y, level.y],
        mode="lines",
        name=label(f"{level.number}  {level.name}"),
        line={"color": level.marker["color"], "width": 1.5, "dash": "dot"},
        hovertemplate=f"{label(level.name)}<br>{words} %{{y:.3f}}<extra></extra>",
    )


def _draw_path(figure: go.Figure, path: Path) -> None:
    figure.add_scatter(
        x=[point.x for point in path.points],
        y=[point.y for point in path.points],
        mode="lines+markers" if path.is_pair else "lines",
        marker={"symbol": "arrow", "size": [0, 9], "angleref": "previous", "standoff": 6, "color": MUTED},
        line={"color": MUTED, "width": 1, "dash": "dash" if path.is_dashed else "solid"},
        hoverinfo="skip",
        showlegend=False,
    )


def _draw_front(figure: go.Figure, front: Sequence[Point]) -> None:
    """Add rings around the points on the Pareto front, and a line between them."""
    ordered = sorted(front, key=lambda point: (point.x, point.y))
    figure.add_scatter(
        x=[point.x for point in ordered],
        y=[point.y for point in ordered],
        mode="lines+markers",
        name="Pareto front",
        legendrank=LAST_IN_KEY,  # settings come first, in pairs
        line={"color": INK, "dash": "dot", "width": 1},
        marker={"color": INK, "symbol": "circle-open", "size": 18, "line": {"width": 1}},
        hoverinfo="skip",
    )
