"""Sheet that a picture is laid out on, in inches, and what all of its panels share."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

WIDTH, MARGIN, LEFT, RIGHT, GAP = 10.0, 0.25, 1.75, 0.35, 0.16  # all sizes in inches
ROW, FOOT_LINE, BELOW = 0.27, 0.17, 0.62  # height of a row and of a line of notes, and space below a panel's axis


class Sheet:
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


def heading(axes: Axes, text: str) -> None:
    """Heading above a panel."""
    axes.set_title(text, loc="left", fontsize=9.5, pad=6)


def bare(axes: Axes) -> None:
    """Leave the lower axis alone."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=3)


def unit_axis(axes: Axes) -> None:
    """Horizontal axis from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=8)


def label(axes: Axes, text: str) -> None:
    """Label a panel at a fixed distance from its axis, independent of the tick labels."""
    axes.text(-0.5 / inches(axes)[0], 0.5, text, transform=axes.transAxes, fontsize=8.5, ha="right", va="center")


def inches(axes: Axes) -> tuple[float, float]:
    """Width and height in inches."""
    box = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    return float(box.width), float(box.height)


def ink(color: str) -> str:
    """Black or white, whichever is more readable on the color."""
    red, green, blue = to_rgb(color)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "#ffffff"
