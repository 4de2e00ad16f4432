"""Colors, symbols and patterns of what pictures show, and the key below each picture.

Three families of colors never meet: those of modalities, those of settings, and shades of gray for kinds of measures.
Colors are variables of the style sheet (`var(--ink)`); the page replaces them by those of the current theme.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amr.common.colors import COLORS, SETTING_COLORS
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting

INK, MUTED, GRID, SURFACE = "var(--ink)", "var(--muted)", "var(--grid)", "var(--surface)"
# Plotly's symbol to the letters of the key: filled, and hollow for settings without AMR.
GLYPHS = {
    "circle": "●○",
    "square": "■□",
    "diamond": "◆◇",
    "triangle-up": "▲△",
    "x": "✖✕",
    "star": "★☆",
    "triangle-down": "▼▽",
    "cross": "✚✛",
    "pentagon": "⬟⬠",
    "hexagon": "⬢⬡",
}
SYMBOLS = tuple(GLYPHS)
PATTERNS = ("", "/", "-", "\\", "|", "x", "+")
GRAYS = (INK, MUTED, "var(--faint)")  # kinds of measures, told by symbol or pattern, too


def label(text: str) -> str:
    """Escape a user's name, so that Plotly finds no markup in it.

    >>> label("<b>meow")
    '&lt;b&gt;meow'
    """
    return html.escape(text, quote=False)


def style_color(style: int) -> str:
    """Color of a style: that of text for the reference, else one of the settings' colors."""
    return INK if style == 0 else f"var(--s{(style - 1) % len(SETTING_COLORS)})"


def style_symbol(style: int) -> str:
    """Symbol of a style: 1 + 54 styles differ in color or symbol."""
    rest = SYMBOLS[1:]
    return SYMBOLS[0] if style == 0 else rest[(style - 1 + (style - 1) // len(SETTING_COLORS)) % len(rest)]


def style_marker(style: int, *, is_hollow: bool, size: int = 9) -> dict[str, Any]:
    """Options of the point of a style."""
    shade, symbol = style_color(style), style_symbol(style) + "-open" * is_hollow
    return {"color": shade, "size": size, "symbol": symbol, "line": {"width": 2, "color": shade}}


def setting_color(setting: Setting) -> str:
    """Color of a setting."""
    return style_color(setting.style)


def thin(shade: str) -> str:
    """A variable's color, half transparent: for the whiskers of many points."""
    return shade.replace(")", "-thin)")


def setting_area(setting: Setting) -> str:
    """Color of an area behind a setting's line."""
    return setting_color(setting).replace(")", "-soft)")


def setting_marker(setting: Setting, size: int = 9) -> dict[str, Any]:
    """Options of the point of a setting: hollow without AMR."""
    return style_marker(setting.style, is_hollow=not setting.regularized, size=size)


def setting_bar(setting: Setting) -> dict[str, Any]:
    """Options of the bar of a setting: color, and a pattern for those who do not tell colors apart."""
    return patterned(setting_color(setting), PATTERNS[setting.style % len(PATTERNS)])


def modality_color(results: ResultFolder, modality: str) -> str:
    """Color of a modality."""
    return f"var(--c{results.place_of(modality) % len(COLORS)})"


def modality_bar(results: ResultFolder, modality: str) -> dict[str, Any]:
    """Options of the bar of a modality."""
    return patterned(modality_color(results, modality), PATTERNS[results.place_of(modality) // len(COLORS)])


def kind_marker(index: int, size: int = 11) -> dict[str, Any]:
    """Options of the point of a kind of measure, in gray."""
    shade = GRAYS[index % len(GRAYS)]
    symbol = ("circle-open", "square", "diamond-open", "triangle-up", "x-open")[index % 5]
    return {"size": size, "symbol": symbol, "color": shade, "line": {"width": 2, "color": shade}}


def kind_bar(index: int) -> dict[str, Any]:
    """Options of the bar of a kind of measure, in gray."""
    return patterned(GRAYS[(index + 1) % len(GRAYS)], PATTERNS[index % len(PATTERNS)])


def patterned(shade: str, pattern: str) -> dict[str, Any]:
    """Options of a bar with a pattern in the color of the background."""
    if not pattern:
        return {"color": shade}
    shape = {"shape": pattern, "size": 7, "solidity": 0.25, "fillmode": "overlay", "fgcolor": SURFACE}
    return {"color": shade, "pattern": shape}


@dataclass(frozen=True)
class KeyItem:
    """One entry of the key below a picture.

    Args:
        text: Name of a setting, modality or kind.
        color: Color of its mark.
        glyph: Its symbol or line; empty for a bar.
        pattern: Name of the bar's pattern, for the style sheet; empty for none.
    """

    text: str
    color: str
    glyph: str = ""
    pattern: str = ""


_PATTERN_NAMES = {"/": "up", "\\": "down", "-": "across", "|": "along", "x": "crossed", "+": "squared"}
_LINES = {"solid": "━━", "dash": "╍╍", "dot": "┅┅", "dashdot": "╍┅"}


def key_of(plot: Mapping[str, Any]) -> list[KeyItem]:
    """Key of a plot: one entry per name of its traces, in the order of their ranks."""
    items: dict[str, KeyItem] = {}
    for trace in sorted(plot["data"], key=lambda trace: trace.get("legendrank", 1000)):
        name = trace.get("name")
        if name and name not in items and trace.get("showlegend") is not False:
            items[name] = _item(html.unescape(name), trace)
    return [*items.values()]


def _item(text: str, trace: Mapping[str, Any]) -> KeyItem:
    marker, line = trace.get("marker") or {}, trace.get("line") or {}
    if trace["type"] == "bar":
        shape = marker.get("pattern", {}).get("shape", "")
        return KeyItem(text, marker["color"], pattern=_PATTERN_NAMES.get(shape, ""))
    if "markers" in trace.get("mode", "") and line.get("dash") == "dot":
        return KeyItem(text, marker["color"], "┄◯┄")
    if "markers" in trace.get("mode", ""):
        symbol = str(marker["symbol"])
        hollow = symbol.endswith("-open")
        return KeyItem(text, marker["color"], GLYPHS[symbol.removesuffix("-open")][hollow])
    return KeyItem(text, line.get("color", INK), _LINES.get(line.get("dash", "solid"), "━━"))
