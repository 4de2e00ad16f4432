"""What mkdocstrings needs to show doctests as code: a section that begins at the first one."""

from __future__ import annotations

import textwrap
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Give each docstring's doctests a section."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = with_section(obj.docstring.value)


def with_section(docstring: str) -> str:
    r"""The docstring with a heading before its first doctest, of the name that griffe knows.

    >>> with_section("Add.\n\n>>> 1 + 1\n2")
    'Add.\n\nExamples:\n    >>> 1 + 1\n    2'
    """
    if "\nExample:\n" in docstring:
        return docstring.replace("\nExample:\n", "\nExamples:\n")
    text, start, examples = docstring.partition("\n>>> ")
    if not start:
        return docstring
    return f"{text}\nExamples:\n{textwrap.indent(start[1:] + examples, '    ')}"
