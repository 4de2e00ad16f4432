"""The page, and the page in a browser if there is one."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import pytest

from amr.fusion.config import FitConfig
from amr.fusion.report.chapter import _attribution
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import report as make_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Containers let root have no sandbox, and little shared memory.
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")
WIDTHS = (1280, 390)
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def page(pages) -> Path:
    """A page on a sweep with an evaluation, and on one of its runs."""
    return pages["sweep"]


class Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag not in ("script", "style"):
            self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        self._tag = tag

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


@pytest.fixture(scope="module")
def elements(page: Path) -> list[tuple[str, dict[str, str | None]]]:
    return read_page(page).all


def test_ids_are_unique_and_references_to_them_are_valid(elements):
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in elements:
        for name in ("aria-labelledby", "for", "data-csv", "data-copy"):
            assert attrs.get(name) is None or attrs[name] in ids
        if (attrs.get("href") or "").startswith("#"):
            assert attrs["href"][1:] in ids


def test_a_screen_reader_finds_landmarks_and_descriptions(elements):
    tags = [tag for tag, _ in elements]
    assert {"header", "nav", "main", "footer", "caption", "figcaption"} <= set(tags)
    assert tags.count("h1") == tags.count("main") == 1
    pictures = [attrs for tag, attrs in elements if attrs.get("class") == "plot" or tag == "img"]
    assert len(pictures) > 8
    assert all(attrs.get("aria-label") or attrs.get("alt") for attrs in pictures)
    assert all(attrs["aria-sort"] == "none" for tag, attrs in elements if tag == "th" and attrs.get("scope") == "col")


def read_page(file: Path) -> Elements:
    parser = Elements()
    parser.feed(file.read_text(encoding="utf-8"))
    return parser


def test_numbers_are_fractions_of_1(page):
    text = " ".join(read_page(page).text.replace("\N{NO-BREAK SPACE}", " ").split())
    assert "has accuracy 0.805 on the test clips" in text
    assert set(re.findall(r"[\d.]+ ?%", text)) <= {"95 %"}  # the name of the intervals


@pytest.mark.parametrize(("warned", "shown"), [(3, "Warnings:"), (4, "4 warnings")])
def test_warnings_are_shown_and_many_are_collapsed(made, tmp_path, warned, shown):
    folder = made()
    files = sorted(folder.glob("runs/*/config.json"))[:warned]
    for i, file in enumerate(files):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"warnings": [f"only {i} test clips"]}))
    make_report(ReportConfig((str(folder),), out=str(tmp_path / "page.html")))
    text = read_page(tmp_path / "page.html").text
    assert all(f"only {i} test clips" in text for i in range(warned))
    assert shown in text


def test_the_attribution_is_named_in_words(page):
    text = read_page(page).text
    assert "gradient x input (output: probability, norm: L2)" in text
    assert "grad_x_input" not in text


@pytest.mark.parametrize(
    ("attribution", "words"),
    [("permutation", "permutation"), ("shapley", "Shapley (output: probability)")],
)
def test_only_settings_that_the_attribution_uses_are_named(attribution, words):
    assert _attribution(FitConfig(attribution=attribution)) == words


def test_names_of_classes_and_folders_are_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "<b>meow" not in text
    assert text.count("</script>") == 4


def test_the_page_is_small_and_loads_nothing(page, elements):
    assert page.stat().st_size < 6_000_000
    for tag, attrs in elements:
        address = attrs.get("src") or (attrs.get("href") if tag == "link" else None)
        assert address is None or address.startswith("data:")


@pytest.mark.parametrize("kind", ["sweep", "table", "many", "frontier"])
def test_no_path_of_the_machine_is_on_the_page(pages, kind):
    text = pages[kind].read_text(encoding="utf-8")
    assert str(pages[kind].parent.parent) not in text
    assert str(Path.home()) not in text.replace(str(Path.home()) + "(", "") or str(Path.home()) == "/"


@pytest.mark.parametrize("kind", ["sweep", "table", "many", "frontier"])
def test_the_verdict_and_its_picture_come_before_everything_else(pages, kind):
    parser = read_page(pages[kind])
    text = " ".join(parser.text.split())
    after = text[text.index("In short" if kind != "sweep" else "one ", text.index("How it was made")) :]
    first = "Pixels" if kind == "many" else "Audio"
    assert f"{first} carries 0." in after[:40]
    assert after.index("carries") < after.index("Accuracy against use share") < after.index("Settings")
    words = ["use: accuracy lost if a modality is permuted", "use share: a modality's use over the sum of all"]
    assert all(word in after.replace(" :", ":") or word.split(": ")[1] in after for word in words)


def test_every_table_comes_as_csv_and_latex(elements):
    tables = {attrs["id"] for tag, attrs in elements if tag == "table"}
    for kind in ("data-csv", "data-latex"):
        assert {attrs[kind] for _, attrs in elements if attrs.get(kind)} == tables


def test_the_html_is_well_formed(page):
    """Every element is closed in order; no id or attribute comes twice."""
    void = {"meta", "link", "br", "img", "input", "wbr", "hr", "rect", "line"}
    open_tags: list[str] = []

    class Nesting(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            names = [name for name, _ in attrs]
            assert len(names) == len(set(names)), (tag, names)
            if tag not in void:
                open_tags.append(tag)

        def handle_endtag(self, tag):
            if tag not in void:
                assert open_tags.pop() == tag

    parser = Nesting()
    parser.feed(page.read_text(encoding="utf-8"))
    parser.close()
    assert open_tags == []
