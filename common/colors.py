"""Colors of lines and bars in every picture."""

from __future__ import annotations

# Okabe-Ito colors: they differ for color-blind readers and in gray. On pages, they are those of modalities.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Colors of settings on pages, for the light and the dark theme. They differ from each other, from `COLORS` and from the
# text in normal vision and with protanopia and deuteranopia (distances in Oklab after the simulation of Machado et al.
# 2009), and have a contrast of 3 to the background.
SETTING_COLORS = (
    ("#a964eb", "#9727e7"),
    ("#0b288e", "#6b92eb"),
    ("#6f441d", "#f6a47f"),
    ("#88916f", "#d8ed98"),
    ("#346065", "#95c4ca"),
    ("#602c3f", "#845e5d"),
)
