from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from amr.fusion.choices import SCORES
from amr.fusion.evaluate.comparison import Measured, rank_correlations


def measured(ratio, accuracy, share, use_share, seed=0, fuses=True):
    modalities = tuple("abcdef"[: len(share)])
    parts = None if ratio is None else np.array([float(part) for part in ratio.split(":")])
    target = None if ratio is None else dict(zip(modalities, parts / parts.sum(), strict=True))
    run = SimpleNamespace(
        setting={"amr_ratio": ratio, "method": "naive" if fuses else "ume"},
        modalities=modalities,
        fuses=fuses,
        score=SCORES["multiclass"],
        record=SimpleNamespace(target_share=target),
        config=SimpleNamespace(seed=seed),
    )
    value = {("accuracy",): accuracy}
    value |= {("share", m): part for m, part in zip(modalities, share, strict=True)}
    value |= {("use_share", m): part for m, part in zip(modalities, use_share, strict=True)}
    return Measured(run, value, {}, {}, {}, 0.0)


SWEEP = [
    measured(None, 0.70, (0.6, 0.4), (0.8, 0.2)),
    measured("4:1", 0.66, (0.8, 0.2), (0.75, 0.25)),
    measured("2:1", 0.71, (0.67, 0.33), (0.7, 0.3)),
    measured("1:1", 0.69, (0.51, 0.49), (0.6, 0.4)),
    measured("1:2", 0.65, (0.34, 0.66), (0.55, 0.45)),
    measured("1:4", 0.60, (0.2, 0.8), (0.5, 0.5)),
]


def balance(share):
    return 1 - sum(abs(part - 1 / len(share)) for part in share) / (2 - 2 / len(share))


def test_it_is_the_rank_correlation_of_scipy_over_settings():
    found = rank_correlations(SWEEP)
    for kind, name in (("share", "share"), ("use", "use_share")):
        for part, members in (("all", SWEEP), ("without_outermost", [SWEEP[i] for i in (0, 2, 3, 4)])):
            accuracies = [m.value["accuracy",] for m in members]
            balances = [balance([m.value[name, modality] for modality in "ab"]) for m in members]
            entry = found[kind][part]
            assert entry["rho"] == pytest.approx(spearmanr(balances, accuracies).statistic)
            assert entry["n"] == len(members)
    assert found["use"]["all"]["rho"] < 0


def test_p_is_exact_for_few_settings():
    rising = [
        measured(None if i == 0 else f"1:{i}", 0.5 + i / 10, (0.9 - i / 10, 0.1 + i / 10), (0.5, 0.5)) for i in range(4)
    ]
    entry = rank_correlations(rising)["share"]["all"]
    assert entry == {"rho": pytest.approx(1), "p": pytest.approx(2 / 24), "n": 4}
    assert rank_correlations(rising)["use"]["all"] is None  # the same for all


def test_means_are_over_seeds_and_baselines_that_do_not_fuse_are_left_out():
    twice = [
        measured(m.run.setting["amr_ratio"], m.value["accuracy",] + change, (a, 1 - a), (0.5, 0.5), seed)
        for seed, change in ((0, -0.1), (1, 0.1))
        for m in SWEEP
        for a in [m.value["share", "a"]]
    ]
    ume = measured(None, 0.9, (0.5, 0.5), (0.5, 0.5), fuses=False)
    assert rank_correlations([*twice, ume])["share"] == rank_correlations(SWEEP)["share"]


def test_fewer_than_four_settings_have_none():
    assert rank_correlations(SWEEP[:3]) is None
    assert rank_correlations(SWEEP[:4])["share"]["without_outermost"] is None
    assert rank_correlations([]) is None


def test_runs_without_a_use_share_are_left_out():
    gone = [*SWEEP[:5], measured("1:4", 0.60, (0.2, 0.8), (np.nan, np.nan))]
    found = rank_correlations(gone)
    assert (found["share"]["all"]["n"], found["use"]["all"]["n"]) == (6, 5)


def test_more_modalities_and_no_ratio():
    settings = [
        measured(None if i == 0 else "1:1:1", 0.5 + 0.02 * i**2, (0.4 + i / 20, 0.3, 0.3 - i / 20), (0.4, 0.3, 0.3))
        for i in range(5)
    ]
    for i, m in enumerate(settings):  # told apart by another setting
        m.run.setting["method"] = f"method {i}"
    found = rank_correlations(settings)["share"]
    assert found["all"]["rho"] == pytest.approx(-1)
    assert found["without_outermost"] is None
