"""How far probabilities can be trusted, and which classes are recognized: reliability, accuracy and AP by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from amr.fusion.evaluate.measures.calibration import NUM_BINS, calibration_error
from amr.fusion.report.read import Decisions, ResultFolder
from amr.fusion.report.sections.marks import MUTED, label, setting_bar, setting_color, setting_marker
from amr.fusion.report.sections.picture import Picture, fraction_axis, plot, rows_height, sections, tick, whiskers
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import fraction, make_table
from amr.fusion.tasks.metrics import average_precision

MAX_CLASSES = 20
MAX_SETTINGS = 3  # bars side by side in the row of a class
LEAST_CLIPS = 5  # a bin of fewer says nothing


PRECISION = (
    "Average precision (AP): area under the curve of precision over recall when all clips are ranked by the "
    "probability of the class; its mean over classes is the mAP, here from the saved probabilities, which have three "
    "digits. "
)


@dataclass(frozen=True)
class _Bins:
    """Confidence and accuracy in bins of confidence, over all clips of a setting's runs.

    Args:
        confidence, accuracy, half, count: Of each bin with clips, `(bins,)`: means, half of the 95 % interval of the
            accuracy, and the number of clips.
        error: Expected calibration error, the mean over runs.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    half: np.ndarray
    count: np.ndarray
    error: float


@sections.register("reliability")
def reliability(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy over confidence, a curve per setting; None without the probabilities of clips."""
    decisions = results.decisions
    if decisions is None or decisions.confidence is None:
        return None
    found = [(s, _bins(mine)) for s in shown(settings) if (mine := decisions.of([r.name for r in s.runs])).runs]
    if not found:
        return None
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="accuracy as predicted",
        line={"color": MUTED, "dash": "dash", "width": 1},
        hoverinfo="skip",
    )
    for setting, bins in found:
        enough = bins.count >= LEAST_CLIPS
        figure.add_scatter(
            x=bins.confidence[enough].tolist(),
            y=bins.accuracy[enough].tolist(),
            error_y=whiskers(bins.half[enough].tolist(), setting_color(setting), means=bins.accuracy[enough].tolist()),
            mode="lines+markers",
            name=label(setting.label),
            line={"color": setting_color(setting), "width": 1.5},
            marker=setting_marker(setting, 8),
            customdata=bins.count[enough].tolist(),
            hovertemplate=f"{label(setting.label)}<br>confidence %{{x:.3f}}<br>accuracy %{{y:.3f}}<br>"
            "%{customdata} clips<extra></extra>",
        )
    figure.update_xaxes(**fraction_axis("confidence", range=[0, 1]))
    figure.update_yaxes(**fraction_axis("accuracy", range=[0, 1.02]))
    listed = [f"{setting.label} {fraction(bins.error)}" for setting, bins in found]
    rows = [
        [s.label, *map(float, (c, a, h)), int(n)]
        for s, bins in found
        for c, a, h, n in zip(bins.confidence, bins.accuracy, bins.half, bins.count, strict=True)
    ]
    return Picture(
        "reliability",
        "Reliability of probabilities",
        f"Test clips in {NUM_BINS} bins of confidence, the probability of the predicted class; all seeds together, "
        f"bins of {LEAST_CLIPS} clips or more. Whiskers are 95 % intervals over clips (Wald). Below the dashed line, "
        "predictions are too sure. Expected calibration error (ECE), the mean distance of accuracy and confidence, as "
        f"a mean over seeds: {', '.join(listed)}.",
        f"Curves of accuracy over confidence. Expected calibration error: {'; '.join(listed)}.",
        {"": plot(figure, 400)},
        make_table(
            "reliability-data",
            "Confidence and accuracy in each bin of confidence.",
            ["setting", "confidence", "accuracy", "± (95 %)", "clips"],
            rows,
        ),
    )


def _bins(mine: Decisions) -> _Bins:
    """Bins of the clips that runs were tested on."""
    if mine.confidence is None:
        raise TypeError("confidence must be known")
    tested = (mine.preds >= 0) & (mine.target >= 0)
    correct = (mine.preds == mine.target).astype(float)
    confidence = np.nan_to_num(mine.confidence.astype(float))
    index = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)[tested]
    count, sure, right = (
        np.bincount(index, weights, NUM_BINS) for weights in (None, confidence[tested], correct[tested])
    )
    has = count > 0
    accuracy = right[has] / count[has]
    errors = [
        calibration_error(c[None, t], r[None, t], np.ones(int(t.sum())))[0]
        for c, r, t in zip(confidence, correct, tested, strict=True)
        if t.any()
    ]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / count[has])
    return _Bins(sure[has] / count[has], accuracy, half, count[has].astype(int), float(np.mean(errors)))


@sections.register("recognized")
def recognized(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy of each class, and its average precision where probabilities are known."""
    decisions = results.decisions
    if decisions is None:
        return None
    classes = [c for c in range(len(results.classes)) if (decisions.target == c).any()]
    accuracy: dict[str, np.ndarray] = {}
    precision: dict[str, np.ndarray] = {}
    drawn = []
    for setting in shown(settings):
        mine = decisions.of([run.name for run in setting.runs])
        if not mine.runs:
            continue
        drawn.append(setting)
        tested = mine.preds >= 0
        accuracy[setting.label] = np.array([_recall(mine, c, tested) for c in classes])
        if mine.probability is not None:
            precision[setting.label] = np.array([_precision(mine, c, tested) for c in classes])
    if not drawn:
        return None
    kinds = {"accuracy": accuracy} | ({"average precision (AP)": precision} if precision else {})
    first = accuracy[drawn[0].label]
    hardest = np.argsort(first, kind="stable")[:MAX_CLASSES]
    selected = sorted(hardest.tolist())
    names = [results.classes[c] for c in classes]
    clips = [int((decisions.target == c).sum()) for c in classes]
    rows = [
        [s.label, names[i], clips[i], *(float(values[s.label][i]) for values in kinds.values())]
        for s in drawn
        for i in range(len(classes))
    ]
    listed = ", ".join(f"{names[i]} {fraction(float(first[i]))}" for i in selected)
    few = f" Of {len(classes)} classes, the {MAX_CLASSES} hardest for {drawn[0].label} are shown."
    most = f" The picture has {MAX_SETTINGS} settings, the table {len(drawn)}."
    return Picture(
        "recognized",
        f"Accuracy{' and average precision' if precision else ''}, class by class",
        "Accuracy of a class: fraction of its test clips that are predicted as it. "
        + PRECISION * bool(precision)
        + "Means over seeds."
        + few * (len(classes) > MAX_CLASSES)
        + most * (len(drawn) > MAX_SETTINGS),
        f"Bars by class. Accuracy in {drawn[0].label}: {listed}.",
        {kind: _class_bars(drawn[:MAX_SETTINGS], values, names, selected, kind) for kind, values in kinds.items()},
        make_table(
            "recognized-data",
            "Accuracy and average precision of each class.",
            ["setting", "class", "clips", *kinds],
            rows,
        ),
        "Measure" if len(kinds) > 1 else "",
    )


def _recall(mine: Decisions, c: int, tested: np.ndarray) -> float:
    of_class = (mine.target == c) & tested
    return float((mine.preds[of_class] == c).mean()) if of_class.any() else float("nan")


def _precision(mine: Decisions, c: int, tested: np.ndarray) -> float:
    """Mean over runs of the average precision of a class."""
    if mine.probability is None:
        raise TypeError("probability must be known")
    found = [
        average_precision(p[t, c].astype(float), mine.target[t] == c)
        for p, t in zip(mine.probability, tested, strict=True)
        if (mine.target[t] == c).any()
    ]
    return float(np.mean(found)) if found else float("nan")


def _class_bars(
    drawn: Sequence[Setting], values: dict[str, np.ndarray], names: Sequence[str], selected: Sequence[int], kind: str
) -> dict[str, object]:
    figure = go.Figure()
    ticks = [tick(names[i]) for i in selected]
    for setting in drawn:
        figure.add_bar(
            y=ticks,
            x=[float(values[setting.label][i]) for i in selected],
            orientation="h",
            name=label(setting.label),
            marker=setting_bar(setting),
            hovertemplate=f"%{{y}}<br>{label(setting.label)}: %{{x:.3f}}<extra></extra>",
        )
    figure.update_xaxes(**fraction_axis(kind, range=[0, 1]))
    figure.update_yaxes(autorange="reversed", type="category")
    return plot(figure, rows_height(ticks, len(drawn)), barmode="group", bargap=0.25)
