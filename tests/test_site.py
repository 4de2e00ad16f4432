"""The documentation site: built without warnings, every link leads somewhere, nothing comes from another host."""

from __future__ import annotations

import ast
import html.parser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
import typer

from amr.cli import app

from .conftest import without

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = typer.main.get_command(app).commands
ABSOLUTE = re.compile(r"^(?:[a-z]+:)?//|^(?:mailto|data):")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it: strict, so that a warning is a failure."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


class Page(html.parser.HTMLParser):
    """Ids, links and what is loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value is not None}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or (tag == "link" and "href" in found):
            self.loaded.append(found.get("src") or found["href"])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            if ABSOLUTE.match(link):
                continue
            name, anchor = urldefrag(unquote(link))
            # only 404.html, which a server shows anywhere, begins links at the site's root
            base = site if name.startswith("/") and path.name == "404.html" else path.parent
            target = (base / name.removeprefix("/")).resolve() if name else path
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert wrong == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {link for page in pages.values() for link in page.loaded}
    assert not [link for link in loaded if ABSOLUTE.match(link) and not link.startswith("data:")]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", styles)


def test_documents_of_the_repository_lead_to_pages_of_the_site(pages: dict[Path, Page]) -> None:
    into_repository = {link for page in pages.values() for link in page.links if "/blob/main/" in link}
    assert any(link.endswith("/fusion/attribution/share.py") for link in into_repository)
    assert not [link for link in into_repository if link.endswith(".md")]
    for link in into_repository:
        assert (ROOT / urldefrag(link)[0].partition("/blob/main/")[2]).is_file()


def test_the_reference_has_every_public_name_and_every_option(site: Path, pages: dict[Path, Page]) -> None:
    nodes = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8")).body
    names = {f"amr.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    text = "".join(pages[site / "reference/python.html"].text)
    assert {name for name in names if name not in text} == set()
    text = "".join(pages[site / "reference/commands.html"].text)
    assert {f"amr {name}" for name in COMMANDS if f"amr {name} " not in text} == set()
    assert {
        opt
        for each in COMMANDS.values()
        for param in each.params
        for opt in param.opts
        if opt[0] == "-" and opt not in text
    } == set()


def test_no_list_and_no_table_is_taken_for_text(site: Path) -> None:
    """Python-Markdown wants an empty line before them, unlike the repository's own view."""
    for path in site.rglob("*.html"):
        found = re.findall(r"<p>(?:[^<]|<(?!/p>))*\n(?:[-*] |\d+\. |\|).*", path.read_text(encoding="utf-8"))
        assert found == [], path


def test_decisions_are_listed(pages: dict[Path, Page], site: Path) -> None:
    links = pages[site / "decisions/index.html"].links
    for decision in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        assert f"{decision.stem}.html" in links


# --- in a browser ----------------------------------------------------------------------------------------------------

SHOWN = ("index", "quickstart", "tutorials/balance-use", "guide", "reference/commands", "reference/python", "results")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    try:
        from playwright import sync_api
    except ImportError:
        without("playwright", "pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        without("browser", "apt install chromium")
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=("--no-sandbox", "--disable-dev-shm-usage"))
        yield started
        started.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_pages_fit_their_window_and_ask_no_other_host(browser: Any, site: Path, width: int, theme: str) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
    )
    for name in SHOWN:
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[theme]
    page.close()
    assert complaints == []


def test_search_works_on_files_opened_from_disk(browser: Any, site: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("gauge")
    page.wait_for_selector(".md-search-result__link")
    first = page.get_attribute(".md-search-result__link", "href")
    assert "explanation/shares-and-use.html" in first
    page.close()
