"""VGGSounder's tags: what can be heard, seen, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amr.fusion.runs.statistics import Result, mean, rate, wilson_interval

TAG, TAGS = "vggsounder_modality", "vggsounder"


KINDS = ("A", "V", "AV")


FLAGS = ("background_music", "static_image", "voice_over")


@dataclass(frozen=True)
class Tags:
    """What VGGSounder says of some clips.

    Args:
        own: `(clips,)`: what the clip's label is; "" where it has no tag.
        flags: flag to `(clips,)` of "1", "0" or "".
        all: each clip's tags, class to A, V or AV; None where no column has them.
    """

    own: np.ndarray
    flags: Mapping[str, np.ndarray]
    all: Sequence[Mapping[str, str]] | None

    @classmethod
    def read(cls, table: pd.DataFrame) -> Tags:
        flags = {flag: table[flag].astype(str).to_numpy() for flag in FLAGS if flag in table}
        every = [parse_tags(text) for text in table[TAGS].astype(str)] if TAGS in table else None
        return cls(table[TAG].astype(str).to_numpy(), flags, every)


def against_tags(
    tags: Tags, classes: Sequence[str], preds: np.ndarray, shares: Mapping[str, np.ndarray], target: np.ndarray
) -> Result:
    result: Result = {
        "num_untagged": int((tags.own == "").sum()),
        "label": {kind: of_rows(tags.own == kind, preds, shares, target) for kind in KINDS},
        "flags": {
            flag: {name: of_rows(given == value, preds, shares, target) for name, value in (("yes", "1"), ("no", "0"))}
            for flag, given in tags.flags.items()
        },
        "any_tag": None,
    }
    if tags.all is not None:
        tagged = np.array([bool(of_clip) for of_clip in tags.all])
        found = np.array([of_clip.get(classes[pred], "") for of_clip, pred in zip(tags.all, preds, strict=True)])
        result["any_tag"] = {
            "num_clips": int(tagged.sum()),
            "accuracy": rate(found[tagged] != ""),
            **{kind: rate(found[tagged] == kind) for kind in KINDS},
        }
    return result


def parse_tags(text: str) -> dict[str, str]:
    """A clip's tags, class to A, V or AV.

    >>> parse_tags("male speech, man speaking:A;playing hammond organ:AV")
    {'male speech, man speaking': 'A', 'playing hammond organ': 'AV'}
    """
    return {name: kind for name, _, kind in (part.rpartition(":") for part in text.split(";") if part)}


def of_rows(rows: np.ndarray, preds: np.ndarray, shares: Mapping[str, np.ndarray], target: np.ndarray) -> Result:
    """Accuracy with its interval, and mean shares, of some labelled clips."""
    rows = rows & (target >= 0)
    right = preds[rows] == target[rows]
    return {
        "num_clips": int(rows.sum()),
        "accuracy": rate(right),
        "interval": wilson_interval(right),
        "share": {m: mean(share[rows][np.isfinite(share[rows])]) for m, share in shares.items()},
    }
