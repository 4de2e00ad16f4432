from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amr.fusion.demo import ATTRIBUTIONS, NUM_SEEDS, RATIOS, DemoResult, _plot, _sweep
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

SETTINGS = [(None, "none"), *((attribution, ratio) for attribution in ATTRIBUTIONS for ratio in RATIOS)]
BEST = {"audio": 0.8, "video": 0.6, "both": 0.9}


def made(
    use_share: dict[str, tuple[float, float]], *, accuracy: float = 0.8, spread: float = 0.001, seeds: int = 5
) -> DemoResult:
    """Results in which each attribution's use share of audio goes from one value at 4:1 to another at 1:4."""
    rng = np.random.default_rng(0)
    rows = []
    for attribution, ratio in SETTINGS:
        place = RATIOS.index(ratio) / 2 if ratio in RATIOS else 0.5
        first, last = use_share.get(attribution, (0.6, 0.6))
        for seed in range(seeds):
            used = first + (last - first) * place + spread * rng.standard_normal()
            row = {"attribution": attribution, "amr_ratio": ratio, "seed": seed}
            row["accuracy"] = (accuracy if ratio == "1:1" else 0.8) + spread * rng.standard_normal()
            for name, value in (("share", 0.5), ("share_logit", 0.5), ("perceptual", 0.3), ("use_share", used)):
                row |= {f"{name}_audio": value, f"{name}_video": 1 - value}
            rows.append(row)
    return DemoResult(Path("c.h5"), Path("demo.png"), Path("runs"), BEST, pd.DataFrame(rows))


def test_a_sweep_that_another_version_left_is_replaced_and_use_shares_follow_from_use(small_cache, tmp_path):
    fixed = {"cache": str(small_cache), "out": str(tmp_path / "sweep"), "device": "cpu", "epochs": 1}
    sweep(SweepConfig.parse(seeds=1, swept={}, **fixed))
    runs = _sweep(tmp_path / "sweep", small_cache, 0, "cpu")
    assert len(runs) == len(SETTINGS) * NUM_SEEDS
    uses = runs[["perceptual_audio", "perceptual_video"]].clip(lower=0)
    expected = (uses["perceptual_audio"] / uses.sum(axis=1)).to_numpy()
    assert runs["use_share_audio"].to_numpy() == pytest.approx(expected, nan_ok=True)


def test_rows_are_means_over_seeds_and_the_table_fits_a_terminal():
    result = made({"grad_x_input": (0.7, 0.5)}, spread=0.0)
    assert [(row["attribution"], row["amr_ratio"] or "none") for row in result.rows] == SETTINGS
    assert [row["use_share"]["audio"] for row in result.rows[1:4]] == pytest.approx([0.7, 0.6, 0.5])
    title, columns, cells = result.cells()
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert len(title) <= 80


@pytest.mark.parametrize(("more", "less"), [ATTRIBUTIONS, ATTRIBUTIONS[::-1]])
def test_the_reading_names_the_attribution_that_use_follows_further(more, less):
    labels = {"grad_x_input": "gradient x input", "permutation": "permutation"}
    text = made({more: (0.8, 0.3), less: (0.7, 0.6)}).reading()
    assert f"follows the ratio further on {labels[more]}: 0.50 against 0.10." in text
    assert "within noise" not in text.splitlines()[3]


def test_differences_within_noise_are_said_to_be_that():
    text = made({"grad_x_input": (0.61, 0.6), "permutation": (0.6, 0.59)}, spread=0.1).reading()
    _, gradient, permutation, further, accuracy, _ = text.splitlines()
    assert all("(within noise over seeds)" in line for line in (gradient, permutation, further))
    assert accuracy.count("(within noise over seeds)") == 2


@pytest.mark.parametrize(("accuracy", "shown"), [(0.9, "0.900 on gradient"), (0.7, "0.700 on gradient")])
def test_a_change_of_accuracy_is_read_in_both_directions(accuracy, shown):
    line = made({}, accuracy=accuracy).reading().splitlines()[4]
    assert line.startswith("Accuracy is 0.80")
    assert shown in line
    assert "within noise" not in line


def test_a_use_share_that_is_unknown_is_said_to_be_that():
    result = made({})
    result.runs["use_share_audio"] = np.nan
    assert result.rows[0]["use_share"]["audio"] is None
    assert "a use share of unknown" in result.reading()
    assert result.cells()[2][0][-1].startswith("unknown/")


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_picture_is_drawn(tmp_path, seeds):
    made_up = made({"permutation": (0.8, 0.3)}, seeds=seeds)
    result = DemoResult(made_up.cache, tmp_path / "demo.png", made_up.sweep, BEST, made_up.runs)
    _plot(result, "six classes")
    assert result.picture.read_bytes().startswith(b"\x89PNG")
