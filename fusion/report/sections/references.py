"""Heads compared with the uni-modal heads of their modalities: information, and overfitting."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from amr.fusion.report.plots.marks import INK, SYMBOLS, kind_bar, label, modality_bar, modality_color
from amr.fusion.report.plots.picture import Picture, of_all, plot, rows_height, tick
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import fraction, make_table

MAX_ROWS = 14
PROBE = (
    "accuracy of a linear probe on z of the modality, over that on z of the modality's own head; below 1 if joint "
    "training left its adapter weaker"
)


@sections.register("information")
def information(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Redundant, unique and synergistic information of each setting, in bits."""
    known = [setting for setting in settings if setting.mean("information.joint") is not None]
    every = known
    known = every if len(every) <= MAX_ROWS else shown(every, MAX_ROWS)
    if not known:
        return None
    modalities = known[0].modalities
    kinds = {"redundancy": "information.redundancy"}
    kinds |= {f"unique in {m}": f"information.unique.{m}" for m in modalities}
    kinds |= {"synergy": "information.synergy"}
    columns = {"head": "information.joint", **{f"{m} alone": f"information.unimodal.{m}" for m in modalities}, **kinds}
    figure = go.Figure()
    ticks = [tick(setting.label) for setting in known]
    for kind, name in kinds.items():
        of = kind.removeprefix("unique in ")
        figure.add_bar(
            y=ticks,
            x=[setting.mean(name) for setting in known],
            orientation="h",
            name=label(kind),
            marker=modality_bar(results, of) if of != kind else kind_bar(int(kind == "synergy")),
            hovertemplate=f"%{{y}}<br>{label(kind)}: %{{x:.3f}} bits<extra></extra>",
        )
    two = len(modalities) == 2  # the parts of more modalities do not add up
    height = rows_height(ticks, 1 if two else len(kinds))
    entropy = known[0].mean("information.label")
    figure.update_xaxes(title={"text": "bits about the class"})
    figure.update_yaxes(autorange="reversed", type="category")
    listed = [
        f"{g.label}: " + ", ".join(f"{kind} {fraction(g.mean(name))}" for kind, name in kinds.items()) for g in known
    ]
    return Picture(
        "information",
        "Information that is there to use",
        "Entropy of the class minus the NLL of a head, in bits, on test. Redundancy: the least that a uni-modal head "
        "knows; unique: what the head of a modality knows beyond that; synergy: what the joint head knows beyond the "
        "best of them. Redundancy and synergy are upper bounds and unique information is a lower bound, up to the "
        "noise of few clips; a poor joint head makes synergy negative."
        + " Together the parts are what the joint head knows." * two
        + ("" if entropy is None else f" The class itself has {entropy:.2f} bits.")
        + of_all(known, every),
        f"Bars of bits. {'; '.join(listed)}.",
        {"": plot(figure, height, barmode="relative" if two else "group", bargap=0.25)},
        make_table(
            "information-data",
            "Information about the class, in bits.",
            ["setting", *columns],
            [[g.label, *(g.mean(name) for name in columns.values())] for g in known],
        ),
    )


@sections.register("overfitting")
def overfitting(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Overfitting over generalization of each head and of its uni-modal heads, with probes of z in the table."""
    known = [setting for setting in settings if setting.mean("ogr.joint") is not None]
    every = known
    known = every if len(every) <= MAX_ROWS else shown(every, MAX_ROWS)
    if not known:
        return None
    modalities = known[0].modalities
    heads = {"head": "ogr.joint", **{f"{m} alone": f"ogr.unimodal.{m}" for m in modalities}}
    figure = go.Figure()
    ticks = [tick(setting.label) for setting in known]
    for index, (head, name) in enumerate(heads.items()):
        shade = INK if index == 0 else modality_color(results, modalities[index - 1])
        figure.add_scatter(
            y=ticks,
            x=[setting.mean(name) for setting in known],
            mode="markers",
            name=label(head),
            marker={"size": 11, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": shade},
            hovertemplate=f"%{{y}}<br>{label(head)}: %{{x:.3f}}<extra></extra>",
        )
    figure.update_xaxes(title={"text": "overfitting over generalization"}, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    probes = {f"probe of {m}": f"probe.ratio.{m}" for m in modalities}
    probes = {title: name for title, name in probes.items() if any(g.mean(name) is not None for g in known)}
    columns = {"gain over the best uni-modal head": "gain_over_best_unimodal", **heads, **probes}
    listed = [
        f"{g.label}: " + ", ".join(f"{head} {fraction(g.mean(name))}" for head, name in heads.items()) for g in known
    ]
    return Picture(
        "overfitting",
        "Overfitting over generalization",
        "Growth of the gap between val and train loss, over the fall of the val loss, from the initial weights to the "
        "saved ones: of the joint head, and of each modality's head trained alone. Lower is better: less is memorized "
        "for what is learned." + (" The table has the probes of z." if probes else "") + of_all(known, every),
        f"Dots of overfitting over generalization. {'; '.join(listed)}.",
        {"": plot(figure, rows_height(ticks))},
        make_table(
            "overfitting-data",
            "Overfitting over generalization, and gain over the best uni-modal head.",
            ["setting", *columns],
            [[g.label, *(g.mean(name) for name in columns.values())] for g in known],
            dict.fromkeys(probes, PROBE),
        ),
    )
