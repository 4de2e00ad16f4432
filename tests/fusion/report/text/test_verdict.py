from __future__ import annotations

import json

import numpy as np
import pytest

from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.report.text.verdict import INTERVAL, change_of, distance, terms, verdict
from amr.fusion.runs.statistics import paired_test, ratio_interval

from ..conftest import make_frontier, make_many, make_table


def of(folder):
    results = read_results(folder)
    settings = settings_of(results)
    return verdict(results, settings), settings


def test_the_first_sentence_is_what_the_head_uses_and_what_amr_moves_at_what_price(made):
    sentences, _ = of(made(seeds=3))
    # use shares .5 / .55 and .45 / .55; accuracy .81 and .79, alike for each seed
    assert sentences[0] == (
        "Audio carries 0.91 of what this head uses (no AMR); AMR audio=1:video=1 on gradient x input moves it to 0.82, "
        "and accuracy by \N{MINUS SIGN}0.020 (from 0.810 to 0.790)."
    )
    assert "seed" in sentences[-1]


def test_the_change_and_its_price_are_those_of_the_pairs(made):
    folder = made(seeds=4)
    rng = np.random.default_rng(0)
    for file in sorted(folder.glob("runs/naive*/metrics.json")):
        metrics = json.loads(file.read_text())
        for split in metrics.values():
            split["accuracy"] += float(rng.normal(0, 0.002))
            split["perceptual"]["audio"] += float(rng.normal(0, 0.002))
        file.write_text(json.dumps(metrics))
    sentences, settings = of(folder)
    change = change_of(settings)
    pairs = [change.setting.runs, change.plain.runs]
    accuracy, use = ([np.array([run.measures[name] for run in runs]) for runs in pairs] for name in (
        "accuracy", "use_share.audio"
    ))  # fmt: skip
    assert change.gain == paired_test(accuracy[0] - accuracy[1])
    assert change.moved == paired_test(use[0] - use[1])
    price, interval = change.per_tenth
    lost, moved = accuracy[1] - accuracy[0], use[1] - use[0]
    assert price == pytest.approx(0.1 * lost.mean() / moved.mean())
    assert interval == pytest.approx(tuple(0.1 * bound for bound in ratio_interval(lost, moved)))
    assert "the move and the change in accuracy are both more than noise" in sentences[1]
    assert f"costs {price:.3f} of accuracy ({INTERVAL} " in sentences[2]


def test_of_several_ratios_that_is_chosen_that_is_near_to_even_use_for_little_val_accuracy(made):
    _, settings = of(made(seeds=3))
    assert change_of(settings).setting.label == "AMR audio=1:video=1"  # both cost too much, this one less
    folder = made("cheap", seeds=3)
    for file in folder.glob("runs/naive*1-3*/metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["val"]["accuracy"] = 0.9
        file.write_text(json.dumps(metrics))
    _, settings = of(folder)
    chosen = change_of(settings)
    assert chosen.setting.label == "AMR audio=1:video=3"
    assert distance(chosen.setting) == pytest.approx(0.8 - 0.5)


def test_without_pairs_there_is_no_interval_and_no_price(made):
    sentences, _ = of(made(seeds=2))
    assert sentences[1] == "With 2 pairs of runs there is no interval: three are needed."
    assert sentences[2] == "There is no price for .10 of use share: three pairs are needed."
    assert "±" not in " ".join(sentences)


def test_a_single_run_says_what_it_uses_and_one_modality_nothing(made):
    folder = made()
    (sentence,), settings = of(folder / "runs" / "naive_audio+video_None_0")
    assert sentence == "Audio carries 0.91 of what this head uses (no AMR); its accuracy is 0.800."
    assert [*terms(settings)] == ["use", "use share"]
    assert of(folder / "runs" / "unimodal_audio_None_0")[0] == []


def test_a_frontier_has_its_own_price_and_head_by_the_labels_of_the_page(tmp_path):
    sentences, _ = of(make_frontier(tmp_path / "f"))
    assert "Moving the use share of audio by .10 towards 0.50 costs 0.010 accuracy" in sentences[2]
    assert "by AMR audio=1:video=3, the nearest" in sentences[2]
    assert "AMR audio=1:video=1. Its best run by val has test accuracy 0.780" in sentences[3]
    assert "permutation 1:1" not in " ".join(sentences)
    assert "interval \N{MINUS SIGN}0.100 to" in sentences[2]


def test_a_table_is_judged_by_naive_training_and_six_modalities_by_the_most_used(tmp_path):
    (first, *_), _ = of(make_table(tmp_path / "t"))
    assert first.startswith("Audio carries 0.53 of what this head uses (naive · no AMR); naive · AMR")
    (first, *_), _ = of(make_many(tmp_path / "m"))
    assert first.startswith("Pixels carries 0.38 of what this head uses (no AMR); AMR pixels=1:")


def test_nothing_is_praised(made):
    text = " ".join(of(made(seeds=3))[0]).lower()
    assert not {"better", "improves", "significant", "helps"} & set(text.replace(",", " ").replace(".", " ").split())
