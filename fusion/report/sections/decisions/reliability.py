"""How far probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from amr.fusion.evaluate.measures.calibration import NUM_BINS, calibration_error
from amr.fusion.report.decisions import Decisions
from amr.fusion.report.plots.marks import MUTED, label, setting_color, setting_marker
from amr.fusion.report.plots.picture import Picture, fraction_axis, plot, whiskers
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, over_seeds, shown
from amr.fusion.report.tables import fraction, make_table

LEAST_CLIPS = 5  # a bin of fewer says nothing
MAX_WHISKERED = 3  # settings whose whiskers can be told apart


@dataclass(frozen=True)
class _Words:
    """What is compared, in words.

    Args:
        said: Probability on the horizontal axis.
        found: Fraction on the vertical axis.
        counted: What is counted in the bins.
        caption: First sentence of the caption.
        below: What is wrong below the dashed line.
    """

    said: str
    found: str
    counted: str
    caption: str
    below: str


OF_CLASSES = _Words(
    "confidence",
    "accuracy",
    "clips",
    f"Test clips in {NUM_BINS} bins of confidence, the probability of the predicted class",
    "predictions are too sure",
)
OF_LABELS = _Words(
    "probability of the label",
    "fraction with the label",
    "pairs",
    f"Pairs of a test clip and a label in {NUM_BINS} bins of the probability of the label",
    "probabilities are too high",
)


@dataclass(frozen=True)
class _Bins:
    """Probability and fraction that is so in bins of probability, over all clips of a setting's runs.

    Args:
        said, found, half, count: Of each bin with clips, `(bins,)`: means, half of the 95 % interval of the fraction,
            and the number of clips or pairs.
        error: Expected calibration error, the mean over runs.
    """

    said: np.ndarray
    found: np.ndarray
    half: np.ndarray
    count: np.ndarray
    error: float


@sections.register("reliability")
def reliability(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy over confidence, or of labels their frequency over probability, a curve per setting.

    None without the probabilities of clips.
    """
    decisions = results.decisions
    if decisions is None or (decisions.confidence is None and decisions.task != "multilabel"):
        return None
    words = OF_LABELS if decisions.task == "multilabel" else OF_CLASSES
    found = [(s, _bins(mine)) for s in shown(settings) if (mine := decisions.of([r.name for r in s.runs])).runs]
    if not found:
        return None
    intervals = "Whiskers are 95 % intervals over them (Wald). "
    if len(found) > MAX_WHISKERED:
        intervals = "The table has 95 % intervals over them (Wald). "
    listed = [f"{setting.label} {fraction(bins.error)}" for setting, bins in found]
    rows = [
        [s.label, *map(float, each), int(n)]
        for s, bins in found
        for *each, n in zip(bins.said, bins.found, bins.half, bins.count, strict=True)
    ]
    return Picture(
        "reliability",
        "Reliability of probabilities",
        f"{words.caption}; all seeds together, bins of {LEAST_CLIPS} {words.counted} or more. {intervals}Below the "
        f"dashed line, {words.below}. Expected calibration error (ECE), the "
        f"mean distance of {words.found} and {words.said}{over_seeds([s for s, _ in found])}: {', '.join(listed)}.",
        f"Curves of {words.found} over {words.said}. Expected calibration error: {'; '.join(listed)}.",
        {"": plot(_curves(found, words), 400)},
        make_table(
            "reliability-data",
            f"{words.said[0].upper()}{words.said[1:]} and {words.found} in each bin.",
            ["setting", words.said, words.found, "± (95 %)", words.counted],
            rows,
        ),
    )


def _curves(found: Sequence[tuple[Setting, _Bins]], words: _Words) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name=f"{words.found} as predicted",
        line={"color": MUTED, "dash": "dash", "width": 1},
        hoverinfo="skip",
    )
    for setting, bins in found:
        enough = bins.count >= LEAST_CLIPS
        halves = bins.half[enough].tolist() if len(found) <= MAX_WHISKERED else [None] * int(enough.sum())
        figure.add_scatter(
            x=bins.said[enough].tolist(),
            y=bins.found[enough].tolist(),
            error_y=whiskers(halves, setting_color(setting), means=bins.found[enough].tolist()),
            mode="lines+markers",
            name=label(setting.label),
            line={"color": setting_color(setting), "width": 1.5},
            marker=setting_marker(setting, 8),
            cliponaxis=False,  # a mark at 1 is whole
            customdata=bins.count[enough].tolist(),
            hovertemplate=f"{label(setting.label)}<br>{words.said} %{{x:.3f}}<br>{words.found} %{{y:.3f}}<br>"
            f"%{{customdata}} {words.counted}<extra></extra>",
        )
    figure.update_xaxes(**fraction_axis(words.said, range=[-0.02, 1.02]))
    figure.update_yaxes(**fraction_axis(words.found, range=[-0.02, 1.02]))
    return figure


def _bins(mine: Decisions) -> _Bins:
    """Bins of the clips that runs were tested on."""
    said, so, tested = _probabilities(mine)
    index = np.minimum((said * NUM_BINS).astype(int), NUM_BINS - 1)[tested]
    count, sure, right = (np.bincount(index, weights, NUM_BINS) for weights in (None, said[tested], so[tested]))
    has = count > 0
    found = right[has] / count[has]
    errors = [
        calibration_error(p[None, t], r[None, t], np.ones(int(t.sum())))[0]
        for p, r, t in zip(said, so, tested, strict=True)
        if t.any()
    ]
    half = 1.96 * np.sqrt(found * (1 - found) / count[has])
    return _Bins(sure[has] / count[has], found, half, count[has].astype(int), float(np.mean(errors)))


def _probabilities(mine: Decisions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, whether what they are of is so, 0 or 1, and which are known: of clips, or of clips and labels."""
    if mine.task == "multilabel" and mine.probability is not None:
        shape = len(mine.runs), -1
        so = np.broadcast_to(mine.target, mine.probability.shape).reshape(shape).astype(float)
        tested = np.repeat(mine.tested, mine.target.shape[-1], axis=1)
        return np.nan_to_num(mine.probability.astype(float)).reshape(shape), so, tested
    if mine.confidence is None:
        raise TypeError("confidence must be known")
    return np.nan_to_num(mine.confidence.astype(float)), mine.right.astype(float), mine.tested
