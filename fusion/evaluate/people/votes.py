"""People's votes on clips, read from the columns `votes_<CHANNEL>_<CLASS>` (docs/people.md).

Each holds the number of people who chose the class from that channel only; `both`: from everything together. The
columns come from any manifest or from `amr import --columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from amr.fusion.evaluate.people.tags import TAG

VOTES = "votes_"
TOGETHER = "both"
MAX_VOTES = 10**9  # of one column: their sums stay exact
CHANNELS = {"voice": "audio", "face": "video"}


@dataclass(frozen=True)
class Votes:
    """People's votes on some clips.

    Args:
        counts: Channel to `(clips, classes)`, in the order of the classes.
        modalities: Channel to the modality it is compared with; `both` has none.
    """

    counts: Mapping[str, np.ndarray]
    modalities: Mapping[str, str]

    @property
    def unimodal(self) -> list[str]:
        """Channels of a single modality."""
        return list(self.modalities)


def find_votes(
    table: pd.DataFrame,
    classes: Sequence[str],
    modalities: Sequence[str],
    channels: Mapping[str, str] | None = None,
    *,
    imported: bool = False,
) -> Votes | None:
    """Read the votes as `read_votes` does; None if the clips have tags only.

    Args:
        table: Clips, with one column per channel and class.
        classes: Classes of the head.
        modalities: Modalities of the head.
        channels: Channel -> modality.
        imported: Whether the cache was imported, for the advice of the error.

    Raises:
        ValueError: The clips have neither votes nor tags, or the votes are for other classes.
    """
    votes = read_votes(table, classes, modalities, channels)
    if votes is None and TAG not in table:
        advice = (
            "Run the same amr import again with --columns CSV and --overwrite."
            if imported
            else "Add them to the manifest CSV and run the same amr extract again: it only updates the columns."
        )
        raise ValueError(
            f"--against people must find columns {VOTES}<CHANNEL>_<CLASS> or {TAG} in the cache, got "
            f"{', '.join(map(str, table))}. {advice}"
        )
    return votes


def parse_channels(text: str) -> dict[str, str]:
    """Parse pairs of channel and modality.

    >>> parse_channels("voice=audio,face=video")
    {'voice': 'audio', 'face': 'video'}
    """
    channels: dict[str, str] = {}
    for pair in text.split(","):
        channel, _, modality = (piece.strip() for piece in pair.partition("="))
        if not channel or not modality or channel in channels:
            raise ValueError(
                f"--people must be CHANNEL=MODALITY with commas between, got {text!r}. Pass voice=audio,face=video."
            )
        channels[channel] = modality
    return channels


def read_votes(
    table: pd.DataFrame, classes: Sequence[str], modalities: Sequence[str], channels: Mapping[str, str] | None = None
) -> Votes | None:
    """Read the votes from the columns of some clips; None if there are none.

    Args:
        table: Clips; every value is text, "" is no vote.
        classes: Class names; every channel must have one column for each, and no others.
        modalities: Modalities of the head; channels of other modalities are left out.
        channels: Channel to modality; None: `CHANNELS`, and a channel named like a modality is that modality.

    Raises:
        ValueError: The votes are for other classes, no column has a channel, no channel has a modality of the head, or
            a count is not a number.
    """
    found: dict[str, dict[str, str]] = {}
    for column in (str(column) for column in table if str(column).startswith(VOTES)):
        channel, _, name = column.removeprefix(VOTES).partition("_")
        found.setdefault(channel, {})[name] = column
    if not found:
        return None
    for channel in channels or {}:
        if channel not in found:
            raise ValueError(
                f"--people must name channels of votes ({', '.join(found)}), got {channel!r}. "
                "Pass for example voice=audio,face=video."
            )
    mapping = {**CHANNELS, **{m: m for m in modalities}} if channels is None else dict(channels)
    unimodal = {c: mapping[c] for c in found if c != TOGETHER and mapping.get(c) in modalities}
    if not unimodal and set(found) != {TOGETHER}:
        first = next(channel for channel in found if channel != TOGETHER)
        raise ValueError(
            f"--people must give the votes {', '.join(found)} one of the modalities {', '.join(modalities)}, got "
            f"{', '.join(f'{c}={m}' for c, m in mapping.items())}. Pass for example --people {first}={modalities[0]}."
        )
    used = {channel: found[channel] for channel in (*unimodal, TOGETHER) if channel in found}
    for channel, columns in used.items():
        if set(columns) != set(classes):
            raise ValueError(
                f"{VOTES}{channel}_<CLASS> must be a column for each class of the label ({', '.join(classes)}), got "
                f"{', '.join(sorted(columns))}. Fit on a label with those names (amr fit --label COLUMN), or import "
                "again with --columns and without --labels."
            )
    counts = {
        channel: np.stack([_counts(table[columns[name]]) for name in classes], axis=-1)
        for channel, columns in used.items()
    }
    return Votes(counts, unimodal)


def _counts(column: pd.Series) -> np.ndarray:
    """Counts of a column, `(clips,)`; 0 if empty."""
    counts = pd.to_numeric(column.astype(str).replace("", "0"), errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((counts >= 0) & (counts <= MAX_VOTES))
    if wrong.any():
        raise ValueError(
            f"{column.name} must be a count of votes from 0 to {MAX_VOTES:,}, got {column[wrong].iloc[0]!r}. "
            "Correct the column and import it again."
        )
    return counts


def majority(counts: np.ndarray) -> np.ndarray:
    """Class with the most votes, `(clips,)`, from `(clips, classes)`; -1 for a tie or no votes.

    >>> majority(np.array([[3, 1], [2, 2], [0, 0]]))
    array([ 0, -1, -1])
    """
    unique = (counts == counts.max(-1, keepdims=True)).sum(-1) == 1
    return np.where(unique, counts.argmax(-1), -1)


def distributions(counts: np.ndarray) -> np.ndarray:
    """Distribution of each clip's votes, `(clips, classes)`; NaN without votes."""
    total = counts.sum(-1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
