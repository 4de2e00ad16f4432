"""Which classes or labels are recognized: accuracy or F1, and average precision of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.decisions import Decisions
from amr.fusion.report.plots.marks import label, setting_bar
from amr.fusion.report.plots.picture import Picture, fraction_axis, plot, rows_height, tick
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import fraction, make_table
from amr.fusion.tasks.metrics import average_precision

MAX_CLASSES = 20
MAX_SETTINGS = 3  # bars side by side in the row of a class
MEANINGS = {
    "accuracy": "Accuracy of a class: fraction of its test clips that are predicted as it. ",
    "F1": "F1 of a label: 2 TP / (2 TP + FP + FN) over the test clips; recall: fraction of the clips with the label "
    "for which it is predicted. ",
    "average precision (AP)": "Average precision (AP): area under the curve of precision over recall when all clips "
    "are ranked by the probability; its mean is the mAP, here from the saved probabilities, which have three digits. ",
}
Measure = Callable[[Decisions, int], float]  # of a class or label, the mean over runs


def words_of(decisions: Decisions) -> tuple[str, str, str]:
    """Words for a class or label, for several, and for the fraction of its clips that is found."""
    return ("label", "labels", "recall") if decisions.task == "multilabel" else ("class", "classes", "accuracy")


def recalls(mine: Decisions, classes: Sequence[int]) -> list[float]:
    """Fraction of the clips of each class or label for which it is predicted, the mean over runs."""
    return [_recall(mine, c) for c in classes]


@sections.register("recognized")
def recognized(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy of each class or F1 of each label, and average precision where probabilities are known."""
    decisions = results.decisions
    if decisions is None or decisions.task == "regression":
        return None
    one, several, _ = words_of(decisions)
    classes = decisions.known(len(results.classes))
    drawn = [(s, mine) for s in shown(settings) if (mine := decisions.of([run.name for run in s.runs])).runs]
    if not drawn:
        return None
    measures = _measures(decisions)
    values = {
        kind: {s.label: np.array([measure(mine, c) for c in classes]) for s, mine in drawn}
        for kind, measure in measures.items()
    }
    kind, of_first = next(iter(values.items()))
    reference = drawn[0][0]
    first = of_first[reference.label]
    selected = sorted(np.argsort(first, kind="stable")[:MAX_CLASSES].tolist())
    names = [results.classes[c] for c in classes]
    rows = [
        [s.label, names[i], int(decisions.has(c).sum()), *(float(of_kind[s.label][i]) for of_kind in values.values())]
        for s, _ in drawn
        for i, c in enumerate(classes)
    ]
    listed = ", ".join(f"{names[i]} {fraction(float(first[i]))}" for i in selected)
    few = f" Of {len(classes)} {several}, the {MAX_CLASSES} hardest for {reference.label} are shown."
    most = f" The picture has {MAX_SETTINGS} settings, the table {len(drawn)}."
    title = " and ".join(name.removesuffix(" (AP)") for name in values if name != "recall")
    members = [s for s, _ in drawn[:MAX_SETTINGS]]
    return Picture(
        "recognized",
        f"{title[0].upper()}{title[1:]}, {one} by {one}",
        "".join(MEANINGS.get(name, "") for name in values)
        + "Means over seeds."
        + few * (len(classes) > MAX_CLASSES)
        + most * (len(drawn) > MAX_SETTINGS),
        f"Bars by {one}. {kind[0].upper()}{kind[1:]} in {reference.label}: {listed}.",
        {name: _class_bars(members, of_kind, names, selected, name) for name, of_kind in values.items()},
        make_table(
            "recognized-data", f"{title[0].upper()}{title[1:]} of each {one}.", ["setting", one, "clips", *values], rows
        ),
        "Measure" if len(values) > 1 else "",
    )


def _measures(decisions: Decisions) -> dict[str, Measure]:
    """Measures of each class or label, the first of which tells the hardest."""
    first: dict[str, Measure] = {"F1": _f1} if decisions.task == "multilabel" else {"accuracy": _recall}
    precision: dict[str, Measure] = {} if decisions.probability is None else {"average precision (AP)": _precision}
    recall: dict[str, Measure] = {"recall": _recall} if decisions.task == "multilabel" else {}
    return first | precision | recall


def _recall(mine: Decisions, c: int) -> float:
    counted = mine.has(c) & mine.tested
    return float(mine.predicts(c)[counted].mean()) if counted.any() else float("nan")


def _f1(mine: Decisions, c: int) -> float:
    """Mean over runs of 2 TP / (2 TP + FP + FN), as far as clips have the label or are predicted to have it."""
    has = mine.has(c) & mine.tested
    predicted = mine.predicts(c) & mine.tested
    sums = has.sum(1) + predicted.sum(1)
    found = 2 * (has & predicted).sum(1)[sums > 0] / sums[sums > 0]
    return float(found.mean()) if len(found) else float("nan")


def _precision(mine: Decisions, c: int) -> float:
    """Mean over runs of the average precision of a class or label."""
    if mine.probability is None:
        raise TypeError("probability must be known")
    has = mine.has(c)
    found = [
        average_precision(p[t, c].astype(float), has[t])
        for p, t in zip(mine.probability, mine.tested, strict=True)
        if has[t].any()
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
