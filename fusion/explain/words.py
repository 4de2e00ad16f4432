"""Texts that must fit."""

from __future__ import annotations

import unicodedata


def is_wide(text: str) -> bool:
    """Whether a text has letters of double width, such as Chinese ones."""
    return any(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def width_of(text: str) -> int:
    """Width of a text in letters, of which wide ones count twice.

    >>> width_of("dog"), width_of("早上")
    (3, 4)
    """
    return sum(2 if is_wide(letter) else 1 for letter in text)


def cut(text: str, letters: int) -> str:
    """Start of a text that is too long.

    >>> cut("everything", 6), cut("audio", 6), cut("早上好早上好", 8)
    ('eve...', 'audio', '早上...')
    """
    if width_of(text) <= letters:
        return text
    while text and width_of(text) > letters - 3:
        text = text[:-1]
    return f"{text}..."
