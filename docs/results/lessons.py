"""Sentences about the trainings of encoders, with computed numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from paired import Setting
from tables import PLAIN, number, with_half
from trained import ORDER, Trainings, against, amr_of, mean

from amr.fusion.runs.statistics import paired_test

LEVEL = 0.05  # of the corrected tests
SHOWN = 0.0005  # smaller differences round to 0
MOVED = 0.02  # least move of a use share towards even that counts


def lessons(several: Sequence[Trainings]) -> list[str]:
    """One paragraph per question, with a sentence or two for each label."""
    questions: tuple[tuple[str, Callable[[Trainings], Iterator[str]]], ...] = (
        ("Does it help to balance use, if encoders are trained?", _balance),
        ("Does AMR beat the best without it?", _best),
        ("What does AMR cost?", _accuracy),
        ("What does AMR move?", _moves),
        ("Do encoders learn less together?", _probes),
    )
    return [
        f"**{title}** " + " ".join(f"*{each.label}.* {' '.join(say(each))}" for each in several)
        for title, say in questions
    ]


def missing(several: Sequence[Trainings], planned: Sequence[Sequence[tuple[str, str | None]]], num_seeds: int) -> str:
    """A sentence on the settings that are not finished; empty if all are.

    Args:
        several: Finished settings of each label.
        planned: Method and AMR of each setting, for each label.
        num_seeds: Number of seeds of each setting.
    """
    texts = []
    for trainings, settings in zip(several, planned, strict=True):
        seeds = {(each.runs[0].config.method, amr_of(each)): len(each.runs) for each in trainings.joint}
        lacks = {setting: seeds.get(setting, 0) for setting in settings if seeds.get(setting, 0) < num_seeds}
        names = [f"{method}, {amr or PLAIN} ({count})" for (method, amr), count in lacks.items()]
        texts += [f"*{trainings.label}*: {'; '.join(names)}"] if names else []
    return f"Not finished, with the number of finished seeds: {'. '.join(texts)}." if texts else ""


def _balance(trainings: Trainings) -> Iterator[str]:
    first, count = trainings.modalities[0], len(trainings.regularized)
    moved = [i for i in trainings.tests if _nearer(trainings, trainings.joint[i]) >= MOVED]
    if not moved:
        yield f"None of {count} settings with AMR brings {first}'s use share nearer to 0.50 by {MOVED} or more."
        return
    tests = [trainings.tests[i] for i in moved]
    differences = [test.difference for test, _ in tests]
    gains = sum(test.difference > 0 and p is not None and p < LEVEL for test, p in tests)
    yield (
        f"{len(moved)} of {count} settings with AMR bring {first}'s use share nearer to 0.50 by {MOVED} or more. They "
        f"change accuracy by {_signed(np.mean(differences))} on average ({_range(differences, '+.3f')}); "
        f"{sum(each >= SHOWN for each in differences)} of them gain, {gains} by the corrected test."
    )


def _best(trainings: Trainings) -> Iterator[str]:
    best = max(trainings.regularized, key=_accuracy_of)
    plain = max(_without_ume(trainings.plain), key=_accuracy_of)
    alone = max(trainings.alone, key=_accuracy_of)
    references = {_name(each): {run.seed: run.measures["accuracy"] for run in each.runs} for each in (plain, alone)}
    references["UME"] = {
        run.seed: run.measures["accuracy"] - run.measures["gain_over_ume"] for run in trainings.plain[0].runs
    }
    means = {name: float(np.mean([*values.values()])) for name, values in references.items()}
    reference = max(means, key=lambda name: means[name])
    theirs = references[reference]
    test = paired_test([run.measures["accuracy"] - theirs[run.seed] for run in best.runs if run.seed in theirs])
    yield (
        f"The best setting with AMR is {_name(best)} with {amr_of(best)}, {_value(best)}. Without AMR, the best are "
        f"{', '.join(f'{name} {number(value)}' for name, value in means.items())}. The difference from {reference} is "
        f"{with_half(test.difference, test.interval, '+.3f')}; each best is taken on test."
    )


def _accuracy(trainings: Trainings) -> Iterator[str]:
    tests = [*trainings.tests.values()]
    differences = [test.difference for test, _ in tests]
    passed = sum(p is not None and p < LEVEL for _, p in tests)
    worse, better = (sum(sign * each >= SHOWN for each in differences) for sign in (-1, 1))
    yield (
        f"{worse} of {len(tests)} settings are less accurate than the same method without AMR, {better} more "
        f"({_range(differences, '+.3f')}, mean {_signed(np.mean(differences))}); {passed} of the differences "
        f"pass the corrected test."
    )


def _moves(trainings: Trainings) -> Iterator[str]:
    first = trainings.modalities[0]
    plain = _without_ume(trainings.plain)
    yield (
        f"Without AMR, {first}'s share is {_range(_means(plain, f'share.{first}'))} and its use share "
        f"{_range(_means(plain, f'use_share.{first}'))}."
    )
    for amr in ORDER[1:]:
        settings = [each for each in trainings.regularized if amr_of(each) == amr]
        if settings:
            moves = _changes(trainings, settings, f"use_share.{first}")
            yield (
                f"With {amr} they are {_range(_means(settings, f'share.{first}'))} and "
                f"{_range(_means(settings, f'use_share.{first}'))}; the use share changes by "
                f"{number(float(np.mean(moves)), '+.2f')} on average."
            )


def _probes(trainings: Trainings) -> Iterator[str]:
    for m in trainings.modalities:
        alone = mean(trainings.plain[0], f"probe.unimodal.{m}")
        joint = _means(_without_ume(trainings.plain), f"probe.joint.{m}")
        changes = _changes(trainings, trainings.regularized, f"probe.joint.{m}")
        yield (
            f"The encoder of {m} has a probe of {number(alone)} if it was trained alone, and of "
            f"{number(float(np.mean(joint)))} on average if jointly without AMR ({_range(joint)}); AMR changes that by "
            f"{_signed(np.mean(changes))} on average ({_range(changes, '+.2f')})."
        )


def _without_ume(settings: Iterable[Setting]) -> list[Setting]:
    return [each for each in settings if not _is_ume(each)]


def _is_ume(setting: Setting) -> bool:
    return setting.runs[0].config.method == "ume"


def _signed(value: np.floating | float) -> str:
    return number(float(value), "+.3f")


def _name(setting: Setting) -> str:
    return f"{setting.modalities[0]} only" if len(setting.modalities) == 1 else setting.runs[0].config.method


def _accuracy_of(setting: Setting) -> float:
    return mean(setting, "accuracy") or 0.0


def _value(setting: Setting) -> str:
    return number(mean(setting, "accuracy"))


def _means(settings: Iterable[Setting], name: str) -> list[float]:
    return [value for each in settings if (value := mean(each, name)) is not None]


def _changes(trainings: Trainings, settings: Iterable[Setting], name: str) -> list[float]:
    """What AMR adds to a measure in each setting, as far as it is known."""
    pairs = [(each, trainings.plain_of(each)) for each in settings]
    known = [
        (ours, theirs) for ours, theirs in pairs if mean(ours, name) is not None and mean(theirs, name) is not None
    ]
    return [against(ours, theirs, name).difference for ours, theirs in known]


def _nearer(trainings: Trainings, setting: Setting) -> float:
    """How much nearer to even AMR brings the first modality's use share."""
    name = f"use_share.{trainings.modalities[0]}"
    ours, theirs = (mean(each, name) for each in (setting, trainings.plain_of(setting)))
    return 0.0 if ours is None or theirs is None else abs(theirs - 0.5) - abs(ours - 0.5)


def _range(values: Sequence[float], form: str = ".2f") -> str:
    """Smallest to largest value.

    >>> _range([0.5, 0.25]), _range([0.5, 0.5])
    ('0.25 to 0.50', '0.50')
    """
    if not values:
        return "-"
    low, high = (number(each, form) for each in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
