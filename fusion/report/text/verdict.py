"""The verdict: what a head uses, how far AMR moves it, at what price, and the head to take. Numbers first, no praise.

The setting with AMR is chosen on val and reported on test, by the rule of `amr frontier`: of the settings that cost at
most `MAX_COST` of val accuracy or mAP, or that part of the val error, the nearest to even use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amr.fusion.attribution.base import attributions
from amr.fusion.choices import Score
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.reading import reading
from amr.fusion.report.frontier import relabelled
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, counterpart, reference_of
from amr.fusion.report.tables import MINUS, fraction, side_by_side, signed
from amr.fusion.report.text.use import uses_any
from amr.fusion.runs.read import Run, best_of, flat, use_shares
from amr.fusion.runs.statistics import MIN_PAIRS, PairedTest, interval_inside, paired_test, ratio_interval

MAX_COST = FrontierConfig.max_cost
FEW = 100  # val clips, of which one is more than `MAX_COST`
TENTH = 0.1
INTERVAL = "95\N{NO-BREAK SPACE}% interval"
TERMS = {
    "use": "accuracy lost if a modality is permuted between the test clips, mean of 10 orders: what predictions need",
    "use share": "a modality's use over the sum of all, negative values taken as 0",
    "AMR": "attribution regularization: training that pulls the modalities' parts of each decision, by the attribution "
    "that is named, towards a ratio",
    "±": "half of the 95 % interval (t) of the mean of paired differences; pairs differ in seed, and in fold if there "
    "are folds, whose common training clips widen it (Nadeau & Bengio 2003)",
}


@dataclass(frozen=True)
class Change:
    """A setting with AMR against the same setting without.

    Args:
        setting: Setting with AMR.
        plain: Setting without.
        modality: Modality that the plain setting uses most.
        moved: Paired test of the use share of the modality, AMR minus plain.
        gain: Paired test of the accuracy, or of the gain in another score, AMR minus plain.
        per_tenth: Gain lost for each .10 of use share moved, with its interval; None if the move may be none.
    """

    setting: Setting
    plain: Setting
    modality: str
    moved: PairedTest
    gain: PairedTest
    per_tenth: tuple[float, tuple[float, float] | None] | None


def verdict(results: ResultFolder, settings: Sequence[Setting]) -> list[str]:
    """Sentences of the verdict; empty if no head fuses modalities, or no use was measured."""
    change = change_of(settings)
    plain = change.plain if change is not None else plain_of(settings)
    if plain is None:
        return []
    if not uses_any(plain):
        return [_uses_none(plain)]
    sentences = [_uses(plain, change)]
    if change is not None:
        sentences.append(_certainty(change))
    if results.frontier is not None:
        found = reading(relabelled(results.frontier, settings))
        return [*sentences, *(re.sub(r"(?<= )-(?=[\d.])", MINUS, sentence) for sentence in found)]
    sentences += [] if change is None else [_price(change)]
    return [*sentences, *([_best(settings)] if len(settings) > 1 else [])]


def _uses_none(plain: Setting) -> str:
    """Sentence on a head without use: nothing is to be balanced."""
    user = "This head" if plain.runs[0].record.model is None else "This model"
    uses = side_by_side(plain.by_modality("perceptual"))
    return (
        f"{user} hardly uses any modality ({plain.label}): its use is {uses} ({'/'.join(plain.modalities)}), its "
        f"{plain.score.words} {_with_interval(plain)}. There is nothing to balance yet."
    )


def terms(settings: Sequence[Setting]) -> dict[str, str]:
    """Definitions of the words of the verdict."""
    has_amr = change_of(settings) is not None
    score = settings[0].score
    return {word: score.in_words(text) for word, text in TERMS.items() if has_amr or word.startswith("use")}


def plain_of(settings: Sequence[Setting]) -> Setting | None:
    """Setting that the verdict begins with: the reference, or the only one; None if its use is not known."""
    setting = reference_of(settings) or next((each for each in settings if each.fuses), None)
    return setting if setting is not None and setting.has("use_share") else None


def change_of(settings: Sequence[Setting]) -> Change | None:
    """Change by the setting with AMR that is chosen on val; None if there is none, or use is not known."""
    pairs = [(setting, plain) for setting in settings if (plain := counterpart(setting, settings)) is not None]
    pairs = [pair for pair in pairs if all(uses_any(setting) for setting in pair)]
    if not pairs:
        return None
    plain = plain_of(settings)
    pairs = [pair for pair in pairs if pair[1] is plain] or pairs
    return _change(*min(pairs, key=lambda pair: _rank(*pair)))


def _rank(setting: Setting, plain: Setting) -> tuple[bool, float]:
    """Order of settings with AMR, the best first: cheap enough on val, then near to even use there."""
    cost = _val_gain(plain) - _val_gain(setting)
    is_cheap = cost <= _allowed(_val_gain(plain), plain.score)
    return not is_cheap, distance(setting) if is_cheap else cost


def _val(setting: Setting, name: str) -> float:
    value = setting.mean(name, "val")
    return (setting.mean(name) or 0.0) if value is None else value


def _val_gain(setting: Setting) -> float:
    return setting.score.gain(_val(setting, setting.score.name))


def _allowed(gain: float, score: Score) -> float:
    """Most of a gain on val that balance may cost: `MAX_COST`, or that part of an error."""
    return MAX_COST * -gain if score.least_is_best else MAX_COST


def distance(setting: Setting) -> float:
    """Part of the use that would have to move for even use, on val."""
    uses = {f"perceptual.{m}": _val(setting, f"perceptual.{m}") for m in setting.modalities}
    shares = use_shares(uses, setting.modalities).values()
    return sum(abs(share - 1 / len(setting.modalities)) for share in shares) / 2 if shares else 1.0


def _change(setting: Setting, plain: Setting) -> Change | None:
    uses = {m: plain.mean(f"use_share.{m}") or 0.0 for m in plain.modalities}
    modality = max(uses, key=lambda m: uses[m])
    moves, gains = [], []
    for run in setting.runs:
        other = next((each for each in plain.runs if each.seed == run.seed), None)
        if other is None:
            continue
        for one, two in zip(_of_folds(run), _of_folds(other), strict=False):
            if modality in one[1] and modality in two[1]:
                gains.append(one[0] - two[0])
                moves.append(one[1][modality] - two[1][modality])
    folds = plain.runs[0].config.folds
    overlap = 1 / (folds - 2) if folds > 2 else 0.0  # test clips over train clips
    if not moves:  # no seed in common
        return None
    moved, gain = paired_test(moves, overlap), paired_test(gains, overlap)
    per_tenth = None
    if moved.interval is not None and moved.interval[1] < 0:
        lost, towards = -np.array(gains), -np.array(moves)
        interval = ratio_interval(lost, towards, overlap)
        scaled = None if interval is None else (TENTH * interval[0], TENTH * interval[1])
        per_tenth = float(TENTH * lost.mean() / towards.mean()), scaled
    return Change(setting, plain, modality, moved, gain, per_tenth)


def _of_folds(run: Run) -> list[tuple[float, dict[str, float]]]:
    """Gain and use shares on test in each fold."""
    found = []
    for fold in run.folds:
        measures = flat(fold["test"] or fold["val"] or {})
        shares = use_shares(measures, run.modalities)
        found.append(
            (
                run.score.gain(measures[run.score.name]),
                {name.partition(".")[2]: share for name, share in shares.items()},
            )
        )
    return found


def _uses(plain: Setting, change: Change | None) -> str:
    shares = {m: plain.mean(f"use_share.{m}") or 0.0 for m in plain.modalities}
    modality = max(shares, key=lambda m: shares[m])
    name = modality[:1].upper() + modality[1:]
    score = plain.score
    user = "this head" if plain.runs[0].record.model is None else "this model"
    text = f"{name} carries {shares[modality]:.2f} of what {user} uses ({plain.label})"
    if change is None:
        ends = interval_inside(shares[modality], plain.half_width(f"use_share.{modality}"))
        between = "" if ends is None else f", {INTERVAL} {ends[0]:.2f} to {ends[1]:.2f}"
        return f"{text[:-1]}{between}); its {score.words} is {_with_interval(plain)}."
    after = change.setting.mean(f"use_share.{modality}") or 0.0
    amr, attribution = change.setting.label, change.setting.runs[0].config.attribution
    if attribution not in amr:
        amr += f" on {attributions[attribution].label}"
    is_moved = f"{after:.2f}" != f"{shares[modality]:.2f}"
    move = f"moves it to {after:.2f}, and" if is_moved else f"leaves it at {after:.2f}, and moves"
    return (
        f"{text}; {amr} {move} {score.words} by {_plus_minus(change.gain, score)} "
        f"(from {fraction(plain.mean(score.name))} to {fraction(change.setting.mean(score.name))})."
    )


def _with_interval(setting: Setting) -> str:
    score = setting.score
    value = setting.mean(score.name)
    ends = interval_inside(value, setting.half_width(score.name), score.bounds)
    return fraction(value) + ("" if ends is None else f" ({INTERVAL} {ends[0]:.3f} to {ends[1]:.3f})")


def _plus_minus(test: PairedTest, score: Score | None = None) -> str:
    """Difference and half of its interval; of a gain, as a difference of the score."""
    difference = test.difference if score is None else score.gain(test.difference)
    if test.interval is None:
        return signed(difference)
    return f"{signed(difference)} ± {(test.interval[1] - test.interval[0]) / 2:.3f}"


def _certainty(change: Change) -> str:
    """Sentence on what the paired tests can and cannot tell from noise."""
    pairs = change.moved.num_pairs
    of = "seed and fold" if change.plain.runs[0].config.folds > 1 else "runs"
    if pairs < MIN_PAIRS:
        return f"With {pairs} pair{'s' * (pairs != 1)} of {of} there is no interval: three are needed."
    if change.moved.interval is None or change.gain.interval is None:
        return f"The differences of the {pairs} pairs of {of} are all alike: there is no interval."
    found = [low > 0 or high < 0 for low, high in (change.moved.interval, change.gain.interval)]
    words = change.plain.score.words
    outcome = {
        (True, True): f"the move and the change in {words} are both more than noise",
        (True, False): f"the move is more than noise, and the change in {words} cannot be told from noise",
        (False, True): f"the move cannot be told from noise, and the change in {words} is more than noise",
        (False, False): f"neither the move nor the change in {words} can be told from noise",
    }[found[0], found[1]]
    return f"By paired tests of {pairs} pairs of {of}, {outcome}; the use share moves by {_plus_minus(change.moved)}."


def _price(change: Change) -> str:
    if change.per_tenth is None:
        reason = "three pairs are needed" if change.moved.interval is None else "the move is not surely towards balance"
        return f"There is no price for .10 of use share: {reason}."
    price, interval = change.per_tenth
    between = "" if interval is None else f" ({INTERVAL} {signed(interval[0])} to {signed(interval[1])})"
    score = change.plain.score
    costs = (
        f"raises {score.words} by {fraction(price)}"
        if score.least_is_best
        else (f"costs {fraction(price)} of {score.words}")
    )
    return f"Moving .10 of use share away from {change.modality} {costs}{between}."


def _best(settings: Sequence[Setting]) -> str:
    """Sentence on the head to take: near to even use, and cheap on val against the best."""
    fused = [setting for setting in settings if setting.fuses and uses_any(setting)]
    score = settings[0].score
    most = max(map(_val_gain, fused))
    allowed = _allowed(most, score)
    near = [setting for setting in fused if most - _val_gain(setting) <= allowed]
    best = min(near, key=distance)
    run = best_of(best.runs)
    shares = {m: run.measures.get(f"use_share.{m}") for m in best.modalities}
    side = "above" if score.least_is_best else "below"
    return (
        f"Of the heads at most {allowed:.3g} of val {score.words} {side} the best, the one to take is the nearest to "
        f"even use on val: {best.label}, seed {run.seed}, with test {score.words} "
        f"{fraction(run.measures.get(score.name))} and use shares {side_by_side(shares)} ({'/'.join(best.modalities)})"
        f"{_few_val_clips(run)}."
    )


def _few_val_clips(run: Run) -> str:
    """Words on a choice by few val clips; empty if they are enough."""
    num = run.val_measures.get("num_clips", math.inf)
    return f", chosen by only {num:.0f} val clips" if num < FEW else ""
