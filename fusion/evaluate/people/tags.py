"""VGGSounder's tags: what can be heard, seen, or both.

Columns of the clips, from any manifest or from `amr import --columns`:

    vggsounder_modality, vggsounder               how the clip's label, and every tag, shows: A heard, V seen, AV both
    background_music, static_image, voice_over    flags of the same clips
"""

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
    """VGGSounder's tags of some clips.

    Args:
        own: Tag of the clip's label, `(clips,)`; "" without a tag.
        flags: Flag to `(clips,)` of "1", "0" or "".
        all: Tags of each clip, class to A, V or AV; None without the column.
    """

    own: np.ndarray
    flags: Mapping[str, np.ndarray]
    all: Sequence[Mapping[str, str]] | None

    @classmethod
    def read(cls, table: pd.DataFrame) -> Tags:
        """Read the tags from the columns of some clips."""
        flags = {flag: table[flag].astype(str).to_numpy() for flag in FLAGS if flag in table}
        all_tags = [parse_tags(text) for text in table[TAGS].astype(str)] if TAGS in table else None
        return cls(table[TAG].astype(str).to_numpy(), flags, all_tags)


def against_tags(
    tags: Tags, classes: Sequence[str], preds: np.ndarray, shares: Mapping[str, np.ndarray], target: np.ndarray
) -> Result:
    """Accuracy and shares by the tag of the label and by flag, and how often the prediction is any of the tags."""
    result: Result = {
        "num_untagged": int((tags.own == "").sum()),
        "label": {kind: of_rows(tags.own == kind, preds, shares, target) for kind in KINDS},
        "flags": {
            flag: {name: of_rows(values == value, preds, shares, target) for name, value in (("yes", "1"), ("no", "0"))}
            for flag, values in tags.flags.items()
        },
        "any_tag": None,
    }
    if tags.all is not None:
        tagged = np.array([bool(clip_tags) for clip_tags in tags.all])
        found = np.array([clip_tags.get(classes[pred], "") for clip_tags, pred in zip(tags.all, preds, strict=True)])
        result["any_tag"] = {
            "num_clips": int(tagged.sum()),
            "accuracy": rate(found[tagged] != ""),
            **{kind: rate(found[tagged] == kind) for kind in KINDS},
        }
    return result


def parse_tags(text: str) -> dict[str, str]:
    """Parse a clip's tags: class to A, V or AV.

    >>> parse_tags("male speech, man speaking:A;playing hammond organ:AV")
    {'male speech, man speaking': 'A', 'playing hammond organ': 'AV'}
    """
    return {name: kind for name, _, kind in (tag.rpartition(":") for tag in text.split(";") if tag)}


def of_rows(rows: np.ndarray, preds: np.ndarray, shares: Mapping[str, np.ndarray], target: np.ndarray) -> Result:
    """Accuracy with its interval, and mean shares, of the selected clips that have a label."""
    rows = rows & (target >= 0)
    correct = preds[rows] == target[rows]
    return {
        "num_clips": int(rows.sum()),
        "accuracy": rate(correct),
        "interval": wilson_interval(correct),
        "share": {m: mean(share[rows][np.isfinite(share[rows])]) for m, share in shares.items()},
    }
