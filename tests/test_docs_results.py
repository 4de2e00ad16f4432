"""The page of results: its tables are those of its scripts, and its numbers are written as everywhere."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "docs" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
NAMES = ("audio", "video")
MODULES = ("make", "claims", "noise", "paired", "pictures", "tables")


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield {name: importlib.import_module(name) for name in MODULES}
        for name in MODULES:
            del sys.modules[name]


@pytest.fixture
def tables(scripts) -> ModuleType:
    return scripts["tables"]


def group(ratio: str | None, modalities: tuple[str, ...] = NAMES) -> dict[str, Any]:
    keys = ("share", "perceptual", "use_share", "shapley_use_share", "alone", "robustness")
    mean = {f"{key}.audio": 0.7512 for key in keys} | {f"{key}.video": -0.001 for key in keys}
    mean |= {"accuracy": 0.6, "gain_over_ume": 0.0123, "gain_over_best_unimodal": -0.02}
    interval = {"accuracy": None, "gain_over_best_unimodal": [-0.03, -0.01]}
    return {"method": "naive", "amr_ratio": ratio, "modalities": modalities, "mean": mean, "interval": interval}


def of_methods(tables: ModuleType, *groups: dict[str, Any]) -> dict[str, str]:
    columns, rows = tables.methods({"modalities": NAMES, "groups": groups})
    return dict(zip(columns, rows[0], strict=True))


def test_a_row_has_numbers_as_everywhere(tables):
    row = of_methods(tables, group(None))
    assert row["accuracy"] == "0.600"  # no interval is known
    assert row["use share audio/video"] == row["Shapley use share audio/video"] == "0.75/0.00"
    assert row["over UME"] == "+0.012"
    assert row["over best uni-modal"] == "-0.020 ± 0.010"
    assert row["ECE"] == "-"


def test_ratios_are_short(tables):
    assert [of_methods(tables, group(ratio))["AMR"] for ratio in (None, "3:1")] == ["none", "3:1"]
    assert tables.short("modality scaling a=2:b=1:c=1", "abc") == "modality scaling a=2"
    assert tables.short("permutation a=1:b=1:c=1 weight 0.3", "abc") == "permutation even weight 0.3"
    assert tables.short("embedding noise 2", NAMES) == "embedding noise 2"


@pytest.mark.parametrize(
    ("value", "form", "text"), [(-0.0001, ".3f", "0.000"), (-0.0001, "+.3f", "+0.000"), (-0.01, ".2f", "-0.01")]
)
def test_zero_has_no_minus(tables, value, form, text):
    assert tables.number(value, form) == text


def test_one_modality_has_no_shares(tables):
    row = of_methods(tables, group(None, ("audio",)))
    assert row["share audio/video"] == row["robustness audio/video"] == "-"


def measured(scripts: dict[str, ModuleType], modalities: tuple[str, ...], folds: int) -> Any:
    noise = scripts["noise"]
    random = np.random.default_rng(0)
    names = noise.settings(modalities)
    values = [
        {name: {m: random.uniform(size=(len(noise.LEVELS), 3, folds)) for m in modalities} for name in names}
        for _ in range(2)
    ]
    return noise.UnderNoise(modalities, 0.25, *values)


@pytest.mark.parametrize(("modalities", "folds"), [(NAMES, 5), (("a", "b", "c"), 1)])
def test_noise_is_drawn_and_compared_with_plain_heads(scripts, tables, tmp_path, modalities, folds):
    noise = measured(scripts, modalities, folds)
    scripts["pictures"].draw_noise(tmp_path / "a.png", "some data", noise)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    columns, rows = tables.under_noise(noise)
    assert len(rows) == len(modalities) * len(noise.accuracy)
    assert all(len(row) == len(columns) for row in rows)
    m, setting = modalities[0], "weight decay 10"
    expected = (noise.accuracy[setting][m] - noise.accuracy["plain"][m])[-1].mean()
    assert noise.difference("accuracy", setting, m, -1).difference == pytest.approx(expected)


def test_variance_cut_is_one_minus_the_ratio_of_variances(scripts):
    class Spreads:
        def __init__(self, spread: float) -> None:
            self.spread = spread

        def of_modalities(self, name: str) -> np.ndarray:
            assert name == "share_spread"
            return np.full((2, 5, 2), self.spread)

    cut = scripts["paired"].variance_cut(Spreads(0.1), Spreads(0.2), 0.25)
    assert cut.difference == pytest.approx(0.75)


def test_each_set_has_its_commands(scripts):
    make = scripts["make"]
    for data_set in make.data_sets(Path("/data")):
        plan = make.Plan(data_set, Path("/workspace"), Path("/data"))
        assert plan.shown() in PAGE
        assert data_set.title in PAGE


def test_the_page_has_the_sections_of_its_script():
    sets = 5
    for heading, count in {"Table 1": sets, "Frontier": sets, "Noise": sets, "Noise in training": 2}.items():
        assert PAGE.count(f"\n### {heading}\n") == count, heading
    pictures = re.findall(r"!\[.*?\]\((results/.*?)\)", PAGE)
    assert len(pictures) == 2 * sets
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)


def test_numbers_of_the_page_are_fractions_and_measures_have_one_name():
    prose = PAGE.partition("\n## ")[0] + PAGE.partition("\n## ")[2].partition("\n## ")[0]
    text = " ".join(prose.replace("95 %", "").lower().split())
    for word in ("%", "percept", "permuting costs", "noisy", "dominan", "points"):
        assert word not in text, word
    assert not re.search(r"(?<!p )(?<!< )(?<!\d)\.\d", text), "numbers begin with 0, except p"


def test_the_text_is_that_of_its_source():
    reading = (SCRIPTS / "reading.md").read_text(encoding="utf-8").replace("](../", "](")
    assert PAGE.startswith(reading.strip())
