"""The page of results: its columns are the measures by their names, and it is what its script makes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
NAMES = ("audio", "video")


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_results", ROOT / "docs" / "results" / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def group(ratio: str | None, modalities: tuple[str, ...] = NAMES) -> dict[str, Any]:
    keys = ("share", "share_logit", "perceptual", "use_share", "shapley_use_share", "alone", "robustness", "conflict")
    mean = {f"{key}.audio": 0.7512 for key in keys} | {f"{key}.video": -0.001 for key in keys}
    interval = {name: [value - 0.1, value + 0.1] for name, value in mean.items()}
    mean |= {"accuracy": 0.6, "gain_over_ume": 0.0123}
    return {
        "method": "naive",
        "amr_ratio": ratio,
        "modalities": modalities,
        "mean": mean,
        "interval": interval | {"accuracy": None},
    }


def test_a_row_has_numbers_as_everywhere(make):
    row = dict(zip(make._columns(NAMES), make._measures(group(None), NAMES), strict=True))
    assert row["accuracy"] == "0.600"  # no interval is known
    assert row["use share audio/video"] == row["Shapley use share audio/video"] == "0.75/0.00"
    assert row["over UME"] == "+0.012"
    assert row["ECE"] == "-"


def test_ratios_have_names(make):
    assert [make._ratio(group(ratio)) for ratio in (None, "3:1")] == ["none", "audio=3:video=1"]


def test_one_modality_has_no_shares(make):
    row = dict(zip(make._columns(NAMES), make._measures(group(None, ("audio",)), NAMES), strict=True))
    assert row["share audio/video"] == row["robustness audio/video"] == "-"


def test_the_picture_is_drawn(make, tmp_path):
    groups = {"groups": [group(None if ratio == "none" else ratio) for ratio in make.RATIOS]}
    make.draw(tmp_path / "a.png", "some data", dict.fromkeys(make.ATTRIBUTIONS, groups), NAMES)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_the_columns_of_its_script(make):
    headings = [
        line.strip("| ").split(" | ")
        for line in PAGE.splitlines()
        if line.startswith(("| method | AMR | acc", "| AMR"))
    ]
    assert len(headings) == 4 * (1 + len(make.ATTRIBUTIONS))
    for heading in headings:
        assert [name for name in heading if name not in ("method", "AMR", "p accuracy")] == make._columns(NAMES)


def test_numbers_of_the_page_are_fractions_and_measures_have_one_name():
    prose = PAGE.partition("\n## ")[0] + PAGE.partition("\n## ")[2].partition("\n## ")[0]
    text = " ".join(prose.replace("95 %", "").lower().split())
    for word in ("%", "percept", "permuting costs", "noisy", "dominan", "points"):
        assert word not in text, word
    assert not re.search(r"(?<!p )(?<!< )(?<!\d)\.\d", text), "numbers begin with 0, except p"


def test_the_text_is_that_of_its_source():
    reading = (ROOT / "docs" / "results" / "reading.md").read_text(encoding="utf-8").replace("](../", "](")
    assert PAGE.startswith(reading.strip())
