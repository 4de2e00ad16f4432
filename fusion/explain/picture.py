"""Picture of `amr explain`, laid out in inches, so that frames, sound and steps have a common time axis."""

from __future__ import annotations

import textwrap
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from amr.common.colors import COLORS
from amr.common.files import replacing
from amr.common.options import printable
from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media
from amr.fusion.explain.config import MARK
from amr.fusion.explain.explanation import NAMES, Explanation, Removed, Steps, class_text

WIDTH, MARGIN, LEFT, RIGHT, GAP = 10.0, 0.25, 1.75, 0.35, 0.16  # all sizes in inches
ROW, HEAD, FOOT_LINE = 0.27, 0.95, 0.17
SHARES, SOUND, STRIP, FRAMES = 2.0, 1.25, 0.55, 0.85
TEXT_LINE, TEXT_LINES, TEXT_WIDTH = 0.17, 8, 112  # height and number of lines, and characters in one
MAX_HZ = 8000
QUIET_DB = 70  # this far below the loudest is white
NO_TIME: dict[str, dict[str, None]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
PREDICTED, TRUE = "#333333", "#b0b0b0"


@rc_context({"text.parse_math": False})  # a $ in the name of a class is a $
def draw(file: Path, explanation: Explanation, media: Media, kinds: Mapping[str, str]) -> None:
    """Write the picture: shares and removals side by side; below them text, sound, frames and the weights of steps.

    Args:
        file: Picture to write, .png, .svg or .pdf.
        explanation: Numbers to show.
        media: Sound, frames and text of the clip; empty if they are not available.
        kinds: Modality to audio, video, text, or what else its embedding was made from.
    """
    colors = {m: COLORS[i % len(COLORS)] for i, m in enumerate(explanation.modalities)}
    rows = _removal_rows(explanation)
    top = ROW * max(len(rows) * (2 if _shows_true(explanation) else 1.3), len(NAMES) * 1.3)
    panels = _time_panels(explanation, media, kinds)
    text = _text_lines(media) if "text" in kinds.values() else []
    text_steps = [m for m in explanation.steps if kinds[m] == "text"]
    times = sum(height for _, height, _ in panels) + GAP * len(panels)
    times += TEXT_LINE * len(text) + (STRIP + GAP) * len(text_steps) + GAP * bool(text)
    notes = _footer(explanation)
    foot = FOOT_LINE * len(notes) + (0.55 if panels else 0.2)
    head = HEAD + 0.3 + FOOT_LINE * _removals_heading(explanation).count("\n")
    figure = Figure(figsize=(WIDTH, head + top + 0.62 + times + foot))
    sheet = _Sheet(figure)
    _title(sheet, explanation)
    sheet.skip(head)
    _draw_shares(sheet.axes(LEFT, 2.75, min(top, SHARES)), explanation, colors)
    _draw_removals(sheet.axes(LEFT + 2.75 + 1.9, WIDTH - LEFT - 2.75 - 1.9 - 0.95, top), explanation, rows)
    sheet.skip(top + 0.62)
    _draw_text(sheet, text, {m: explanation.steps[m] for m in text_steps}, colors)
    _draw_times(sheet, panels, explanation, media, colors)
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


class _Sheet:
    """Axes placed from the top of a figure downwards, in inches."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.height = float(figure.get_figheight())
        self.y = 0.0

    def skip(self, inches: float) -> None:
        """Move down."""
        self.y += inches

    def axes(self, left: float, width: float, height: float) -> Axes:
        """Axes that start at the current height."""
        bottom = self.height - self.y - height
        return self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))


def _title(sheet: _Sheet, e: Explanation) -> None:
    truth = "" if e.true is None else ", correct" if e.true == e.pred else f"; the label is {class_text(e.true)}"
    decision = f"{class_text(e.pred)} with probability {e.probabilities[e.pred]:.2f}{truth}"
    lines = (
        (0.3, 13, "bold", "#000000", textwrap.shorten(Path(e.clip).name, 80, placeholder="...")),
        (0.56, 10.5, "normal", "#000000", decision),
        (0.79, 8, "normal", "#555555", f"{_shortened(e.run, 60)}: head {e.head}, method {e.method}, {_ratio(e)}"),
    )
    for y, size, weight, color, text in lines:
        sheet.figure.text(MARGIN / WIDTH, 1 - y / sheet.height, text, fontsize=size, weight=weight, color=color)


def _ratio(e: Explanation) -> str:
    return "without AMR" if e.amr_ratio is None else f"AMR {e.amr_ratio}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _short_class(label: str | None, most: int = 20) -> str:
    """Shorten the name of a class."""
    return class_text(textwrap.shorten(label or "", most, placeholder="..."))


def _shows_true(e: Explanation) -> bool:
    return e.true is not None and e.true != e.pred


def _draw_shares(axes: Axes, e: Explanation, colors: Mapping[str, str]) -> None:
    """One bar per attribution, divided among the modalities."""
    for row, shares in enumerate(e.share.values()):
        left = 0.0
        for m, share in shares.items():
            if share is None:
                continue
            axes.barh(row, share, left=left, height=0.62, color=colors[m], edgecolor="white", linewidth=0.8)
            if share >= 0.11:
                ink, middle = _ink(colors[m]), left + share / 2
                axes.text(middle, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=ink)
            left += share
        if left == 0:
            axes.text(0.5, row, "fewer than two modalities", ha="center", va="center", fontsize=8, color="#777777")
    axes.set_yticks(range(len(e.share)), [NAMES[name] for name in e.share], fontsize=8.5)
    axes.set_ylim(len(e.share) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=8)
    _bare(axes)
    _heading(axes, "share of the decision, by")
    handles = [Patch(color=color, label=m) for m, color in colors.items()]
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.3 / _inches(axes)[1]),
        ncols=min(3, len(handles)),
        fontsize=8,
        frameon=False,
        borderaxespad=0,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    )


def _removal_rows(e: Explanation) -> list[tuple[str, Removed]]:
    """Predictions with all modalities, then without each modality by each baseline."""
    p = e.probabilities
    rows = [("with everything", Removed(e.pred, p[e.pred], p[e.pred], None if e.true is None else p[e.true]))]
    for m in next(iter(e.removed.values())):
        for baseline, by_modality in e.baselines.items():
            separator = "\n" if " or " in baseline else ": "
            rows.append((f"without {m}{separator}{baseline}", by_modality[m]))
    return rows


def _draw_removals(axes: Axes, e: Explanation, rows: Sequence[tuple[str, Removed]]) -> None:
    """Probability of the predicted class, and of the true class if it is another."""
    both = _shows_true(e)
    height = 0.36 if both else 0.62
    for row, (_, removed) in enumerate(rows):
        bars = [(removed.probability, PREDICTED)]
        if both and removed.true_probability is not None:
            bars.append((removed.true_probability, TRUE))
        for i, (value, color) in enumerate(bars):
            y = row + (i - (len(bars) - 1) / 2) * height
            axes.barh(y, value, height=height, color=color)
            other = ""
            if removed.pred != e.pred and i == 0:
                other = f"   now {_short_class(removed.pred, 14)}: {removed.pred_probability:.2f}"
            axes.text(value + 0.015, y, f"{value:.2f}{other}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=8)
    _bare(axes)
    _heading(axes, _removals_heading(e))


def _removals_heading(e: Explanation) -> str:
    """Which classes the bars are of, on as many lines as their names take."""
    text = f"probability of {_short_class(e.pred)}"
    if _shows_true(e):
        text += f" (dark) and {_short_class(e.true)} (light)"
    return textwrap.fill(text, 50)


Panel = tuple[str, float, str]  # content (sound, frames or steps), height in inches, modality


def _time_panels(e: Explanation, media: Media, kinds: Mapping[str, str]) -> list[Panel]:
    """Sound with the steps of audio embeddings, frames with those of video, then all other steps."""
    panels: list[Panel] = []
    if len(media.sound):
        panels.append(("sound", SOUND, "audio"))
    panels += [("steps", STRIP, m) for m in e.steps if kinds[m] == "audio"]
    if len(media.frames):
        panels.append(("frames", min(FRAMES, _slot(media) * media.frames.shape[1] / media.frames.shape[2]), "video"))
    panels += [("steps", STRIP, m) for m in e.steps if kinds[m] == "video"]
    return panels + [("steps", STRIP, m) for m in e.steps if kinds[m] not in ("audio", "video", "text")]


def _text_lines(media: Media) -> list[str]:
    """First lines of the clip's text."""
    is_wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in media.text)
    width = TEXT_WIDTH // 2 if is_wide else TEXT_WIDTH
    return textwrap.wrap(media.text, width, max_lines=TEXT_LINES, placeholder=" ...")


def _draw_text(sheet: _Sheet, lines: Sequence[str], steps: Mapping[str, Steps], colors: Mapping[str, str]) -> None:
    """Text of the clip, then for each of its embeddings with steps which part of it mattered. It has no time."""
    for i, line in enumerate(lines):
        y = 1 - (sheet.y + TEXT_LINE * (i + 0.5)) / sheet.height
        if i == 0:
            sheet.figure.text((LEFT - 0.5) / WIDTH, y, "text", fontsize=8.5, ha="right", va="center")
        sheet.figure.text(LEFT / WIDTH, y, line, fontsize=8.5, va="center")
    sheet.skip(TEXT_LINE * len(lines) + GAP * bool(lines))
    for m, weights in steps.items():
        axes = sheet.axes(LEFT, WIDTH - LEFT - RIGHT, STRIP)
        _draw_steps(axes, weights, m, colors[m], 1.0, word="where")
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        sheet.skip(STRIP + GAP)


def _slot(media: Media) -> float:
    """Width of one frame's part of the time axis, in inches."""
    return (WIDTH - LEFT - RIGHT) / len(media.frames)


def _draw_times(
    sheet: _Sheet, panels: Sequence[Panel], e: Explanation, media: Media, colors: Mapping[str, str]
) -> None:
    """Panels below each other over the clip's time, in seconds if media give its duration, else in fractions."""
    duration = max(media.duration_seconds.values(), default=1.0)
    for number, (content, height, m) in enumerate(panels):
        axes = sheet.axes(LEFT, WIDTH - LEFT - RIGHT, height)
        if content == "sound":
            _draw_sound(axes, media)
        elif content == "frames":
            _draw_frames(axes, media, height)
        else:
            stretch = 1.0 if e.steps[m].in_seconds else duration
            _draw_steps(axes, e.steps[m], m, colors[m], stretch)
        axes.set_xlim(0, duration)
        last = number == len(panels) - 1
        axes.tick_params(axis="x", labelbottom=last, length=3 if last else 0, labelsize=8)
        if last:
            axes.set_xlabel("seconds" if media.duration_seconds else "time, as a fraction of the clip", fontsize=8.5)
        sheet.skip(height + GAP)


def _draw_sound(axes: Axes, media: Media) -> None:
    """Power over time and frequency; dark is loud."""
    window = min(512, len(media.sound))
    hz, seconds, power = scipy.signal.spectrogram(media.sound, SAMPLE_RATE_HZ, nperseg=window, noverlap=window * 3 // 4)
    decibel = 10 * np.log10(power + 1e-12)
    loudest = float(decibel.max())
    half = seconds[0]
    axes.imshow(
        decibel[::-1],
        extent=(seconds[0] - half, seconds[-1] + half, hz[0] / 1000, hz[-1] / 1000),
        aspect="auto",
        cmap="Greys",
        vmin=loudest - QUIET_DB,
        vmax=loudest,
        interpolation="nearest",
    )
    axes.set_ylim(0, MAX_HZ / 1000)
    axes.set_yticks([0, 4, 8])
    axes.tick_params(axis="y", labelsize=8)
    _label(axes, "sound\nkHz")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_frames(axes: Axes, media: Media, height: float) -> None:
    """Frames, undistorted, each in the middle of its part of the clip."""
    duration = media.duration_seconds["video"]
    num_frames, rows, columns = media.frames.shape[:3]
    part = duration / num_frames
    width = min(part, part * (height * columns / rows) / _slot(media))
    for i, frame in enumerate(media.frames):
        middle = (i + 0.5) * part
        image = frame.view(np.uint8)  # from another process; matplotlib below 3.11 wants its own dtype object
        axes.imshow(image, extent=(middle - width / 2, middle + width / 2, 0, 1), aspect="auto")
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    _label(axes, "frames")
    axes.spines[:].set_visible(False)


def _draw_steps(axes: Axes, steps: Steps, modality: str, color: str, stretch: float, *, word: str = "when") -> None:
    """One bar per step; the dotted line is the weight if all steps were equal."""
    start, end = (np.array(times) * stretch for times in (steps.start_seconds, steps.end_seconds))
    axes.bar(start, steps.weight, width=end - start, align="edge", color=color, edgecolor="white", linewidth=0.8)
    axes.axhline(1 / len(steps.weight), color="#000000", linewidth=0.8, linestyle=":")
    most = max(*steps.weight, 1 / len(steps.weight))
    axes.set_ylim(0, most * 1.15)
    axes.set_yticks([most], [f"{most:.0%}" if most >= 0.1 else f"{most:.1%}"], fontsize=8)
    _label(axes, f"{word} {textwrap.shorten(modality, 14, placeholder='...')}\nmattered")
    axes.spines[["top", "right"]].set_visible(False)


def _footer(e: Explanation) -> list[str]:
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


def _label(axes: Axes, text: str) -> None:
    """Label a panel at a fixed distance from its axis, independent of the tick labels."""
    axes.text(-0.5 / _inches(axes)[0], 0.5, text, transform=axes.transAxes, fontsize=8.5, ha="right", va="center")


def _heading(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, pad=6)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=3)


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height in inches."""
    box = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    return float(box.width), float(box.height)


def _ink(color: str) -> str:
    """Black or white, whichever is more readable on the color."""
    red, green, blue = to_rgb(color)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "#ffffff"
