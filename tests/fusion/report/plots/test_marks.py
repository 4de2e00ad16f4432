from __future__ import annotations

import numpy as np
import pytest

from amr.common.colors import COLORS, SETTING_COLORS
from amr.fusion.report.plots.marks import key_of, kind_marker, modality_color, setting_color, style_marker
from amr.fusion.report.read import read_results
from amr.fusion.report.sections.methods import methods
from amr.fusion.report.settings import settings_of, with_styles

# Machado, Oliveira & Fernandes (2009), severity 1
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def linear(color: str) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson (2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.clip(np.array(to_lms) @ rgb, 0, 1))


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colors_of_settings_differ_from_each_other_and_from_those_of_modalities(vision, theme):
    seen = [oklab(np.clip(np.array(VISIONS[vision]) @ linear(pair[theme]), 0, 1)) for pair in SETTING_COLORS]
    dim = 0.8 if theme == 0 else 1.0  # the page mixes modalities' colors with black in the light theme
    shades = ["#" + "".join(f"{round(dim * int(c[i : i + 2], 16)):02x}" for i in (1, 3, 5)) for c in COLORS]
    others = [oklab(np.clip(np.array(VISIONS[vision]) @ linear(shade), 0, 1)) for shade in shades]
    for i, one in enumerate(seen):
        assert min(np.linalg.norm(one - other) for other in others) > 0.05
        assert min(np.linalg.norm(one - other) for k, other in enumerate(seen) if k != i) > 0.05


def test_55_settings_differ_in_color_or_symbol():
    marks = {(m["color"], m["symbol"]) for m in (style_marker(style, is_hollow=False) for style in range(55))}
    assert len(marks) == 55
    assert all(
        style_marker(s, is_hollow=False)["color"] != style_marker(s + 1, is_hollow=False)["color"] for s in range(54)
    )


def test_a_label_has_one_style_on_a_page_and_a_modality_one_color(made):
    one, two = (read_results(made(name)) for name in ("one", "two"))
    settings = with_styles([settings_of(one)[::-1], settings_of(two)])
    styles = [{setting.label: setting.style for setting in each} for each in settings]
    assert styles[0] == styles[1]
    assert styles[0]["no AMR"] == 0  # the reference
    assert sorted(styles[0].values()) == [0, 1, 2, 3, 4]
    numbers = [{setting.label: setting.number for setting in each} for each in settings]
    assert numbers[0] == numbers[1]
    assert [*numbers[0].values()] == [1, 2, 3, 4, 5]  # in the order of the first folder's table
    colors = {modality_color(one, m) for m in one.modalities} | {setting_color(s) for s in settings[0]}
    colors |= {kind_marker(i)["color"] for i in range(3)}
    assert len(colors) == 2 + 5 + 2  # the reference has the color of text, as the first kind has


def test_the_key_names_each_mark_once(pages):
    results = read_results(pages["table"].parent.parent / "table")
    picture = methods(results, settings_of(results))
    for plot in picture.plots.values():
        assert [(item.text, item.glyph) for item in key_of(plot)] == [("without AMR", "○"), ("with AMR", "■")]
