"""Tables of an evaluation: the scores of each setting, what it relies on, and the changes by AMR."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.choices import Score, score_of
from amr.fusion.runs.read import SETTINGS, setting_details, setting_text, varied_settings
from amr.fusion.runs.statistics import MIN_PAIRS, p_text, why_no_test

Rows = tuple[list[str], list[list[object]]]

SIGNIFICANT = 0.05
READING = {
    "ECE": "expected calibration error: mean gap of confidence and accuracy",
    "over UME": "accuracy minus that of UME, the average of the uni-modal heads",
    "over best": "accuracy minus that of the best uni-modal head, chosen on val",
    "share": "part of the decision, by gradient x input; what AMR sets by default",
    "use": "accuracy lost when it is permuted between clips, mean of 10 orders",
    "use share": "its use over the sum of all, negative ones taken as 0",
    "alone": "accuracy with it alone, the others replaced by the train mean",
    "robust": "robustness: accuracy under noise in it over clean accuracy, mean of 0 to 1 deviations",
    "follows": "how often its class is predicted if modalities are of two classes",
    "gap": "probe accuracy of the encoder trained jointly minus that of the one trained alone",
}
READING_OF_ERRORS = {
    "robust": "robustness: clean accuracy over accuracy under noise in it, mean of 0 to 1 deviations",
}
SCORES = {"ECE": "calibration.clean.ece", "over UME": "gain_over_ume", "over best": "gain_over_best_unimodal"}
RELIANCE = {
    "share": "share.{}",
    "use": "perceptual.{}",
    "use share": "use_share.{}",
    "alone": "alone.{}",
    "robust": "robustness.{}",
    "follows": "conflict.{}",
}
COMPARED = ("share", "use", "use share")
LEARNED = {"trained jointly": "probe.joint.{}", "trained alone": "probe.unimodal.{}", "gap": "probe.gap.{}"}
LEARNED_TITLE = "what each encoder learned: linear probe of z"


def reading(document: Mapping[str, Any]) -> str:
    """Explain the columns of the tables; fractions of 1, except `robust`, a ratio."""
    shown = [*scores_table(document)[0], *reliance_table(document)[0], *(encoders_table(document) or [[]])[0]]
    few = [len(group["seeds"]) for group in document["groups"]]
    score = score_of(document)
    lines = ["fractions of 1, on the test clips; robust is a ratio"]
    if score.least_is_best:
        lines = [
            f"{score.words} in units of the target, on the test clips; robust is a ratio, 1 if noise costs nothing"
        ]
    known = READING | (READING_OF_ERRORS if score.least_is_best else {})
    texts = {name: score.in_words(text) for name, text in known.items()}
    lines += [f"{name:<10}  {text}" for name, text in texts.items() if name in shown]
    lines += ["no ± below 3 seeds"] * (1 < max(few) < 3)
    pairs = [entry["num_pairs"] for entry in document["comparisons"]]
    no_test = why_no_test(min(pairs, default=MIN_PAIRS))
    return "\n".join(lines if no_test is None else [*lines, f"no *: {no_test}"])


def scores_table(document: Mapping[str, Any]) -> Rows:
    """Columns, and one row per setting: means over seeds; `±` is half the 95 % interval over seeds."""
    groups, score = document["groups"], score_of(document)
    names = [name for name, key in SCORES.items() if any(group["mean"].get(key) is not None for group in groups)]
    rows: list[list[object]] = []
    for group, label in zip(groups, setting_labels(groups), strict=True):
        scores = [group["mean"].get(SCORES[name]) for name in names]
        rows.append([", ".join(label), len(group["seeds"]), _with_interval(group, score), *scores])
    return ["setting", "seeds", score.words, *names], rows


def reliance_table(document: Mapping[str, Any]) -> Rows:
    """Columns, and one row per setting and modality, means over seeds; a setting's name is in the first of its rows."""
    groups = document["groups"]
    names = [
        name
        for name, key in RELIANCE.items()
        if any(group["mean"].get(key.format(m)) is not None for group in groups for m in group["modalities"])
    ]
    rows: list[list[object]] = []
    for group, label in zip(groups, setting_labels(groups), strict=True):
        values = [[group["mean"].get(RELIANCE[name].format(m)) for name in names] for m in group["modalities"]]
        rows += _stacked(label, group["modalities"], values)
    return ["setting", "modality", *names], rows


def encoders_table(document: Mapping[str, Any]) -> Rows | None:
    """Columns, and one row per setting and modality: accuracy of linear probes on z of jointly trained encoders, on
    that of encoders trained alone, and their gap; None if the runs have no encoders of their own.

    The interval of the gap is over seeds; of a single seed, over bootstrapped clips.
    """
    runs = [run for run in document["runs"] if run.get("encoders_alone")]
    if not runs:
        return None
    groups = [group for group in document["groups"] if any(run_is_of(run, group) for run in runs)]
    rows: list[list[object]] = []
    for group, label in zip(groups, setting_labels(groups), strict=True):
        members = [run for run in runs if run_is_of(run, group)]
        values = [
            [*(group["mean"].get(key.format(m)) for key in LEARNED.values()), _gap_interval(group, members, m)]
            for m in group["modalities"]
        ]
        rows += _stacked(label, group["modalities"], values)
    return ["setting", "modality", *LEARNED, "95 %"], rows


def run_is_of(run: Mapping[str, Any], group: Mapping[str, Any]) -> bool:
    """Whether an entry of `runs` belongs to one of `groups`."""
    return all(run[name] == group[name] for name in SETTINGS if name in group)


def _gap_interval(group: Mapping[str, Any], members: Sequence[Mapping[str, Any]], modality: str) -> str:
    name = LEARNED["gap"].format(modality)
    found = group["interval"].get(name) if len(members) > 1 else members[0]["intervals"].get(name)
    return "-" if not found or None in found else f"{found[0]:+.3f} to {found[1]:+.3f}"


def differences_table(document: Mapping[str, Any]) -> Rows:
    """Columns, and rows of the changes by AMR against none; * if p < .05 by the t-test after Holm's correction."""
    compared: dict[str, dict[str, dict[str, Any]]] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    score = score_of(document)
    for entry in document["comparisons"]:
        key = str([entry.get(name) for name in SETTINGS])
        settings[key] = entry
        compared.setdefault(key, {})[entry["measure"]] = entry
    rows: list[list[object]] = []
    for (key, by_measure), label in zip(compared.items(), setting_labels([*settings.values()]), strict=True):
        modalities = settings[key]["modalities"]
        scores: list[list[object]] = [["", ""] for _ in modalities]
        scores[0] = [by_measure[score.name]["num_pairs"], _change(by_measure[score.name])]
        changes = [[_change(by_measure.get(RELIANCE[name].format(m))) for name in COMPARED] for m in modalities]
        stacked = _stacked(label, modalities, changes)
        rows += [[name, *score, *rest] for (name, *rest), score in zip(stacked, scores, strict=True)]
    return ["setting", "pairs", score.words, "modality", *COMPARED], rows


def rank_sentence(document: Mapping[str, Any]) -> str | None:
    """Rank correlation of the score with balance over the settings, in a line; None if settings are too few.

    >>> found = {"share": {"all": {"rho": 0.4, "p": 0.26, "n": 5}, "without_outermost": None}}
    >>> rank_sentence({"rank_correlations": found})
    'rank correlation of accuracy with balance of share: +0.40 (p .260, 5 settings)'
    """
    parts = []
    for kind, entry in (document.get("rank_correlations") or {}).items():
        texts = [_correlation(entry["all"]), _correlation(entry["without_outermost"])]
        if texts[0]:
            without = f", {texts[1]} without the outermost ratios" if texts[1] else ""
            parts.append(f"of {kind}: {texts[0]}{without}")
    score = score_of(document)
    words = f"low {score.words}" if score.least_is_best else score.words
    return f"rank correlation of {words} with balance {'; '.join(parts)}" if parts else None


def _correlation(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['rho']:+.2f} (p {p_text(entry['p'])}, {entry['n']} settings)"


def setting_labels(groups: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Texts of each setting: the method, the options in which settings differ, and the ratio with names."""
    several = [group for group in groups if len(group["modalities"]) > 1]
    texts = [{name: setting_text(name, group.get(name)) for name in SETTINGS} for group in several]
    varied = varied_settings(texts)
    return [_label(group, varied) for group in groups]


def _label(group: Mapping[str, Any], varied: Collection[str]) -> list[str]:
    alone = len(group["modalities"]) == 1
    texts = [f"{group['modalities'][0]} only" if alone else group["method"]]
    texts += [group["head"]] * ("head" in varied and not alone and group["head"] != "-")
    texts += ["+".join(group["modalities"])] * ("modalities" in varied and not alone)
    if group["amr_ratio"] not in (None, "none"):  # "none" in 0.1
        texts.append(f"AMR {named_ratio(group['amr_ratio'], group['modalities'])}")
    return texts + setting_details(group, varied)


def _stacked(label: Sequence[str], modalities: Sequence[str], values: Sequence[Sequence[object]]) -> list[list[object]]:
    """One row per modality. The label is in the first row, whole: parts of it would read as other settings."""
    names = [", ".join(label)] + [""] * (len(modalities) - 1)
    return [[name, m, *row] for name, m, row in zip(names, modalities, values, strict=False)]


def _with_interval(group: Mapping[str, Any], score: Score) -> str:
    mean, interval = group["mean"][score.name], group["interval"][score.name]
    return f"{mean:.3f}" if interval is None else f"{mean:.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def _change(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["difference"] is None:
        return "-"
    p = entry["p_corrected"]
    mark = "*" if p is not None and p < SIGNIFICANT else ""
    return f"{entry['difference']:+.3f}{mark}"
