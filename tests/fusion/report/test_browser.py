"""The pages in a browser, if there is one: each kind of folder, in two widths and both themes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amr.fusion.report.decisions import Decisions
from amr.fusion.report.read import ResultFolder, read_results
from amr.fusion.report.settings import settings_of

KINDS = ("sweep", "table", "many", "frontier", "labels", "numbers")
WIDTHS = (1280, 390)
THEMES = ("light", "dark")

# How far two texts of a picture may cover each other, in pixels.
OVERLAPS = """([box, selector]) => {
  const texts = [...document.getElementById(box).querySelectorAll(selector)];
  const areas = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  areas.forEach(([one, a], i) => areas.slice(i + 1).forEach(([two, b]) => {
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 3 && y > 3) found.push([one, two, x, y]);
  }));
  return found;
}"""


@pytest.fixture(scope="session")
def tabs(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[[str], tuple[Any, list[str]]]]:
    """Function that gives the tab of a kind of page, which is opened once, and what it complained of."""
    opened: dict[str, tuple[Any, list[str]]] = {}

    def tab(kind: str) -> tuple[Any, list[str]]:
        if kind not in opened:
            complaints: list[str] = []
            address = pages[kind].as_uri()

            def listen(url: str) -> None:
                if url != address and not url.startswith(("data:", "blob:")):
                    complaints.append(url)

            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: listen(request.url))
            page.goto(address)
            wait_for_theme(page, "light")  # drawn once before anything changes
            opened[kind] = page, complaints
        return opened[kind]

    yield tab
    for page, _ in opened.values():
        page.close()


@pytest.fixture
def show(tabs: Callable[[str], tuple[Any, list[str]]]) -> Iterator[Callable[..., Any]]:
    """Function that shows a page in a width and a theme; afterwards, no errors and no network requests."""
    shown = set()

    def show(kind: str = "sweep", width: int = 1280, theme: str = "light") -> Any:
        shown.add(kind)
        page, _ = tabs(kind)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        wait_for_theme(page, theme)
        return page

    yield show
    for kind in shown:
        assert tabs(kind)[1] == []


def wait_for_theme(page: Any, theme: str) -> None:
    # by selectors: the page's content security policy forbids conditions that are evaluated from text
    page.wait_for_selector(f"#theme[aria-pressed={'true' if theme == 'dark' else 'false'}]", timeout=60_000)
    page.wait_for_selector("html[data-ready]", timeout=60_000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("light", 390), ("dark", 390), ("dark", 1280)])
def test_every_picture_is_rendered_in_the_theme_and_can_be_read(show, kind, width, theme):
    page = show(kind, width, theme)
    page.wait_for_timeout(250)  # pictures follow the width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all(
        ".plot", "boxes => boxes.map(b => [b.id, b.querySelectorAll('path, rect.bg').length, b.clientWidth])"
    )
    assert len(boxes) > 4
    for box, num_marks, box_width in boxes:
        assert num_marks > 3
        assert page.evaluate(f"document.getElementById('{box}')._fullLayout.width") == pytest.approx(box_width, abs=1)
        for axis in (".xtick text", ".ytick text"):
            assert page.evaluate(OVERLAPS, [box, f".subplot .{axis[1:]}, g{axis}"]) == [], (box, axis)
    background = page.eval_on_selector(".plot .main-svg", "picture => getComputedStyle(picture).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (theme == "dark")
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    assert (np.median(shot) < 60) == (theme == "dark")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_point_has_a_name_of_its_own(show, kind, width):
    page = show(kind, width)
    page.wait_for_timeout(250)
    lead = "s1-frontier" if kind == "frontier" else "s1-verdict"
    for picture in (lead, "s1-share"):
        box = f"{picture}-plot"
        labels = page.evaluate(f"document.getElementById('{box}').layout.meta.labels.map(label => label.text)")
        assert len(labels) == len(set(labels)) > 2
        names = page.eval_on_selector_all(f"#{box} .annotation-text", "texts => texts.map(text => text.textContent)")
        assert set(labels) <= set(names)
        assert page.evaluate(OVERLAPS, [box, ".annotation-text"]) == []
        key = page.eval_on_selector_all(f"#{picture} .key li", "items => items.map(item => item.textContent.trim())")
        if all(label.isdigit() for label in labels):
            assert all(any(item.split()[1] == label for item in key if "front" not in item) for label in labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_headings_of_tables_stay_in_their_columns(show, kind, width):
    page = show(kind, width)
    wide = page.evaluate(
        """[...document.querySelectorAll("main table")].flatMap((table) => {
          for (let box = table.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
          const heads = [...table.tHead.rows[0].cells];
          return heads.filter((head) => {
            const words = document.createRange();
            words.selectNodeContents(head.querySelector("button"));
            const [cell, text] = [head.getBoundingClientRect(), words.getBoundingClientRect()];
            return text.left < cell.left - 1 || text.right > cell.right + 1;
          }).map((head) => [table.id, head.textContent]);
        })"""
    )
    assert wide == []


@pytest.mark.parametrize("kind", KINDS)
def test_bands_have_no_markers(show, kind):
    page = show(kind)
    modes = page.evaluate(
        """[...document.querySelectorAll(".plot")].flatMap((box) => box._fullData)
        .filter((trace) => trace.fill === "toself").map((trace) => trace.mode)"""
    )
    assert set(modes) <= {"lines"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theme", THEMES)
def test_a_color_means_one_thing_on_the_whole_page(show, kind, theme):
    page = show(kind, theme=theme)
    found = page.eval_on_selector_all(
        "main .key li",
        """items => items.map((item) => {
          const mark = getComputedStyle(item.querySelector("i"));
          const isBar = item.querySelector("i").classList.contains("bar");
          return [item.textContent.replace(/^[^\\w<]*(\\d+ +)?/, "").trim(), isBar ? mark.backgroundColor : mark.color];
        })""",
    )
    settings = {text for text, _ in found if "AMR" in text or text in ("UME", "audio only")}
    colors: dict[str, set[str]] = {}
    for text, color in found:
        colors.setdefault(text, set()).add(color)
    assert len(settings) >= 3
    for text in settings - {"without AMR", "with AMR"}:
        assert len(colors[text]) == 1, (text, colors[text])
    modalities = {m for m in ("audio", "video", "pixels", "profile") if m in colors}
    of_modalities = {color for m in modalities for color in colors[m]}
    of_settings = {color for text in settings for color in colors[text]}
    assert all(len(colors[m]) == 1 for m in modalities)
    assert len(of_modalities) == len(modalities)
    assert of_modalities & of_settings == set()


@pytest.mark.parametrize("kind", KINDS)
def test_no_interval_leaves_the_values_of_its_measure(show, kind):
    page = show(kind)
    ends = page.evaluate(
        """[...document.querySelectorAll(".plot")].flatMap((box) => box.data).flatMap((trace) =>
        ["x", "y"].flatMap((axis) => {
          const bars = trace[`error_${axis}`];
          if (!bars?.visible || !bars.arrayminus) return [];
          return trace[axis].flatMap((mean, i) => bars.array[i] === null || mean < 0 || mean > 1 ? []
            : [mean + bars.array[i], mean - bars.arrayminus[i]]);
        }))"""
    )
    assert kind == "sweep" or len(ends) > 4  # two seeds have no intervals
    most = np.inf if kind == "numbers" else 1 + 1e-9  # an error has no highest value
    assert all(-1e-9 <= end <= most for end in ends)


def test_the_smallest_phone_needs_no_sideways_scrolling_and_tables_keep_their_first_column(show):
    page = show(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    region = page.locator("#s1-settings .scroll")
    name = region.locator("tbody th").first
    before = name.bounding_box()["x"]
    assert region.evaluate("box => { box.scrollLeft = 150; return box.scrollLeft; }") > 100
    assert name.bounding_box()["x"] == pytest.approx(before, abs=6)
    region.evaluate("box => { box.scrollLeft = 0; }")


def test_a_heading_sorts_and_says_so(show):
    page = show()
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


def test_the_theme_follows_the_system_until_the_button_is_pressed(show):
    page = show("table")

    def color() -> str:
        return page.eval_on_selector(".plot .main-svg", "picture => getComputedStyle(picture).backgroundColor")

    light = color()
    show("table", theme="dark")
    dark = color()
    assert dark != light
    page.click("#theme")
    wait_for_theme(page, "light")
    assert color() == light
    page.evaluate("delete root.dataset.theme")


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_contrast_to_its_background(show, theme):
    page = show("table", theme=theme)
    marks = [f"s{i}" for i in range(6)]
    colors = page.evaluate(
        "names => Object.fromEntries(names.map(name => [name, resolved(`var(--${name})`)]))",
        ["ink", "muted", "link", "good", "bad", "surface", "page", *marks],
    )

    def luminance(name: str) -> float:
        rgb = np.array([int(part) for part in colors[name][5:].split(",")[:3]]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, two: str) -> float:
        light, dark = sorted([luminance(one), luminance(two)], reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for background in ("surface", "page"):
        for text in ("ink", "muted", "link", "good", "bad"):
            assert contrast(text, background) >= 4.5, (text, background)
    for mark in marks:
        assert contrast(mark, "surface") >= 2.95, mark


def test_a_choice_redraws_its_picture_and_shows_its_key(show):
    page = show()
    read = "document.getElementById('s1-methods-plot')?.data.length ?? 0"
    assert page.evaluate(read) == 0  # one method is no table of methods
    read = "document.getElementById('s1-classes-plot').data[0].x.join()"
    before = page.evaluate(read)
    page.select_option("#s1-classes-choice", index=1)
    for _ in range(100):
        if page.evaluate(read) != before:
            break
        page.wait_for_timeout(50)
    assert page.evaluate(read) != before
    keys = page.eval_on_selector_all("#s1-classes .key", "keys => keys.map(key => key.hidden)")
    assert keys == [i != 1 for i in range(len(keys))]


def test_a_picture_comes_as_png_svg_csv_and_latex(show):
    page = show()
    contents = {}
    buttons = {"png": "[data-image=png]", "svg": "[data-image=svg]", "csv": "[data-csv]", "tex": "[data-latex]"}
    for kind, button in buttons.items():
        with page.expect_download() as download:
            page.click(f"#s1-share .tools {button}")
        assert download.value.suggested_filename == f"s1-share{'-data' * (kind in ('csv', 'tex'))}.{kind}"
        contents[kind] = Path(download.value.path()).read_bytes()
    assert np.asarray(Image.open(io.BytesIO(contents["png"])).convert("L")).std() > 2
    assert b"<svg" in contents["svg"]
    assert b"no AMR" in contents["svg"]  # a picture alone has its legend
    rows = list(csv.DictReader(io.StringIO(contents["csv"].decode())))
    expected = ["no AMR", "AMR audio=1:video=1", "AMR audio=1:video=3", "UME", "audio only"]
    assert sorted(row["setting"] for row in rows) == sorted(expected)
    by_name = {row["setting"]: row for row in rows}
    assert float(by_name["no AMR"]["accuracy"]) == pytest.approx(0.805)
    lines = contents["tex"].decode().splitlines()
    assert [line for line in lines if line.startswith("\\")][:2] == ["\\begin{tabular}{lrrrrl}", "\\toprule"]
    assert lines[-1] == "\\end{tabular}"
    body = lines[lines.index("\\midrule") + 1 : lines.index("\\bottomrule")]
    assert len(body) == len(rows)
    assert all(line.endswith(" \\\\") and line.count(" & ") == 5 for line in body)


def test_latex_escapes_every_letter_that_has_a_meaning(show):
    page = show()
    text = page.evaluate("tex('a_b & 50% of $5 {x} #1 ~ ^ \\\\ < 0.5 ± \\u2212' + '1')")
    assert text == (
        r"a\_b \& 50\% of \$5 \{x\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} $<$ 0.5 $\pm$ $-$1"
    )


def test_filters_keep_rows_and_lines_of_the_same_runs(show):
    page = show()
    lines = "document.getElementById('s1-runs-plot').data.map(trace => trace.visible !== false).filter(Boolean).length"
    rows = "[...document.querySelectorAll('#s1-runs-data tbody tr')].filter(row => !row.hidden).length"
    assert page.evaluate(lines) == page.evaluate(rows) == 10
    page.get_by_label("Filter by setting").select_option("no AMR")
    assert page.evaluate(lines) == page.evaluate(rows) == 2
    assert "2 of 10 rows" in page.inner_text("#status")
    page.get_by_label("Filter by words").fill("seed-9")
    assert page.evaluate(rows) == 0
    page.get_by_label("Filter by words").fill("")
    page.get_by_label("Filter by setting").select_option("")
    assert page.evaluate(lines) == page.evaluate(rows) == 10


def test_two_runs_are_compared_clip_by_clip(show, pages):
    page = show()
    options = page.eval_on_selector_all("#compare-a option", "options => options.map(each => each.textContent)")
    assert len(options) == 5  # a run of each setting; the page's other folder has no decisions
    arrays = np.load(pages["sweep"].parent.parent / "one" / "evaluation.npz")
    right = arrays["preds"] == arrays["target"]
    names = sorted(path.name for path in (pages["sweep"].parent.parent / "one" / "runs").iterdir())
    chosen = ("naive_audio+video_None_1", "naive_audio+video_1-3_1")
    one, two = (right[names.index(name)] for name in chosen)
    page.select_option("#compare-b", label=next(text for text in options if "video=3" in text))
    rows = page.eval_on_selector_all(
        "#compare-classes tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.dataset.value))"
    )
    kinds = {2: one & two, 3: ~one & two, 4: one & ~two, 5: ~one & ~two}
    for target, row in enumerate(sorted(rows, key=lambda row: ["bark", "</script><b>meow", "moo"].index(row[0]))):
        of_class = arrays["target"] == target
        assert int(row[1]) == of_class.sum()
        assert {i: int(row[i]) for i in kinds} == {i: (kind & of_class).sum() for i, kind in kinds.items()}
        share = arrays["shares"][names.index(chosen[0]), of_class, 0].astype(float).mean()
        assert float(row[6]) == pytest.approx(share, abs=0.006)
    words = page.inner_text("#compare-words")
    assert f"{(~one & two).sum()} change from wrong to right and {(one & ~two).sum()} from right to wrong" in words
    changed = page.locator("#compare-clips tbody tr").count()
    preds = [arrays["preds"][names.index(name)] for name in chosen]
    assert changed == (preds[0] != preds[1]).sum()
    assert page.locator("#compare-plot .main-svg").count() > 0


def test_two_runs_of_labels_are_compared_label_by_label(show, of_tasks):
    page = show("labels")
    results = read_results(of_tasks["labels"])
    one, two = _compared(page, results)
    rows = page.eval_on_selector_all(
        "#compare-classes tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.dataset.value))"
    )
    for name, num_clips, *counts, _, _ in rows:
        c = results.classes.index(name)
        a, b = (each.preds[0][:, c] == each.target[:, c] for each in (one, two))
        assert int(num_clips) == len(one.ids)
        assert [int(n) for n in counts] == [(a & b).sum(), (~a & b).sum(), (a & ~b).sum(), (~a & ~b).sum()]
    changed = (one.preds != two.preds).any(-1).sum()
    assert page.locator("#compare-clips tbody tr").count() == changed > 0


def test_two_runs_of_numbers_are_compared_by_their_errors(show, of_tasks):
    page = show("numbers")
    one, two = _compared(page, read_results(of_tasks["numbers"]))
    a, b = (each.errors[0] for each in (one, two))
    words = page.inner_text("#compare-words")
    assert f"nearer to the true number for {(b < a).sum()} and further from it for {(b > a).sum()}" in words
    assert f"MAE {a.mean():.3f} and {b.mean():.3f}" in words
    assert page.locator(".of-classes").is_hidden()
    first = page.eval_on_selector("#compare-clips tbody tr", "row => row.cells[0].dataset.value")
    assert first == one.ids[np.abs(a - b).argmax()]


def _compared(page: Any, results: ResultFolder) -> tuple[Decisions, Decisions]:
    """Decisions of the two runs that the page compares."""
    chosen = page.eval_on_selector_all(
        "#compare-a, #compare-b", "boxes => boxes.map(each => each.selectedOptions[0].textContent)"
    )
    found = []
    for text in chosen:
        (run,) = (run for s in settings_of(results) for run in s.runs if text == f"{s.label}, seed {run.seed}")
        found.append(results.decisions.of([run.name]))
    return found[0], found[1]


def test_the_sound_of_a_clip_plays(show):
    page = show()
    page.locator("#s1-errors audio").first.scroll_into_view_if_needed()
    seconds = page.eval_on_selector(
        "#s1-errors audio",
        """async (audio) => {
          audio.load();
          await new Promise((done, fail) => {
            audio.onloadedmetadata = done;
            audio.onerror = () => fail(audio.error.message);
          });
          return audio.duration;
        }""",
    )
    assert 0.45 < seconds < 0.7
    strip = page.locator("#s1-errors .steps").first
    assert strip.get_attribute("aria-label").startswith("When audio mattered: most from 0.00 to 0.25 s, with 0.80")
    heights = page.eval_on_selector_all("#s1-errors li:first-child rect", "all => all.map(r => r.height.baseVal.value)")
    assert heights == pytest.approx([20, 5], abs=0.1)


def test_everything_can_be_reached_with_the_keyboard(show):
    page = show("frontier")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    unreachable = page.eval_on_selector_all(
        "main button, main select, main input, main audio, main .scroll, main summary",
        "all => all.filter(each => each.tabIndex < 0).length",
    )
    assert unreachable == 0
    unnamed = page.eval_on_selector_all(
        "button, select, input",
        "all => all.filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length",
    )
    assert unnamed == 0


def test_markup_in_names_of_classes_is_shown_as_text(show):
    page = show()
    ticks = page.eval_on_selector_all("#s1-classes-plot .ytick text", "texts => texts.map(text => text.textContent)")
    assert sorted(ticks) == ["</script><b>meow", "bark", "moo"]
