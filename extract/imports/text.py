"""Values of any kind as the text that people write."""

from __future__ import annotations

import numpy as np
import pandas as pd


def to_texts(values: np.ndarray, *, verbatim: bool = False) -> list[str]:
    """Text of each value, "" if it is absent. Whole numbers become 3, not 3.0.

    Args:
        values: Values of any shape.
        verbatim: Whether to leave values stored as text unchanged, even if they are numbers.
    """
    found = values.ravel().tolist()
    texts: list[str] = found if values.dtype.kind == "U" else [_text(value) for value in found]
    if verbatim and values.dtype.kind in "OUS":
        return texts
    joined = "".join(texts)
    if ("." in joined or "e" in joined or "E" in joined) and all(map(_is_number_or_empty, texts)):
        texts = [text and _text(float(text)) for text in texts]
    return texts


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None or value is pd.NA else str(value)


def _is_number_or_empty(text: str) -> bool:
    try:
        return not text or bool(np.isfinite(float(text)))
    except ValueError:
        return False
