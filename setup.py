"""The description on the package index: README.md, its links into the repository. All else is in pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
RELATIVE = re.compile(r'(\]\(|<img src=")(?!https?:|#)([^)\s"]+)')


def _absolute(found: re.Match[str]) -> str:
    before, path = found.groups()
    return f"{before}{REPOSITORY}/{'raw' if before.startswith('<img') else 'blob'}/main/{path}"


setup(
    script_name="setup.py",  # so that it is no module of the package, whose folder is this one
    long_description=RELATIVE.sub(_absolute, (ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
