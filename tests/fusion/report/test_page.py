"""The page, and the page in a browser if there is one."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amr.fusion.config import FitConfig
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import _attribution
from amr.fusion.report.page import report as make_report

from ...conftest import without
from .conftest import evaluated, make_sweep

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Containers let root have no sandbox, and little shared memory.
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")
WIDTHS = (1280, 390)
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on a sweep with an evaluation, and on one of its runs."""
    folder = tmp_path_factory.mktemp("report")
    folders = [evaluated(make_sweep(folder / "one"), p_corrected=0.5, people=True)]
    folders.append(sorted((folders[0] / "runs").iterdir())[0])
    make_report(ReportConfig(tuple(map(str, folders)), out=str(folder / "out" / "report.html")))
    return folder / "out" / "report.html"


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
def elements(report: Path) -> list[tuple[str, dict[str, str | None]]]:
    return read_page(report).all


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


def test_numbers_are_fractions_of_1(report):
    text = " ".join(read_page(report).text.replace("\N{NO-BREAK SPACE}", " ").split())
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


def test_the_attribution_is_named_in_words(report):
    text = read_page(report).text
    assert "gradient x input (output: probability, norm: L2)" in text
    assert "grad_x_input" not in text


@pytest.mark.parametrize(
    ("attribution", "words"),
    [("permutation", "permutation"), ("shapley", "Shapley (output: probability)")],
)
def test_only_settings_that_the_attribution_uses_are_named(attribution, words):
    assert _attribution(FitConfig(attribution=attribution)) == words


def test_names_of_classes_and_folders_are_escaped(report):
    page = report.read_text(encoding="utf-8")
    assert "<b>meow" not in page
    assert page.count("</script>") == 3


def test_the_page_is_small_and_loads_nothing(report, elements):
    assert report.stat().st_size < 6_000_000
    for tag, attrs in elements:
        address = attrs.get("src") or (attrs.get("href") if tag == "link" else None)
        assert address is None or address.startswith("data:")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the one on PATH, else playwright's own build."""
    try:
        from playwright import sync_api
    except ImportError:
        without("playwright", "pip install playwright")
    advice = "apt install chromium"
    with sync_api.sync_playwright() as running:
        for path in (*filter(None, map(shutil.which, BROWSERS)), None):
            try:
                started = running.chromium.launch(executable_path=path, args=FLAGS)
            except sync_api.Error as error:
                if path is not None:
                    advice += f" ({path} does not start: {error.message.splitlines()[0]})"
            else:
                yield started
                started.close()
                return
    without("browser", advice)


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Callable[..., Any]]:
    """Function that shows the page in a width and a theme; afterwards, no errors and no network requests."""
    complaints: list[str] = []

    def listen(url: str) -> None:
        if url != report.as_uri() and not url.startswith(("data:", "blob:")):
            complaints.append(url)

    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: listen(request.url))
    page.goto(report.as_uri())
    wait_for_theme(page, "light")  # drawn once before anything changes

    def show(width: int = 1280, theme: str = "light") -> Any:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        wait_for_theme(page, theme)
        return page

    yield show
    page.close()
    assert complaints == []


def wait_for_theme(page: Any, theme: str) -> None:
    # by selectors: the page's content security policy forbids conditions that are evaluated from text
    page.wait_for_selector(f"#theme[aria-pressed={'true' if theme == 'dark' else 'false'}]", timeout=60_000)
    page.wait_for_selector("html[data-ready]", timeout=60_000)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_every_picture_is_rendered_in_the_theme_and_the_page_fits(opened, width, theme):
    page = opened(width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    marks = page.eval_on_selector_all(".plot", "boxes => boxes.map(b => b.querySelectorAll('path, rect.bg').length)")
    assert len(marks) > 8
    assert min(marks) > 3
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"))
    assert (np.median(shot) < 60) == (theme == "dark")
    for top in range(0, len(shot) - 900, 900):
        assert shot[top : top + 900].std() > 2


def test_the_smallest_phone_needs_no_sideways_scrolling(opened):
    page = opened(360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_heading_sorts_and_says_so(opened):
    page = opened()
    head = page.locator("#s1-headline th", has_text="share audio/video").first
    place = head.evaluate("head => head.cellIndex")

    def values() -> list[str]:
        return page.eval_on_selector_all(
            "#s1-headline tbody tr", f"rows => rows.map(r => r.cells[{place}].dataset.value)"
        )

    before = values()
    for order, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        numbers = [float(value) for value in values() if value]
        assert numbers == sorted(numbers, reverse=reverse)
        assert values()[-1] == ""  # missing values stay last
        assert sorted(values()) == sorted(before)
        assert order in page.inner_text("#status")
    assert page.locator("#s1-headline th[aria-sort=none]").count() == page.locator("#s1-headline thead th").count() - 1


def test_the_theme_follows_the_system_until_the_button_is_pressed(opened):
    page = opened(theme="light")

    def color() -> str:
        return page.eval_on_selector(".plot .main-svg", "picture => getComputedStyle(picture).backgroundColor")

    light = color()
    opened(theme="dark")
    dark = color()
    assert dark != light
    page.click("#theme")
    wait_for_theme(page, "light")
    assert color() == light


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_contrast_to_its_background(opened, theme):
    page = opened(theme=theme)
    colors = page.evaluate(
        "names => Object.fromEntries(names.map(name => [name, resolved(`var(--${name})`)]))",
        ["ink", "muted", "link", "good", "bad", "surface", "page"],
    )

    def luminance(name: str) -> float:
        rgb = np.array([int(part) for part in colors[name][5:].split(",")[:3]]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for text in ("ink", "muted", "link", "good", "bad"):
        for background in ("surface", "page"):
            light, dark = sorted([luminance(text), luminance(background)], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, background)


def test_a_choice_redraws_its_picture(opened):
    page = opened()
    read = "document.getElementById('s1-classes-plot').data[0].x.join()"
    before = page.evaluate(read)
    page.select_option("#s1-classes-choice", index=1)
    for _ in range(100):
        if page.evaluate(read) != before:
            break
        page.wait_for_timeout(50)
    assert page.evaluate(read) != before


def test_a_picture_comes_as_png_svg_and_csv(opened):
    page = opened()
    contents = {}
    for kind, button in (("png", "[data-image=png]"), ("svg", "[data-image=svg]"), ("csv", "[data-csv]")):
        with page.expect_download() as download:
            page.click(f"#s1-share .tools {button}")
        assert download.value.suggested_filename == f"s1-share{'-data' * (kind == 'csv')}.{kind}"
        contents[kind] = Path(download.value.path()).read_bytes()
    assert np.asarray(Image.open(io.BytesIO(contents["png"])).convert("L")).std() > 2
    assert b"<svg" in contents["svg"]
    rows = list(csv.DictReader(io.StringIO(contents["csv"].decode())))
    assert [row["setting"] for row in rows] == [
        "no AMR",
        "AMR audio=1:video=1",
        "AMR audio=1:video=3",
        "UME",
        "audio only",
    ]
    assert float(rows[0]["accuracy"]) == pytest.approx(0.805)


def test_markup_in_names_of_classes_is_shown_as_text(opened):
    page = opened()
    ticks = page.eval_on_selector_all("#s1-classes-plot .ytick text", "texts => texts.map(text => text.textContent)")
    assert sorted(ticks) == ["</script><b>meow", "bark", "moo"]
