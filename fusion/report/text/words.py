"""Findings in sentences, made from the numbers. A difference is reported only if a paired test finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amr.fusion.choices import Score
from amr.fusion.evaluate.tables import rank_sentence
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, counterpart, reference_of
from amr.fusion.report.tables import (
    MINUS,
    SIGNIFICANT,
    fraction,
    label_of,
    main_measures,
    measure_words,
    paired_in_table,
    side_by_side,
    signed,
    terms_of,
)
from amr.fusion.report.text.use import LITTLE, unit_of
from amr.fusion.runs.statistics import interval_inside, p_text, why_no_test

ALIKE = 0.05  # uses closer than this, and of one order, are called about equal
APART = 0.10  # gap between share and use share that is worth a warning
MAX_REPORTED = 4
JOINS = {"multiclass": "of", "multilabel": "with", "regression": "with"}  # between clips and what is predicted of them


def summary(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences with what a reader should take away."""
    sentences = [_fitted(results, settings)]
    reference = reference_of(settings)
    if reference is not None and reference.gain() is not None:
        sentences += [_reached(reference, settings), *_relies(reference), *_learned(reference)]
    elif len(settings) == 1:
        sentences += [_reached(settings[0], settings), *_relies(settings[0]), *_learned(settings[0])]
    sentences += _moved(settings) if results.frontier is None else []  # the verdict of a frontier has its price
    if results.frontier is None or results.evaluation is not None:
        sentences += _tested(results, settings)
    ranks = None if results.evaluation is None else rank_sentence(results.evaluation)
    if ranks is not None:
        sentences.append(f"{ranks[0].upper()}{ranks[1:].replace('-', MINUS)}.")
    if results.evaluation is None:
        sentences.append(
            "These are only the measures of training: amr evaluate adds missing modalities, noise, "
            + "Shapley use shares " * (results.frontier is None)
            + "and paired tests"
            + " of every measure" * bool(results.table_tests)
            + "."
        )
    return [sentence for sentence in sentences if sentence]


def warnings(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences on what makes the results doubtful, such as a ratio that a run did not reach."""
    found = dict.fromkeys(text for run in results.runs for text in run.record.warnings)
    for setting in settings:
        for run in setting.runs:
            missed = run.record.missed_target(run.val, run.test)
            if missed is not None:
                found[missed if len(results.runs) == 1 else f"{setting.label}, seed {run.seed}: {missed}"] = None
    return list(found)


def terms(results: ResultFolder) -> dict[str, str]:
    """Definitions of the measures that the sentences name."""
    return terms_of(_found_beyond(results.comparisons, results.score)[:MAX_REPORTED], results.score)


def _fitted(results: ResultFolder, settings: Sequence[Setting]) -> str:
    runs = results.runs
    config = runs[0].config
    if results.record.model is not None:
        audited = f"{runs[0].measures['num_clips']:.0f} clips {JOINS[results.record.config.task]} {_kind(results)}"
        return f"An audit of {results.record.model} on {audited}."
    seeds = len({run.seed for run in runs})
    num = results.evaluation["num_clips"] if results.evaluation is not None else runs[0].measures.get("num_clips")
    if results.training is None:
        made = "one fitted head" if len(runs) == 1 else f"{len(runs)} fitted heads"
    else:
        made = f"{'one model' if len(runs) == 1 else f'{len(runs)} models'} trained end to end"
    text = f"{made} on {results.clips}, predicting {_targets(results)}"
    text += "" if num is None else f" for {int(num)} test clips"
    if config.folds:
        text += f" in {config.folds} folds"
    if len(runs) > 1:
        text += f": {_count(len(settings), 'setting')}, {_count(seeds, 'seed')}"
    return text[0].upper() + text[1:] + "."


def _targets(results: ResultFolder) -> str:
    return f"{results.record.config.label!r} ({_kind(results)})"


def _kind(results: ResultFolder) -> str:
    num = len(results.classes)
    return {"multilabel": _count(num, "label"), "regression": "a number"}.get(
        results.record.config.task, f"{num} classes"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _reached(setting: Setting, settings: Sequence[Setting]) -> str:
    score = setting.score
    value, half = setting.mean(score.name), setting.half_width(score.name)
    if value is None:
        return ""
    name = f"Joint training ({setting.label})" if setting.fuses else f"The head ({setting.label})"
    name = setting.runs[0].record.model or name
    sentence = f"{name} has {score.words} {fraction(value)} on the test clips"
    ends = interval_inside(value, half, score.bounds)
    if ends is not None:
        over = "seeds" if len(setting.values(score.name)) > 1 else "bootstrapped clips"
        sentence += f" (95\N{NO-BREAK SPACE}% interval over {over} {fraction(ends[0])} to {fraction(ends[1])})"
    others = [
        f"{g.label} {fraction(other)}"
        for g in settings
        if g is not setting
        and not g.fuses
        and g.texts["method_option"] == "-"
        and (other := g.mean(score.name)) is not None
    ]
    sentence += f"; {', '.join(others)}." if others else "."
    gain, half = setting.mean("gain_over_ume"), setting.half_width("gain_over_ume")
    if gain is not None:
        between = (
            "" if half is None else f" (95\N{NO-BREAK SPACE}% interval {signed(gain - half)} to {signed(gain + half)})"
        )
        sentence += f" Its gain over UME, the average of uni-modal heads, is {signed(gain)}{between}."
    return sentence


def _relies(setting: Setting) -> list[str]:
    """Sentences on what it uses, and whether attribution agrees."""
    uses = {m: value for m, value in setting.by_modality("perceptual").items() if value is not None}
    shares = {m: value for m, value in setting.by_modality("share").items() if value is not None}
    use_shares = {m: value for m, value in setting.by_modality("use_share").items() if value is not None}
    sentences = []
    if len(uses) > 1:
        ranked = sorted(uses, key=lambda m: -uses[m])
        listed = ", ".join(f"use of {m} {fraction(uses[m])}" for m in ranked)
        most, least = uses[ranked[0]], uses[ranked[-1]]
        if most < unit_of(setting) * LITTLE:
            relies = "It hardly relies on any modality"
        elif most - least < unit_of(setting) * ALIKE and least > most / 2:
            relies = "It relies on its modalities about equally"
        else:
            relies = f"It relies most on {ranked[0]}"
        lost = setting.score.lost
        sentences.append(f"{relies}: {listed} ({lost} if the modality is permuted between test clips).")
    if len(shares) > 1:
        sentence = f"Its shares, by attribution, are {side_by_side(shares)} ({'/'.join(shares)})"
        if set(use_shares) == set(shares):
            gaps = {m: round(abs(shares[m] - use_shares[m]), 6) for m in shares}
            widest = max(gaps, key=lambda m: gaps[m])
            gap = gaps[widest]
            sentence += f", its use shares {side_by_side(use_shares)}: "
            sentence += (
                f"{gap:.2f} apart for {widest}, so the shares do not show what it uses"
                if gap >= APART
                else f"they agree within {APART:.2f}"
            )
        sentences.append(sentence + ".")
    return sentences


def _learned(setting: Setting) -> list[str]:
    """Sentence on what its encoders learned, against encoders trained alone; empty if no encoder was trained."""
    if not any(run.evaluated.get("encoders_alone") for run in setting.runs):
        return []
    jointly, alone = (setting.by_modality(f"probe.{of}") for of in ("joint", "unimodal"))
    order = "/".join(setting.modalities)
    return [
        f"Linear probes on z of its encoders have accuracy {side_by_side(jointly)} ({order}), and on z of encoders "
        f"trained alone {side_by_side(alone)}."
    ]


def _moved(settings: Sequence[Setting]) -> list[str]:
    """Sentence on how AMR moved the shares, and whether use followed; a description, no verdict."""
    pairs = [(setting, other) for setting in settings if (other := counterpart(setting, settings)) is not None]
    if not pairs:
        return []
    even = [pair for pair in pairs if pair[0].is_even]
    setting, other = max(even or pairs, key=lambda pair: pair[0].val_gain)
    num = len(even or pairs)
    chosen = f"Of {num} settings with AMR{' and an even ratio' * bool(even)}, {setting.label} is best on val. It "
    before, after = other.by_modality("share"), setting.by_modality("share")
    order = "/".join(setting.modalities)
    verb, ends = _move(before, after)
    sentence = f"{chosen if num > 1 else f'{setting.label} '}{verb} the shares {ends} ({order})"
    uses = [g.by_modality("perceptual") for g in (other, setting)]
    if all(value is not None for by_modality in uses for value in by_modality.values()):
        again, ends = _move(*uses)
        sentence += f", and {'' if again == verb else f'{again} '}use {ends}"
    return [sentence + "."]


def _move(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> tuple[str, str]:
    """Verb, and where values of the modalities come from and go to, as they are printed.

    >>> _move({"audio": 0.7, "video": 0.3}, {"audio": 0.7004, "video": 0.2996})
    ('left', 'at 0.70/0.30')
    """
    first, last = side_by_side(before), side_by_side(after)
    return ("left", f"at {first}") if first == last else ("moved", f"from {first} to {last}")


def _tested(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences on what the paired tests found in the score, then in the other main measures."""
    tests, score = results.comparisons, results.score
    score_tests = [test for test in tests if test["measure"] == score.name]
    if not score_tests:
        if results.table_tests:
            return [_tested_in_table(results)]
        if any(setting.regularized for setting in settings):
            return ["Paired tests of all settings, corrected for their number, are not here, so none is reported."]
        return []
    no_test = why_no_test(max(test["num_pairs"] for test in score_tests))
    if no_test is not None:
        return [f"There are no paired tests: {no_test}."]
    found = [test for test in score_tests if _significant(test)]
    listed = [f"{label_of(test, settings)} by {signed(test['difference'])} (corrected p {_p(test)})" for test in found]
    if listed:
        sentences = [
            f"{score.title} differs from no AMR in {len(found)} of {_count(len(score_tests), 'setting')} by the paired "
            f"tests: {', '.join(listed[:MAX_REPORTED])}{' and more' if len(listed) > MAX_REPORTED else ''}."
        ]
    else:
        known = [float(test["p_corrected"]) for test in score_tests if test.get("p_corrected") is not None]
        least = f" (smallest corrected p {p_text(min(known))})" if known else ""
        sentences = [
            f"In {score.words}, none of {_count(len(score_tests), 'AMR setting')} can be distinguished from no AMR by "
            f"the paired tests{least}."
        ]
    others = _found_beyond(tests, score)
    if others:
        num_measures = len({test["measure"] for test in tests if test["measure"].startswith(_reported(score))})
        listed = [
            f"{label_of(test, settings)}, {measure_words(test['measure'], score)} {signed(test['difference'])} "
            f"(corrected p {_p(test)})"
            for test in others[:MAX_REPORTED]
        ]
        more = len(others) - len(listed)
        sentences.append(
            f"Beyond {score.words}, the tests find: "
            + "; ".join(listed)
            + (f"; and {more} more in the table of tests." if more > 0 else ".")
            + f" {_count(num_measures, 'measure')} tested; p is corrected within each."
        )
    return sentences


def _tested_in_table(results: ResultFolder) -> str:
    """Sentence on what the tests of `amr table` found in the score."""
    score, unit = results.score, paired_in_table(results)
    apart = " (above, each fold is a pair)" * (results.runs[0].config.folds > 1)
    no_test = why_no_test(results.num_seeds)
    if no_test is not None:
        return f"Under Statistics is the change of each method, {unit}{apart}. It is not tested: {no_test}."
    tests = [test for test in results.table_tests if test["measure"] == score.name]
    found = [test for test in tests if _significant({**test, "p_corrected": test["p_holm"]})]
    listed = [f"{test['method']} by {signed(test['difference'])} (p {p_text(test['p_holm'])})" for test in found]
    if listed:
        more = f" and {len(listed) - MAX_REPORTED} more" if len(listed) > MAX_REPORTED else ""
        outcome = f"AMR changes {score.words} of {len(found)} of {_count(len(tests), 'method')}: "
        outcome += f"{', '.join(listed[:MAX_REPORTED])}{more}"
    else:
        known = [float(test["p_holm"]) for test in tests if test["p_holm"] is not None]
        least = f" (smallest corrected p {p_text(min(known))})" if known else ""
        outcome = f"a change of {score.words} by AMR is found in none of {_count(len(tests), 'method')}{least}"
    return f"By the tests under Statistics, {unit}{apart} and corrected over the methods, {outcome}."


def _reported(score: Score) -> tuple[str, ...]:
    """Beginnings of the names of the main measures beyond the score."""
    return main_measures(score)[1:]


def _found_beyond(tests: Sequence[Mapping[str, Any]], score: Score) -> list[Mapping[str, Any]]:
    found = [test for test in tests if test["measure"].startswith(_reported(score)) and _significant(test)]
    return sorted(found, key=lambda test: float(test["p_corrected"]))


def _significant(test: Mapping[str, Any]) -> bool:
    return test.get("p_corrected") is not None and test["p_corrected"] < SIGNIFICANT and test["difference"] is not None


def _p(test: Mapping[str, Any]) -> str:
    return p_text(test["p_corrected"])
