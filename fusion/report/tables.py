"""Tables of the page: each cell has a text to read, and a value for sorting and for the CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amr.fusion.evaluate.measures import measures
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting, settings_of
from amr.fusion.runs.statistics import p_text

SHAPLEY_SHARES = ("shapley_share.mean", "shapley_share.zero", "shapley_share.permutation")
# measures that show whether balance helped; the second table of tests has all
MAIN_MEASURES = ("accuracy", "map", "full_minus_worst.mean", "robustness", "conflict.balance", "calibration.clean.ece")
SIGNIFICANT = 0.05
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
    """Make a table of texts, numbers (to 4 digits), None and finished cells."""
    cells = tuple(tuple(value if isinstance(value, Cell) else _cell(value) for value in row) for row in rows)
    return Table(name, caption, tuple(columns), cells, notes or {})


def _cell(value: object) -> Cell:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell(DASH, None, True)
    if isinstance(value, float):
        return Cell(f"{value:.4g}", value, True)
    if isinstance(value, int):
        return Cell(str(value), value, True)
    return Cell(str(value), str(value))


def percent(value: float | None, digits: int = 1) -> str:
    """Format a fraction as a percentage.

    >>> percent(0.7791), percent(None)
    ('77.9\\xa0%', '–')
    """
    return DASH if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", MINUS)


def points(value: float | None, digits: int = 1) -> str:
    """Format a difference of fractions in signed points.

    >>> points(0.0123), points(-0.0123)
    ('+1.2', '−1.2')
    """
    return DASH if value is None else f"{100 * value:+.{digits}f}".replace("-", MINUS)


def split_text(shares: Mapping[str, float | None]) -> str:
    """Format shares as whole percents with a slash between.

    >>> split_text({"audio": 0.741, "video": 0.259})
    '74/26'
    """
    if all(value is None for value in shares.values()):
        return DASH
    return "/".join(DASH if v is None else f"{100 * v:.0f}".replace("-", MINUS) for v in shares.values())


def headline(results: ResultFolder, settings: Sequence[Setting]) -> Table:
    """One row per setting: its accuracy and what it relies on."""
    few = len(results.modalities) <= MAX_NAMED
    order = "/".join(results.modalities) if few else "of each"
    columns = ["setting", "seeds", "val accuracy", "accuracy", "mAP", f"share {order}", f"perceptual {order}"]
    with_shapley = any(
        setting.by_modality(*SHAPLEY_SHARES)[m] is not None for setting in settings for m in setting.modalities
    )
    with_ume = any(setting.mean("gain_over_ume") is not None for setting in settings)
    columns += [f"Shapley share {order}"] * with_shapley + ["gain over UME"] * with_ume
    rows = []
    for setting in settings:
        row = [Cell(setting.label, setting.label), Cell(str(len(setting.runs)), len(setting.runs), True)]
        row += [_fraction(setting.mean("accuracy", "val")), _interval(setting, "accuracy"), _interval(setting, "map")]
        row += [_split(setting, "share"), _split(setting, "perceptual")]
        row += [_split(setting, *SHAPLEY_SHARES)] * with_shapley
        if with_ume:
            row.append(_interval(setting, "gain_over_ume", signed=True))
        rows.append(row)
    split = "test" if any(setting.values("accuracy").size for setting in settings) else "val"
    caption = (
        f"Each setting on {split}: mean over seeds ± half of the 95 % interval over seeds (for a single seed: over "
        "bootstrapped clips). Click on a heading to sort by it."
    )
    listed = "" if few else f" ({', '.join(results.modalities)})"
    notes = {
        f"share {order}": "attribution: each modality's part of the decision, in percent; sorts by the first" + listed,
        f"perceptual {order}": "accuracy lost when the modality is permuted between clips, in percentage points",
        f"Shapley share {order}": "each modality's part of the accuracy, in percent",
        "gain over UME": "points above UME, the average of uni-modal heads",
    }
    return make_table("headline", caption, columns, rows, {k: v for k, v in notes.items() if k in columns})


def _fraction(value: float | None) -> Cell:
    return Cell(percent(value), value, True)


def _interval(setting: Setting, name: str, signed: bool = False) -> Cell:
    mean, half = setting.mean(name), setting.half_width(name)
    if mean is None:
        return Cell(DASH, None, True)
    text = points(mean) if signed else f"{100 * mean:.1f}"
    return Cell(text if half is None else f"{text} ± {100 * half:.1f}", mean, True)


def _split(setting: Setting, *names: str) -> Cell:
    if len(setting.modalities) == 1:
        return Cell(DASH, None, True)  # a single modality has no shares
    shares = setting.by_modality(*names)
    return Cell(split_text(shares), next(iter(shares.values())), True)


def comparison_tables(results: ResultFolder) -> list[Table]:
    """Paired tests: of the main measures, then of all."""
    settings = settings_of(results)
    tests = results.comparisons
    main = [test for test in tests if test["measure"].startswith(MAIN_MEASURES)]
    correction = (
        "Each row pairs runs with and without AMR by seed, and by fold if there are folds; p is corrected over the "
        "settings of one measure (Holm)."
    )
    tables = []
    if main:
        tables.append(_comparisons("tests", f"Changes by AMR in the main measures. {correction}", main, settings))
    if len(tests) > len(main):
        tables.append(_comparisons("all-tests", f"Changes by AMR in all measures. {correction}", tests, settings))
    if not tests and results.table:
        tables += _of_table(results.table)
    return tables


def _comparisons(name: str, caption: str, tests: Sequence[Mapping[str, Any]], settings: Sequence[Setting]) -> Table:
    columns = ["setting", "measure", "difference", "95 % interval", "effect size", "test", "pairs", "p", "corrected p"]
    rows: list[list[Cell]] = []
    for test in tests:
        label = next((setting.label for setting in settings if setting.matches(test)), f"AMR {test['amr_ratio']}")
        low, high = test.get("interval") or (None, None)
        between = DASH if low is None or high is None else f"{signed(low)} to {signed(high)}"
        effect, difference = test.get("effect_size"), test.get("difference")
        rows.append(
            [
                Cell(label, label),
                Cell(measure_words(test["measure"]), test["measure"]),
                Cell(signed(difference), difference, True),
                Cell(between, low, True),
                Cell(DASH if effect is None else f"{effect:+.2f}".replace("-", MINUS), effect, True),
                Cell(str(test.get("test") or DASH), test.get("test")),
                Cell(str(test["num_pairs"]), test["num_pairs"], True),
                Cell(p_text(test.get("p")), test.get("p"), True),
                Cell(p_text(test.get("p_corrected")), test.get("p_corrected"), True),
            ]
        )
    return make_table(name, caption, columns, rows)


def signed(value: float | None) -> str:
    """Format a signed difference with three digits."""
    return DASH if value is None else f"{value:+.3f}".replace("-", MINUS)


def _of_table(table: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Tests of `amr table`."""
    rows = [
        [
            row["method"],
            {"map": "mAP"}.get(measure, measure),
            *(test.get(k) for k in ("difference", "d", "p", "p_holm")),
        ]
        for row in table
        if row["tests"] is not None
        for measure, test in row["tests"].items()
    ]
    columns = ["method", "measure", "difference", "effect size", "p", "corrected p"]
    caption = "Changes by AMR, paired by seed: t-tests, p corrected over the methods (Holm)."
    return [make_table("tests", caption, columns, rows)] if rows else []


_WORDS = {prefix: words for _, measure in measures.items() for prefix, words in measure.words.items()}
_BASELINES = ("zero", "mean", "permutation")


def measure_words(name: str) -> str:
    """Words for a measure's flat name; in brackets the baseline that replaces the other modalities.

    >>> measure_words("robustness.audio"), measure_words("missing.zero.audio"), measure_words("noise.audio.0.25")
    ('robustness to noise in audio', 'accuracy with only audio (zero)', 'accuracy under noise in audio, 0.25')
    """
    if name in _WORDS:
        return _WORDS[name]
    first, _, rest = name.partition(".")
    words = _WORDS.get(first, first.replace("_", " "))
    baseline, _, after = rest.partition(".")
    if baseline in _BASELINES:
        return " ".join(text for text in (words, after, f"({baseline})") if text)
    subject, _, detail = rest.partition(".")
    return " ".join([words, subject]).strip() + (f", {detail}" if detail else "")
