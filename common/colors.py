"""Colors of lines and bars in every picture."""

from __future__ import annotations

# Okabe-Ito colors: they differ for color-blind readers and in gray
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
