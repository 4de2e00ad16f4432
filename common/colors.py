"""Colors of lines and bars in every picture."""

from __future__ import annotations

# Okabe-Ito colours: told apart with colour-blind eyes and in grey
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
