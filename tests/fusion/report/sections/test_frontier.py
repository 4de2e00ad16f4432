"""The frontier on the page: first picture, its table, its sentences, and the command that makes it again."""

import json
import shlex

import pytest

from amr import cli
from amr.common.files import checksummed
from amr.fusion.frontier import settings as frontier_settings
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import frontier
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import report
from amr.fusion.report.read import read_results
from amr.fusion.report.sections.frontier import accuracy_against_use
from amr.fusion.report.settings import settings_of


@pytest.fixture
def folder(small_cache, monkeypatch):
    for name, values in (("WEIGHTS", (0.3,)), ("NOISES", (1.0,)), ("DECAYS", (5.0,))):
        monkeypatch.setattr(frontier_settings, name, values)
    config = FrontierConfig(cache=str(small_cache), folds=3, seeds=1, epochs=2, device="cpu", out="f")
    return frontier(config).folder


def test_it_is_the_first_picture_and_stays_inside_its_frame(folder):
    results = read_results(folder)
    picture = accuracy_against_use(results, settings_of(results))
    (plot,) = picture.plots.values()
    low, high = plot["layout"]["yaxis"]["range"]
    for trace in plot["data"]:
        bars = trace.get("error_y", {})
        none = [0] * len(trace["y"])
        for y, up, down in zip(trace["y"], bars.get("array") or none, bars.get("arrayminus") or none, strict=True):
            assert low <= y - (down or 0) <= y + (up or 0) <= high <= 1.05  # marks at 1 are whole
    names = {trace["name"].partition("  ")[2] or trace["name"] for trace in plot["data"] if "name" in trace}
    settings = {setting.label for setting in settings_of(results)}
    assert settings <= names  # as in every other picture
    scaled = {entry["setting"] for entry in results.frontier["settings"] if entry["kind"] == "modality scaling"}
    assert names - settings == scaled | {"Pareto front"}
    assert len(picture.table.rows) == len(results.frontier["settings"])
    page = report(ReportConfig(dirs=(str(folder),), out=str(folder.parent / "page.html")))
    text = page.out.read_text()
    assert "the nearest to the target" in text
    assert text.index("Accuracy against use share") < text.index("Accuracy against share")


def test_without_a_frontier_there_is_no_picture(folder):
    (folder / "frontier.json").unlink()
    results = read_results(folder)
    assert accuracy_against_use(results, settings_of(results)) is None


def test_three_modalities_are_a_choice(folder):
    file = folder / "frontier.json"
    document = json.loads(file.read_text())
    for entry in [*document["settings"], *document["front"]]:
        for name in ("use_share", "use_share_interval", "shapley_use_share"):
            entry[name]["text"] = entry[name]["video"]
        if entry["price"]:
            entry["price"]["text"] = entry["price"]["video"]
    document["modalities"].append("text")
    document["target"]["text"] = 0.2
    with checksummed(folder, file.name):
        file.write_text(json.dumps(document))
    results = read_results(folder)
    assert [*accuracy_against_use(results, settings_of(results)).plots] == ["audio", "video", "text"]


def test_the_command_on_the_page_makes_it_again(folder, monkeypatch):
    from amr.fusion.report.text.commands import commands

    (command,) = commands(read_results(folder))
    seen = []
    monkeypatch.setattr("amr.fusion.frontier.frontier.frontier", lambda config, *_, **__: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.run(shlex.split(command.replace("\\\n", " "))[1:])
    assert (seen[0].folds, seen[0].seeds, seen[0].epochs) == (3, 1, 2)
    assert seen[0].out == folder.name
