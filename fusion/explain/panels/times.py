"""Text, sound, frames and the weights of time steps, below each other on one time axis."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from matplotlib.axes import Axes

from amr.extract.pipeline.preview import SAMPLE_RATE_HZ, Media
from amr.fusion.explain.explanation import Steps
from amr.fusion.explain.panels.sheet import GAP, LEFT, RIGHT, WIDTH, Sheet, label
from amr.fusion.explain.words import is_wide

SOUND, STRIP, FRAMES = 1.25, 0.55, 0.85
TEXT_LINE, TEXT_LINES, TEXT_WIDTH = 0.17, 8, 112  # height and number of lines, and characters in one
MAX_HZ = 8000
QUIET_DB = 70  # this far below the loudest is white

Strip = tuple[str, float, str]  # content (sound, frames or steps), height in inches, modality


@dataclass(frozen=True)
class Timeline:
    """Text of a clip, which has no time, then what has one.

    Args:
        steps: Modality to the weights of its steps.
        media: Sound, frames and text of the clip.
        kinds: Modality to what its embedding was made from.
        colors: Modality to color.
    """

    steps: Mapping[str, Steps]
    media: Media
    kinds: Mapping[str, str]
    colors: Mapping[str, str]

    @cached_property
    def strips(self) -> list[Strip]:
        """Sound with the steps of audio embeddings, frames with those of video, then all other steps."""
        strips: list[Strip] = []
        media, kinds = self.media, self.kinds
        if len(media.sound):
            strips.append(("sound", SOUND, "audio"))
        strips += [("steps", STRIP, m) for m in self.steps if kinds[m] == "audio"]
        if len(media.frames):
            strips.append(
                ("frames", min(FRAMES, _slot(media) * media.frames.shape[1] / media.frames.shape[2]), "video")
            )
        strips += [("steps", STRIP, m) for m in self.steps if kinds[m] == "video"]
        return strips + [("steps", STRIP, m) for m in self.steps if kinds[m] not in ("audio", "video", "text")]

    @cached_property
    def lines(self) -> list[str]:
        """First lines of the clip's text, if a modality is made from it."""
        if "text" not in self.kinds.values():
            return []
        width = TEXT_WIDTH // 2 if is_wide(self.media.text) else TEXT_WIDTH
        return textwrap.wrap(self.media.text, width, max_lines=TEXT_LINES, placeholder=" ...")

    @property
    def height(self) -> float:
        """Height of all, in inches."""
        of_text = TEXT_LINE * len(self.lines) + (STRIP + GAP) * len(self._steps_of_text) + GAP * bool(self.lines)
        return sum(height for _, height, _ in self.strips) + GAP * len(self.strips) + of_text

    @property
    def _steps_of_text(self) -> dict[str, Steps]:
        return {m: steps for m, steps in self.steps.items() if self.kinds[m] == "text"}

    def draw(self, sheet: Sheet) -> None:
        """Draw the text, then for each of its embeddings with steps which part of it mattered, then the strips."""
        for i, line in enumerate(self.lines):
            y = 1 - (sheet.y + TEXT_LINE * (i + 0.5)) / sheet.height
            if i == 0:
                sheet.figure.text((LEFT - 0.5) / WIDTH, y, "text", fontsize=8.5, ha="right", va="center")
            sheet.figure.text(LEFT / WIDTH, y, line, fontsize=8.5, va="center")
        sheet.skip(TEXT_LINE * len(self.lines) + GAP * bool(self.lines))
        for m, weights in self._steps_of_text.items():
            axes = sheet.axes(LEFT, WIDTH - LEFT - RIGHT, STRIP)
            _draw_steps(axes, weights, m, self.colors[m], 1.0, word="where")
            axes.set_xlim(0, 1)
            axes.set_xticks([])
            sheet.skip(STRIP + GAP)
        self._draw_strips(sheet)

    def _draw_strips(self, sheet: Sheet) -> None:
        """Draw the strips over the clip's time, in seconds if media give its duration, else in fractions."""
        duration = max(self.media.duration_seconds.values(), default=1.0)
        for number, (content, height, m) in enumerate(self.strips):
            axes = sheet.axes(LEFT, WIDTH - LEFT - RIGHT, height)
            if content == "sound":
                _draw_sound(axes, self.media)
            elif content == "frames":
                _draw_frames(axes, self.media, height)
            else:
                stretch = 1.0 if self.steps[m].in_seconds else duration
                _draw_steps(axes, self.steps[m], m, self.colors[m], stretch)
            axes.set_xlim(0, duration)
            last = number == len(self.strips) - 1
            axes.tick_params(axis="x", labelbottom=last, length=3 if last else 0, labelsize=8)
            if last:
                has_seconds = bool(self.media.duration_seconds)
                axes.set_xlabel("seconds" if has_seconds else "time, as a fraction of the clip", fontsize=8.5)
            sheet.skip(height + GAP)


def _slot(media: Media) -> float:
    """Width of one frame's part of the time axis, in inches."""
    return (WIDTH - LEFT - RIGHT) / len(media.frames)


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
    label(axes, "sound\nkHz")
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
    label(axes, "frames")
    axes.spines[:].set_visible(False)


def _draw_steps(axes: Axes, steps: Steps, modality: str, color: str, stretch: float, *, word: str = "when") -> None:
    """One bar per step; the dotted line is the weight if all steps were equal."""
    start, end = (np.array(times) * stretch for times in (steps.start_seconds, steps.end_seconds))
    axes.bar(start, steps.weight, width=end - start, align="edge", color=color, edgecolor="white", linewidth=0.8)
    axes.axhline(1 / len(steps.weight), color="#000000", linewidth=0.8, linestyle=":")
    most = max(*steps.weight, 1 / len(steps.weight))
    axes.set_ylim(0, most * 1.15)
    axes.set_yticks([most], [f"{most:.0%}" if most >= 0.1 else f"{most:.1%}"], fontsize=8)
    label(axes, f"{word} {textwrap.shorten(modality, 14, placeholder='...')}\nmattered")
    axes.spines[["top", "right"]].set_visible(False)
