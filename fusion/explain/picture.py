"""Picture of `amr explain`, laid out in inches, so that frames, sound and steps have a common time axis."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from amr.common.colors import COLORS
from amr.common.files import replacing
from amr.common.options import printable
from amr.extract.pipeline.preview import Media
from amr.fusion.explain.config import MARK
from amr.fusion.explain.explanation import Explanation
from amr.fusion.explain.panels.base import Panels
from amr.fusion.explain.panels.classes import ClassPanels
from amr.fusion.explain.panels.labels import LabelsPanels
from amr.fusion.explain.panels.number import NumberPanels
from amr.fusion.explain.panels.sheet import FOOT_LINE, MARGIN, WIDTH, Sheet
from amr.fusion.explain.panels.times import Timeline

HEAD = 0.95  # height of the title, in inches
NO_TIME: dict[str, dict[str, None]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
PANELS: Mapping[str, type[Panels[Any]]] = {
    "multiclass": ClassPanels,
    "multilabel": LabelsPanels,
    "regression": NumberPanels,
}


@rc_context({"text.parse_math": False})  # a $ in the name of a class is a $
def draw(file: Path, explanation: Explanation[Any], media: Media, kinds: Mapping[str, str]) -> None:
    """Write the picture: shares and removals; below them text, sound, frames and the weights of steps.

    Args:
        file: Picture to write, .png, .svg or .pdf.
        explanation: Numbers to show.
        media: Sound, frames and text of the clip; empty if they are not available.
        kinds: Modality to audio, video, text, or what else its embedding was made from.
    """
    colors = {m: COLORS[i % len(COLORS)] for i, m in enumerate(explanation.modalities)}
    panels = PANELS[explanation.task](explanation, colors)
    timeline = Timeline(explanation.steps, media, kinds, colors)
    notes = _footer(explanation)
    foot = FOOT_LINE * len(notes) + (0.55 if timeline.strips else 0.2)
    head = HEAD + 0.3 + panels.space_above
    figure = Figure(figsize=(WIDTH, head + panels.height + timeline.height + foot))
    sheet = Sheet(figure)
    _title(sheet, explanation)
    sheet.skip(head)
    panels.draw(sheet)
    timeline.draw(sheet)
    for i, line in enumerate(notes):
        y = 0.12 + FOOT_LINE * (len(notes) - 1 - i)
        figure.text(MARGIN / WIDTH, y / sheet.height, line, fontsize=7.5, color="#555555")
    for found in figure.findobj(Text):  # names with control characters make no valid .svg
        found.set_text("\n".join(map(printable, found.get_text().split("\n"))))
    # no time and no random names: the same explanation gives the same bytes
    metadata = {"Creator": MARK, **NO_TIME.get(file.suffix.lower(), {})}
    with replacing(file) as partial, rc_context({"svg.hashsalt": MARK}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters that the font lacks are boxes
        figure.savefig(partial, dpi=150, metadata=metadata)


def _title(sheet: Sheet, e: Explanation[Any]) -> None:
    lines = (
        (0.3, 13, "bold", "#000000", textwrap.shorten(Path(e.clip).name, 80, placeholder="...")),
        (0.56, 10.5, "normal", "#000000", e.sentence),
        (0.79, 8, "normal", "#555555", f"{_shortened(e.run, 60)}: head {e.head}, method {e.method}, {_ratio(e)}"),
    )
    for y, size, weight, color, text in lines:
        sheet.figure.text(MARGIN / WIDTH, 1 - y / sheet.height, text, fontsize=size, weight=weight, color=color)


def _ratio(e: Explanation[Any]) -> str:
    return "without AMR" if e.amr_ratio is None else f"AMR {e.amr_ratio}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _footer(e: Explanation[Any]) -> list[str]:
    """Notes below the picture."""
    lines = ["zero: the modality is set to 0 and marked absent; mean: it is replaced by its mean over the train clips."]
    if "mean" not in e.removed:
        lines = ["zero: the modality is set to 0 and marked absent."]
    elif len(e.baselines) == 1:
        lines = [
            "zero or mean: the modality is absent, or is replaced by its mean over the train clips; both agree here."
        ]
    if e.steps:
        lines.append("when: the part of a modality's gradient x input in each step; dotted: all steps equal.")
    else:
        lines.append("The embeddings have no time steps, so the picture does not show when a modality mattered.")
    return [line for text in (*lines, "; ".join(e.notes)) for line in textwrap.wrap(text, 150)]
