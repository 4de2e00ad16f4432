"""Tables of the page: each cell has a text to read, and a value for sorting and for the CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amr.fusion.choices import SCORES, Score
from amr.fusion.evaluate.measures import measures
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, settings_of
from amr.fusion.runs.statistics import (
    FRACTION,
    MIN_PAIRS,
    MIN_VALUES_INTERVAL,
    ROUNDING,
    interval_inside,
    p_text,
    why_no_test,
)

# measures that show whether balance helped; the second table of tests has all
MAIN_MEASURES = ("full_minus_worst.mean", "robustness", "conflict.balance", "calibration.clean.ece")
GAINS = {"gain over UME": "gain_over_ume", "gain over best": "gain_over_best_unimodal"}
SIGNIFICANT = 0.05
BOUNDS = {"mae": (0.0, math.inf), "pearson": (-1.0, 1.0)}
MAX_NAMED = 3  # modalities in the heading of a column
DASH = "\N{EN DASH}"  # for missing values
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Args:
        text: Text to read.
        value: Value for sorting and export; None sorts last.
        number: Whether the cell is a number, aligned to the right.
    """

    text: str
    value: float | str | None
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Table of the page.

    Args:
        name: Name, unique within its section.
        caption: Content of the table, in a sentence or two.
        columns: Headings of the columns.
        rows: Rows of cells, one cell per column.
        notes: Heading of a column to its explanation.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: Mapping[str, str]

    def is_number(self, column: int) -> bool:
        """Whether a column is aligned to the right."""
        return any(row[column].number for row in self.rows)


def make_table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Mapping[str, str] | None = None,
) -> Table:
    """Make a table of texts, numbers (with 3 digits), None and finished cells."""
    cells = tuple(tuple(value if isinstance(value, Cell) else _cell(value) for value in row) for row in rows)
    return Table(name, caption, tuple(columns), cells, notes or {})


def _cell(value: object) -> Cell:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell(DASH, None, True)
    if isinstance(value, float):
        return Cell(_text(value, 3), value, True)
    if isinstance(value, int):
        return Cell(str(value), value, True)
    return Cell(str(value), str(value))


def fraction(value: float | None) -> str:
    """Format a fraction of 1 with three digits.

    >>> fraction(0.7791), fraction(-0.0001), fraction(None)
    ('0.779', '0.000', '–')
    """
    return DASH if value is None else _text(value, 3)


def signed(value: float | None) -> str:
    """Format a difference with its sign and three digits.

    >>> signed(0.0123), signed(-0.0123)
    ('+0.012', '−0.012')
    """
    return DASH if value is None else _text(value, 3, "+")


def side_by_side(values: Mapping[str, float | None]) -> str:
    """Format a number of each modality with two digits, and slashes between them.

    >>> side_by_side({"audio": 0.741, "video": -0.001})
    '0.74/0.00'
    """
    if all(value is None for value in values.values()):
        return DASH
    return "/".join(DASH if value is None else _text(value, 2) for value in values.values())


def _text(value: float, digits: int, sign: str = "") -> str:
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", MINUS)  # + 0.0: there is no -0.000


def headline(results: ResultFolder, settings: Sequence[Setting]) -> Table:
    """One row per setting: the measures of its task and what it relies on."""
    score = results.score
    few = len(results.modalities) <= MAX_NAMED
    order = "/".join(results.modalities) if few else "of each"
    pairs = {"share": "share", "share spread": "share_spread", "use": "perceptual"}
    pairs["Shapley use share"] = "shapley_use_share"
    several = [setting for setting in settings if len(setting.modalities) > 1]
    pairs = {title: name for title, name in pairs.items() if any(setting.has(name) for setting in several)}
    with_clips = any(setting.mean("one_sided") is not None for setting in several)
    gains = {title: name for title, name in GAINS.items() if any(g.mean(name) is not None for g in settings)}
    seeds = {len(setting.runs) for setting in settings}
    measured = _measured(results, settings)
    with_val = any(setting.mean(score.name, "val") is not None for setting in settings)
    columns = ["setting", *(["seeds"] * (len(seeds) > 1)), *([f"val {score.words}"] * with_val), *measured]
    columns += [f"{title} {order}" for title in pairs] + ["one-sided"] * with_clips + [*gains]
    rows = []
    for setting in settings:
        val = setting.mean(score.name, "val")
        row = [Cell(setting.label, setting.label)]
        row += [Cell(str(len(setting.runs)), len(setting.runs), True)] * (len(seeds) > 1)
        row += [Cell(fraction(val), val, True)] * with_val
        row += [_interval(setting, name) for name in measured.values()]
        row += [_of_each(setting, name) for name in pairs.values()]
        if with_clips:
            row.append(_interval(setting, "one_sided") if len(setting.modalities) > 1 else Cell(DASH, None, True))
        row += [_interval(setting, name, difference=True) for name in gains.values()]
        rows.append(row)
    listed = "" if few else f" ({', '.join(results.modalities)})"
    notes = {
        f"share {order}": "part of the decision, by gradient x input; sorts by the first" + listed,
        f"share spread {order}": TERMS["share spread"],
        f"use {order}": "accuracy lost if the modality is permuted between test clips, mean of 10 orders",
        f"Shapley use share {order}": "part of what the modalities gain together, by Shapley values, absent ones "
        "permuted between test clips; below 0 if the modality misleads",
        "one-sided": TERMS["one-sided clips"],
        "gain over UME": "accuracy minus that of UME, the average of uni-modal heads",
        "gain over best": "accuracy minus that of the best uni-modal head, chosen on val",
    }
    notes = {column: score.in_words(note) for column, note in notes.items() if column in columns}
    notes |= {words: MEANINGS[words] for words in measured if words in MEANINGS}
    return make_table("headline", _headline_caption(settings, score), columns, rows, notes)


def _measured(results: ResultFolder, settings: Sequence[Setting]) -> dict[str, str]:
    """Words to names of the task's measures that the settings have."""
    names = {**results.score.measures}
    if any(run.config.class_weight == "balanced" for run in results.runs):
        names["balanced_accuracy"] = "balanced accuracy"
    return {words: name for name, words in names.items() if any(s.mean(name) is not None for s in settings)}


def _headline_caption(settings: Sequence[Setting], score: Score) -> str:
    split = "test" if any(setting.values(score.name).size for setting in settings) else "val"
    intervals = {len(setting.runs) > 1 for setting in settings if setting.half_width(score.name) is not None}
    over = [words for several, words in ((True, "seeds"), (False, "bootstrapped clips")) if several in intervals]
    seeds = {len(setting.runs) for setting in settings}
    unit = f"{score.words} in units of the target" if score.least_is_best else "fractions of 1"
    text = f"Each setting on {split}, {unit}: "
    text += "one seed" if seeds == {1} else f"mean over {f'{min(seeds)} ' * (len(seeds) == 1)}seeds"
    if over:
        text += f" ± half of the 95 % interval over {' or, for a single seed, over '.join(over)}"
    if any(setting.half_width(score.name) is None for setting in settings):
        text += f"; no interval: fewer than {MIN_VALUES_INTERVAL} seeds"
    return text + ". Click on a heading to sort by it."


def _interval(setting: Setting, name: str, difference: bool = False) -> Cell:
    mean, half = setting.mean(name), setting.half_width(name)
    text = signed(mean) if difference else fraction(mean)
    ends = None if difference else interval_inside(mean, half, BOUNDS.get(name, FRACTION))
    if mean is None or half is None:
        return Cell(text, mean, True)
    if ends is not None and ends[1] - ends[0] < 2 * half - ROUNDING:  # ± would leave 0 to 1
        return Cell(f"{text} ({fraction(ends[0])} to {fraction(ends[1])})", mean, True)
    return Cell(f"{text} ± {fraction(half)}", mean, True)


def _of_each(setting: Setting, name: str) -> Cell:
    if len(setting.modalities) == 1:
        return Cell(DASH, None, True)  # a single modality has no shares
    values = setting.by_modality(name)
    return Cell(side_by_side(values), next(iter(values.values())), True)


def comparison_tables(results: ResultFolder) -> list[Table]:
    """Paired tests: of the main measures, then of all."""
    settings = settings_of(results)
    tests = results.comparisons
    few = min((test["num_pairs"] for test in tests), default=MIN_PAIRS)
    main = [test for test in tests if test["measure"].startswith(main_measures(results.score))]
    correction = (
        "Each row pairs runs with and without AMR by seed, and by fold if there are folds; p is corrected over the "
        "settings of one measure (Holm)." + _without_test(few)
    )
    tables = []
    if main:
        caption = f"Changes by AMR in the main measures. {correction}"
        tables.append(_comparisons("tests", caption, main, settings, results.score))
    if len(tests) > len(main):
        caption = f"Changes by AMR in all measures. {correction}"
        tables.append(_comparisons("all-tests", caption, tests, settings, results.score))
    if not tests and results.table_tests:
        tables.append(_of_table(results))
    return tables


def _without_test(num_pairs: int) -> str:
    """Sentence on rows without a test; empty if there are enough pairs."""
    reason = why_no_test(num_pairs)
    return "" if reason is None else f" Rows without p: {reason}."


def main_measures(score: Score) -> tuple[str, ...]:
    """Beginnings of the names of the main measures of a task."""
    return (*score.main, *MAIN_MEASURES)


def _comparisons(
    name: str, caption: str, tests: Sequence[Mapping[str, Any]], settings: Sequence[Setting], score: Score
) -> Table:
    columns = ["setting", "measure", "difference", "95 % interval", "effect size", "test", "pairs", "p", "corrected p"]
    rows: list[list[Cell]] = []
    for test in tests:
        label = label_of(test, settings)
        low, high = test.get("interval") or (None, None)
        between = DASH if low is None or high is None else f"{signed(low)} to {signed(high)}"
        effect, difference = test.get("effect_size"), test.get("difference")
        rows.append(
            [
                Cell(label, label),
                Cell(measure_words(test["measure"], score), test["measure"]),
                Cell(signed(difference), difference, True),
                Cell(between, low, True),
                Cell(signed(effect), effect, True),
                Cell(DASH, None) if test.get("p") is None else Cell(str(test.get("test") or DASH), test.get("test")),
                Cell(str(test["num_pairs"]), test["num_pairs"], True),
                Cell(p_text(test.get("p")), test.get("p"), True),
                Cell(p_text(test.get("p_corrected")), test.get("p_corrected"), True),
            ]
        )
    return make_table(name, caption, columns, rows, terms_of(tests, score))


def label_of(test: Mapping[str, Any], settings: Sequence[Setting]) -> str:
    """Label of the setting that a paired test is about."""
    return next((setting.label for setting in settings if setting.matches(test)), f"AMR {test['amr_ratio']}")


def _of_table(results: ResultFolder) -> Table:
    """Tests of `amr table`."""
    rows = [
        [
            test["method"],
            measure_words(test["measure"], results.score),
            *(Cell(signed(test.get(k)), test.get(k), True) for k in ("difference", "d")),
            *(Cell(p_text(test.get(k)), test.get(k), True) for k in ("p", "p_holm")),
        ]
        for test in results.table_tests
    ]
    columns = ["method", "measure", "difference", "effect size", "p", "corrected p"]
    caption = (
        f"Changes by AMR, {paired_in_table(results)}: t-tests, p corrected over the methods (Holm)."
        + _without_test(results.num_seeds)
    )
    return make_table("tests", caption, columns, rows)


def paired_in_table(results: ResultFolder) -> str:
    """Words for the pairs of the tests of `amr table`."""
    return "paired by seed" + ", each over all folds" * (results.runs[0].config.folds > 1)


# Measures of labels and numbers, by their words.
MEANINGS = {
    "exact match": "fraction of the clips of which every label is right",
    "MAE": "mean absolute error",
    "Pearson": "Pearson's correlation of predictions and targets",
    "Acc-2": "fraction of the clips whose sign is right, those with target 0 left out",
    "Acc-7": "fraction of the clips that are right when rounded to -3 to 3",
    "balanced accuracy": "mean over the classes of the fraction of their clips that are right",
}
# What is not said in the words of a measure.
TERMS = {
    "robustness": (
        "area under the accuracy at noise of 0 to 1 standard deviation in the modality, divided by the clean accuracy: "
        "a ratio, 1 if noise costs nothing"
    ),
    "balance under conflict": (
        "1 - |p_a - p_b| / (p_a + p_b), where p_a and p_b are how often the prediction is the class of the one and of "
        "the other modality if they come from clips of two classes; 1 if both are followed equally often"
    ),
    "accuracy lost with the worst subset": "accuracy with all modalities, minus that of the worst non-empty subset",
    "share spread": "standard deviation of the share over the clips: 0 if every decision is balanced alike",
    "one-sided clips": (
        "fraction of the clips whose share is more than 0.1 from the ratio requested; from even shares without one, "
        "and with a ratio of permutation shares"
    ),
    "utilization": "accuracy lost if the modality is replaced by its train mean, as a part of the accuracy",
    "modality confusion": (
        "fraction of the clips with the modality that are right with it alone and wrong with all; alone: the others at "
        "their train mean"
    ),
    "rescue": "fraction of the clips that are right with all modalities and wrong with each alone",
    "interaction share": (
        "InterSHAP: the part of the output for the predicted class that no modality makes alone, mean over clips; 0 "
        "for a sum of the modalities, 1 for XOR"
    ),
    "cooperation": "SHAPE: accuracy with all modalities, minus what they add alone; below 0 if they know the same",
    "(EMAP)": "of the closest additive function of the modalities, which is the head itself if it is additive",
    "ECE": "expected calibration error, 15 bins: the mean distance between confidence and accuracy",
}
TERMS_OF_ERRORS = {
    "robustness": "area under the clean accuracy divided by that at noise of 0 to 1 standard deviation in the "
    "modality: a ratio, 1 if noise costs nothing"
}
_WORDS = {prefix: words for _, measure in measures.items() for prefix, words in measure.words.items()}
_BASELINES = {"zero": "others zero", "mean": "others at their train mean", "permutation": "others permuted"}
_CALIBRATION = {"ece": "ECE", "nll": "NLL", "brier": "Brier score"}


def measure_words(name: str, score: Score = SCORES["multiclass"]) -> str:
    """Words for a measure's flat name; in brackets what replaces the other modalities.

    Args:
        name: Flat name.
        score: Score of the task.

    >>> measure_words("missing.zero.audio"), measure_words("noise.audio.0.25")
    ('accuracy with only audio (others zero)', 'accuracy under noise in audio, 0.25')
    >>> measure_words("calibration.clean.ece"), measure_words("perceptual.audio")
    ('calibration, clean, ECE', 'use of audio')
    """
    if name in score.measures:
        return score.measures[name]
    if name in _WORDS:
        return score.in_words(_WORDS[name])
    first, _, rest = name.partition(".")
    words = score.in_words(_WORDS.get(first, first.replace("_", " ")))
    baseline, _, after = rest.partition(".")
    if baseline in _BASELINES:
        return " ".join(text for text in (words, after, f"({_BASELINES[baseline]})") if text)
    subject, _, detail = rest.partition(".")
    return " ".join([words, subject]).strip() + (f", {_CALIBRATION.get(detail, detail)}" if detail else "")


def terms_of(tests: Sequence[Mapping[str, Any]], score: Score = SCORES["multiclass"]) -> dict[str, str]:
    """Words of measures to their definitions, for those that occur in tests."""
    words = [measure_words(test["measure"], score) for test in tests]
    meanings = TERMS | (TERMS_OF_ERRORS if score.least_is_best else {})
    terms = {score.in_words(term): score.in_words(meaning) for term, meaning in meanings.items()}
    return {term: meaning for term, meaning in terms.items() if any(term in each for each in words)}
