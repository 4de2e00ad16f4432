"""Links of documents, as they work in the repository, turned into those of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

FENCE = re.compile(r"(^```.*?^```\n?)", re.DOTALL | re.MULTILINE)
TARGET = re.compile(r'(\]\(|<img src=")([^)\s"]+)')
ELSEWHERE = ("http:", "https:", "mailto:", "#")


def rewritten(markdown: str, source: str, page: str, pages: Mapping[str, str], root: Path, repository: str) -> str:
    """Markdown of a page with the links of its source.

    Args:
        markdown: Text of the document.
        source: Path of the document in the repository, to which its links are relative.
        page: Path of the page in the site.
        pages: Path in the repository to path in the site, of everything that the site has.
        root: Folder of the repository.
        repository: Its address.
    """

    def of_site(target: str) -> str:
        path, mark, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if file in pages:
            return posixpath.relpath(pages[file], posixpath.dirname(page) or ".") + mark + anchor
        kind = "tree" if (root / file).is_dir() else "blob"
        # What is not there stays as it is: mkdocs warns of it.
        return f"{repository}/{kind}/main/{file}{mark}{anchor}" if (root / file).exists() else target

    def replace(found: re.Match[str]) -> str:
        before, target = found.groups()
        return found[0] if target.startswith(ELSEWHERE) else before + of_site(target)

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else TARGET.sub(replace, part) for part in parts)
