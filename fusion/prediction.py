"""Prediction for one clip, and predictions as a CSV. Nothing here imports torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amr.common.files import check_writable, write_csv

COLUMNS = ("clip", "pred", "probability")


@dataclass(frozen=True)
class Prediction:
    """Prediction for one clip.

    Args:
        clip: Path or id, as requested, or of the row or file that was found there.
        pred: Predicted class, labels joined by ";", or a number; None if the clip was not found, cannot be read, or has
            none of the modalities.
        probability: Softmax probability of `pred`, the mean over folds; None for labels and numbers.
        probabilities: Class or label to its probability; empty for a number.
        share: Modality to its share of the decision; None if the clip has fewer than two of the modalities.
        note: Remarks, such as an absent modality, or the reason that there is no prediction; empty if there are none.
    """

    clip: str
    pred: str | None
    probability: float | None
    probabilities: dict[str, float]
    share: dict[str, float | None]
    note: str = ""


def check_csv(file: Path) -> None:
    """Refuse a file that is not a CSV, that exists and was not written by `write_predictions`, or cannot be written.

    Raises:
        ValueError: The file is refused.
    """
    if file.suffix.lower() != ".csv" or file.is_dir():
        raise ValueError(f"--out must be a .csv file, got {str(file)!r}. Pass --out {file.stem or 'predictions'}.csv.")
    if file.exists():
        with file.open(encoding="utf-8", errors="replace", newline="") as stream:
            header = next(csv.reader(stream), [])
        if header and tuple(header[: len(COLUMNS)]) != COLUMNS:
            raise ValueError(
                f"--out must be new or a table of amr predict, got {str(file)!r} with other columns. "
                "Choose another name."
            )
    check_writable(file.parent, "--out", "Pass --out with a CSV elsewhere.")


def write_predictions(file: Path, predictions: Sequence[Prediction]) -> None:
    """Write a CSV with one row per clip: clip, pred, probability, share_<modality> of each modality, note.

    Of labels, which have no single probability, `probability_<label>` of each follows `probability`.
    """
    labels = next((list(p.probabilities) for p in predictions if p.probability is None and p.probabilities), [])
    rows = [
        {
            **{name: getattr(p, name) for name in COLUMNS},
            **{f"probability_{label}": p.probabilities.get(label) for label in labels},
            **{f"share_{m}": share for m, share in p.share.items()},
            "note": p.note,
        }
        for p in predictions
    ]
    import pandas as pd

    file.parent.mkdir(parents=True, exist_ok=True)
    # pandas' own texts refuse names with bytes that are no UTF-8
    texts = {name: pd.Series([row[name] for row in rows], dtype=object) for name in ("clip", "pred", "note")}
    write_csv(file, pd.DataFrame([row | dict.fromkeys(texts) for row in rows]).assign(**texts))
