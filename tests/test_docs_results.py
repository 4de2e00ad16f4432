"""The page of results: its tables are those of its scripts, and its numbers are written as everywhere."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from amr.fusion.end_to_end.config import TrainConfig, TrainSweepConfig
from amr.fusion.sweep.table import TABLE_1
from amr.fusion.sweep.trainings import _checked, _trainings

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "docs" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
NAMES = ("audio", "video")
MODULES = ("make", "claims", "commands", "end_to_end", "lessons", "needs", "noise", "paired", "pictures", "tables")
MODULES += ("trained",)
FINISHED = ("results.csv", "evaluation.json")
HOME = Path(os.environ.get("AMR_HOME") or ROOT)  # where make results has its runs


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


def trained_run(method: str, ratio: str | None, seed: int, attribution: str = "grad_x_input", **measures: float) -> Any:
    config = SimpleNamespace(method=method, amr_ratio=ratio, attribution=attribution)
    names = (measures.pop("of"),) if "of" in measures else NAMES
    jumps = 0.5 + 0.1 * (np.arange(20) % 2)  # from epoch to epoch by 0.1
    history = pd.DataFrame({"val_share_audio": jumps})
    return SimpleNamespace(config=config, seed=seed, modalities=names, measures=measures, history=lambda: history)


@pytest.fixture
def trainings(scripts) -> Any:
    """Two methods without and with AMR: naive loses 0.1 and 0.2 with it, ogm-ge 0.3 at each seed but one."""
    setting = scripts["paired"].Setting

    def known(method: str, ratio: str | None, accuracies: list[float], use_share: float, **more: Any) -> Any:
        values = {"share.audio": 0.7, "perceptual.audio": 0.6, "perceptual.video": 0.2, "use_share.audio": use_share}
        values |= {f"probe.{kind}.{m}": 0.5 for kind in ("joint", "unimodal") for m in NAMES}
        values |= {"probe.gap.audio": -0.1, "probe.gap.video": 0.0, "gain_over_ume": 0.1}
        runs = [trained_run(method, ratio, i, accuracy=a, **more, **values) for i, a in enumerate(accuracies)]
        return setting(tuple(runs))

    joint = (
        known("naive", None, [0.9, 0.8, 0.7], 0.9),
        known("naive", "1:1", [0.8, 0.6], 0.75),
        known("naive", "1:2", [0.9, 0.8, 0.7], 0.85, attribution="permutation"),
        known("ogm-ge", None, [0.6, 0.6, 0.6], 0.9),
        known("ogm-ge", "1:1", [0.3, 0.3, 0.31], 0.9),
        known("ume", None, [0.5, 0.5, 0.5], 0.9),
    )
    alone = tuple(
        setting(tuple(trained_run("unimodal", None, i, of=m, accuracy=0.95) for i in range(3))) for m in NAMES
    )
    return scripts["trained"].Trainings("word", joint, alone)


def test_trainings_are_paired_by_seed_with_the_same_method_without_amr(scripts, trainings):
    columns, rows = scripts["trained"].table_of(trainings)
    cells = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(row["method"], row["AMR"]) for row in cells] == [
        ("naive", "none"),
        ("naive", "grad_x_input 1:1"),
        ("naive", "permutation 1:2"),
        ("ogm-ge", "none"),
        ("ogm-ge", "grad_x_input 1:1"),
        ("ume", "none"),
        ("audio only", "none"),
        ("video only", "none"),
    ]
    assert cells[0]["accuracy against none"] == cells[0]["p"] == "-"
    assert cells[1]["accuracy against none"] == "-0.150"  # two seeds have no interval
    assert cells[2]["accuracy against none"] == "+0.000"
    assert cells[4]["accuracy against none"].startswith("-0.297 ± 0.0")
    assert cells[1]["use audio/video"] == "0.60/0.20"
    assert cells[1]["probe, against alone, audio/video"] == "-0.10/+0.00"
    assert (cells[-2]["probe audio/video"], cells[-1]["probe audio/video"]) == ("0.50/-", "-/0.50")


def test_p_is_corrected_over_the_table(scripts, trainings):
    corrected = {i: p for i, (_, p) in trainings.tests.items()}
    assert corrected[4] == pytest.approx(2 * stats.ttest_rel([0.3, 0.3, 0.31], [0.6] * 3).pvalue)
    assert corrected[1] is None  # two pairs
    assert corrected[2] == 1.0  # equal accuracies


def test_swings_are_steps_and_ranges_of_val_shares(scripts, trainings):
    _, rows = scripts["trained"].swings([trainings])
    assert rows == [
        ["word", "none", "9", "0.100", "0.100"],
        ["word", "grad_x_input 1:1", "5", "0.100", "0.100"],
        ["word", "permutation 1:2", "3", "0.100", "0.100"],
    ]


def test_lessons_say_what_the_numbers_say(scripts, trainings):
    text = " ".join(scripts["lessons"].lessons([trainings]))
    assert "2 of 3 settings with AMR bring audio's use share nearer to 0.50" in text
    assert "change accuracy by -0.075 on average (-0.150 to +0.000); 0 of them gain, 0 by the corrected test" in text
    assert "The best setting with AMR is naive with permutation 1:2, 0.800" in text
    assert "the best are naive 0.800, audio only 0.950, UME 0.700. The difference from audio only is -0.150" in text
    assert "2 of 3 settings are less accurate than the same method without AMR, 0 more (" in text
    planned = [("naive", amr) for amr in (None, "grad_x_input 1:1", "permutation 1:1", "permutation 1:2")]
    missing = scripts["lessons"].missing([trainings], [planned], 3)
    assert missing.endswith("*word*: naive, grad_x_input 1:1 (2); naive, permutation 1:1 (0).")
    assert scripts["lessons"].missing([trainings], [planned[:1]], 3) == ""


def test_the_section_is_replaced_and_the_rest_stays(scripts):
    end_to_end = scripts["end_to_end"]
    new = f"{end_to_end.TITLE}\n\nnew"
    assert end_to_end.replaced("# Results\n", new) == f"# Results\n\n{new}\n"
    page = f"# Results\n\n## One\n\none\n\n{end_to_end.TITLE}\n\nold\n\n### Old\n\n## Two\n\ntwo\n"
    after = end_to_end.replaced(page, new)
    assert after == f"# Results\n\n## One\n\none\n\n{new}\n\n## Two\n\ntwo\n"
    assert end_to_end.replaced(after, new) == after


def section_of_trainings(scripts: dict[str, ModuleType]) -> str:
    title = scripts["end_to_end"].TITLE
    return title + PAGE.partition(title)[2].partition("\n## ")[0]


def test_the_page_has_the_commands_of_the_trainings(scripts):
    end_to_end, data, home = scripts["end_to_end"], Path("/data"), Path("/workspace")
    commands = [command for study in end_to_end.studies(home, data) for command in study.commands()]
    assert scripts["commands"].shown(commands, home, data) in section_of_trainings(scripts)
    for text in scripts["needs"].needs_text(scripts["needs"].needs()):
        assert " ".join(text.split()) in " ".join(section_of_trainings(scripts).split())


def test_differences_of_the_page_are_those_of_its_accuracies(scripts):
    tables = section_of_trainings(scripts).split("\n### Trained encoders: ")[1:]
    assert len(tables) == 2
    for text in tables:
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
        columns, rows = rows[0], rows[2 : next(i for i, row in enumerate(rows) if row[0] == "video only") + 1]
        plain: dict[str, float] = {}
        for cells in (dict(zip(columns, row, strict=True)) for row in rows):
            accuracy = float(cells["accuracy"].split()[0])
            if cells["AMR"] == "none":
                plain[cells["method"]] = accuracy
            elif cells["method"] + ", " + cells["AMR"] not in PAGE:  # not one of fewer seeds
                difference = float(cells["accuracy against none"].split()[0])
                assert difference == pytest.approx(accuracy - plain[cells["method"]], abs=0.0011)


def test_the_section_is_that_of_the_stored_trainings(scripts):
    data = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    several = scripts["end_to_end"].studies(HOME, data)
    files = [folder / name for s in several for folder in (s.table, s.permutation) for name in FINISHED]
    if not all(file.is_file() for file in files):
        pytest.skip(f"no finished trainings of make results in {HOME}: set AMR_HOME to their workspace")
    assert scripts["end_to_end"].section(several) == section_of_trainings(scripts).strip()


def test_the_needs_are_those_of_the_store_and_of_the_sweep(scripts):
    needs = scripts["needs"]
    crema_d, vggsound = needs.needs()
    assert crema_d.clips == (5954, 744, 744)
    assert crema_d.store_bytes == 2 * 7442 * (257 * 188 + 3 * 3 * 224 * 224)
    assert vggsound.store_bytes == 2 * sum(vggsound.clips) * (129 * 1251 + 3 * 3 * 224 * 224)
    base = TrainConfig(dataset="crema-d", objective="joint")
    sweep = TrainSweepConfig(base, method=TABLE_1, amr_ratio=(None, "1:1"), seed=tuple(range(needs.SEEDS)))
    members = list(dict.fromkeys(map(_checked, sweep.members())))
    assembled = sum(member.method == "ume" for member in members)
    assert needs.num_trainings() == len(_trainings(members, Path("sweep"))) - assembled
