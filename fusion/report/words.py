"""Findings in sentences, made from the numbers. A difference is reported only if a paired test finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.balance import use_share
from amr.fusion.report.settings import Setting, counterpart, reference_of
from amr.fusion.report.tables import SIGNIFICANT, measure_words, percent, points, signed, split_text
from amr.fusion.runs.statistics import p_text

ALIKE = 0.05  # costs closer than this are called about equal
APART = 0.10  # gap between share and use that is worth a warning
REPORTED = ("map", "full_minus_worst.mean", "robustness", "conflict.balance", "calibration.clean.ece")
MAX_REPORTED = 4


def summary(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences with what a reader should take away."""
    sentences = [_fitted(results, settings)]
    reference = reference_of(settings)
    if reference is not None and reference.mean("accuracy") is not None:
        sentences += [_reached(reference, settings), *_relies(reference)]
    elif len(settings) == 1:
        sentences += [_reached(settings[0], settings), *_relies(settings[0])]
    sentences += _moved(settings)
    sentences += _tested(results, settings)
    if results.evaluation is None:
        sentences.append(
            "These are only the measures of training: amr evaluate adds missing modalities, noise, Shapley values and "
            "paired tests."
        )
    return [sentence for sentence in sentences if sentence]


def _fitted(results: ResultFolder, settings: Sequence[Setting]) -> str:
    runs = results.runs
    config = runs[0].config
    seeds = len({run.seed for run in runs})
    num = results.evaluation["num_clips"] if results.evaluation is not None else runs[0].measures.get("num_clips")
    heads = "one fitted head" if len(runs) == 1 else f"{len(runs)} fitted heads"
    text = f"{heads} on {results.cache.stem}, predicting {config.label!r} ({len(results.classes)} classes)"
    text += "" if num is None else f" for {int(num)} test clips"
    if config.folds:
        text += f" in {config.folds} folds"
    if len(runs) > 1:
        text += f": {_count(len(settings), 'setting')}, {_count(seeds, 'seed')}"
    return text[0].upper() + text[1:] + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _reached(setting: Setting, settings: Sequence[Setting]) -> str:
    accuracy, half = setting.mean("accuracy"), setting.half_width("accuracy")
    if accuracy is None:
        return ""
    name = f"Joint training ({setting.label})" if setting.fuses else f"The head ({setting.label})"
    sentence = f"{name} is right on {percent(accuracy)} of the test clips"
    if half is not None:
        over = "seeds" if len(setting.values("accuracy")) > 1 else "bootstrapped clips"
        sentence += (
            f" (95\N{NO-BREAK SPACE}% interval over {over} {percent(accuracy - half)} to {percent(accuracy + half)})"
        )
    others = [
        f"{g.label} on {percent(value)}"
        for g in settings
        if g is not setting and not g.fuses and (value := g.mean("accuracy")) is not None
    ]
    sentence += f"; {', '.join(others)}." if others else "."
    gain, half = setting.mean("gain_over_ume"), setting.half_width("gain_over_ume")
    if gain is not None:
        between = (
            "" if half is None else f" (95\N{NO-BREAK SPACE}% interval {points(gain - half)} to {points(gain + half)})"
        )
        sentence += f" Over UME, the average of uni-modal heads, it gains {points(gain)} points{between}."
    return sentence


def _relies(setting: Setting) -> list[str]:
    """Sentences on what permuting costs, and whether attribution agrees."""
    costs = {m: value for m, value in setting.by_modality("perceptual").items() if value is not None}
    shares = {m: value for m, value in setting.by_modality("share").items() if value is not None}
    sentences = []
    if len(costs) > 1:
        ranked = sorted(costs, key=lambda m: -costs[m])
        listed = ", ".join(f"permuting {m} costs {100 * costs[m]:.1f} points of accuracy" for m in ranked)
        alike = costs[ranked[0]] - costs[ranked[-1]] < ALIKE
        relies = "It relies on its modalities about equally" if alike else f"It relies most on {ranked[0]}"
        sentences.append(f"{relies}: {listed}.")
    use = use_share(setting)
    if len(shares) > 1:
        order = "/".join(shares)
        sentence = f"Attribution splits its decisions {split_text(shares)} ({order})"
        if use is not None and set(use) == set(shares):
            widest = max(shares, key=lambda m: abs(shares[m] - use[m]))
            gap = abs(shares[widest] - use[widest])
            sentence += f", while the costs of permuting split {split_text(use)}: "
            sentence += (
                f"{100 * gap:.0f} points apart for {widest}, so the shares do not show what it uses"
                if gap >= APART
                else "share and use agree within 10 points"
            )
        sentences.append(sentence + ".")
    return sentences


def _moved(settings: Sequence[Setting]) -> list[str]:
    """Sentence on how AMR moved the shares, and whether use followed; a description, no verdict."""
    pairs = [(setting, other) for setting in settings if (other := counterpart(setting, settings)) is not None]
    if not pairs:
        return []
    even = [pair for pair in pairs if len(set(pair[0].texts["amr_ratio"].split(":"))) == 1]
    setting, other = max(even or pairs, key=lambda pair: pair[0].mean("accuracy", "val") or -1.0)
    before, after = other.by_modality("share"), setting.by_modality("share")
    order = "/".join(setting.modalities)
    sentence = f"{setting.label} moved the shares from {split_text(before)} to {split_text(after)} ({order})"
    costs = [g.by_modality("perceptual") for g in (other, setting)]
    if all(value is not None for by_modality in costs for value in by_modality.values()):
        sentence += f", and the costs of permuting from {split_text(costs[0])} to {split_text(costs[1])} points"
    return [sentence + "."]


def _tested(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences on what the paired tests found in accuracy, then in the other main measures."""
    tests = results.comparisons
    accuracy_tests = [test for test in tests if test["measure"] == "accuracy"]
    if not accuracy_tests:
        if any(setting.regularized for setting in settings):
            return ["No paired test compares AMR with none here, so no difference is reported."]
        return []
    found = [test for test in accuracy_tests if _significant(test)]
    listed = [
        f"{_label(test, settings)} by {points(test['difference'])} points (corrected p {_p(test)})" for test in found
    ]
    if listed:
        sentences = [
            f"Accuracy differs from no AMR in {len(found)} of {_count(len(accuracy_tests), 'setting')} by the paired "
            f"tests: {', '.join(listed[:MAX_REPORTED])}{' and more' if len(listed) > MAX_REPORTED else ''}."
        ]
    else:
        known = [float(test["p_corrected"]) for test in accuracy_tests if test.get("p_corrected") is not None]
        least = f" (smallest corrected p {p_text(min(known))})" if known else ""
        sentences = [
            f"In accuracy, none of {_count(len(accuracy_tests), 'AMR setting')} can be distinguished from no AMR by "
            f"the paired tests{least}."
        ]
    others = [test for test in tests if test["measure"].startswith(REPORTED) and _significant(test)]
    others.sort(key=lambda test: float(test["p_corrected"]))
    if others:
        num_measures = len({test["measure"] for test in tests if test["measure"].startswith(REPORTED)})
        listed = [
            f"{_label(test, settings)}, {measure_words(test['measure'])} {signed(test['difference'])} "
            f"(corrected p {_p(test)})"
            for test in others[:MAX_REPORTED]
        ]
        more = len(others) - len(listed)
        sentences.append(
            "Beyond accuracy, the tests find: "
            + "; ".join(listed)
            + (f"; and {more} more in the table of tests." if more > 0 else ".")
            + f" {_count(num_measures, 'measure')} tested; p is corrected within each."
        )
    return sentences


def _significant(test: Mapping[str, Any]) -> bool:
    return test.get("p_corrected") is not None and test["p_corrected"] < SIGNIFICANT and test["difference"] is not None


def _p(test: Mapping[str, Any]) -> str:
    return p_text(test["p_corrected"])


def _label(test: Mapping[str, Any], settings: Sequence[Setting]) -> str:
    return next((setting.label for setting in settings if setting.matches(test)), f"AMR {test['amr_ratio']}")
