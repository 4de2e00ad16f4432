"""What mkdocs needs beyond its settings: pages made from code, documents of the root, links that work in both."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import tomllib
from pathlib import Path

import links
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
# Documents beside docs/, by the page that shows them.
BESIDE = {
    "guide.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "sources.md": "data_manifests/SOURCES.md",
}
REFERENCE = {"reference/python.md": reference.python_names, "reference/commands.md": reference.commands}
PACKAGE = ("__init__.py", "__init__.pyi", "cli.py", "common", "console", "data_manifests", "extract", "fusion")


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the repository's address from pyproject.toml, show the package to mkdocstrings, list the decisions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # Not as repo_url: for that, the theme asks the host of the repository for its stars.
    config.extra["social"] = [
        {"icon": "material/source-repository", "link": project["urls"]["Repository"], "name": "Repository"}
    ]
    config.copyright = f"amr {project['version']}"
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers["python"]["paths"] = [str(_as_amr())]
    (decisions,) = (each for each in config.nav or [] if "Decisions" in each)
    decisions["Decisions"] = ["decisions/index.md", *(f"decisions/{each.name}" for each in _decisions())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the root and the index of decisions."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in BESIDE.items()}
    made["decisions/index.md"] = _decisions_page()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the reference, and let links lead to pages of this site where there is one, else into the repository."""
    uri = page.file.src_uri
    if uri in REFERENCE:
        markdown = markdown.replace(reference.MADE, REFERENCE[uri]())
    source = BESIDE.get(uri, f"docs/{uri}")
    pages = {f"docs/{each.src_uri}": each.src_uri for each in files} | {name: each for each, name in BESIDE.items()}
    pages |= {"docs/decisions": "decisions/index.md"}
    return links.rewritten(markdown, source, uri, pages, ROOT, config.extra["social"][0]["link"])


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def _decisions_page() -> str:
    titles = (each.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for each in _decisions())
    rows = [f"| [{t[:4]}]({each.name}) | {t[5:]} |" for each, t in zip(_decisions(), titles, strict=True)]
    return "\n".join(
        ["# Decisions", "", "Choices that others may question, each on half a page.", "", *HEAD, *rows, ""]
    )


HEAD = ["| | decision |", "|---|---|"]


def _as_amr() -> Path:
    """A folder with the package under its name, without what else lies in the checkout."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "amr").mkdir()
    for name in PACKAGE:
        (folder / "amr" / name).symlink_to(ROOT / name)
    return folder
