"""What people heard and saw, as the reference: whom does a head follow, and whom did people (docs/people.md).

Columns of the clips, which any manifest or `amr import --columns` may bring:

    votes_<SOURCE>_<CLASS>                        how many people chose the class from the source alone; `both`: from
                                                  everything together
    vggsounder_modality, vggsounder               what the clip's label, and every tag, is: A heard, V seen, AV both
    background_music, static_image, voice_over    flags of the same clips
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, spearmanr

from amr.fusion.evaluate.measures.tags import TAG, Tags, against_tags
from amr.fusion.runs.statistics import Result, mean, rate, wilson_interval

VOTES = "votes_"
TOGETHER = "both"
CHANNELS = {"voice": "audio", "face": "video"}
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # of a class that people voted for: its log stays finite


@dataclass(frozen=True)
class Votes:
    """How people voted on some clips.

    Args:
        counts: source to `(clips, classes)`, in the order of the classes.
        modalities: source to the modality it is compared with; `both` has none.
    """

    counts: Mapping[str, np.ndarray]
    modalities: Mapping[str, str]

    @property
    def unimodal(self) -> list[str]:
        """The sources that are a single modality."""
        return list(self.modalities)


def against_people(
    table: pd.DataFrame,
    classes: Sequence[str],
    modalities: Sequence[str],
    probabilities: np.ndarray,
    shares: np.ndarray,
    *,
    label: str = "label",
    channels: Mapping[str, str] | None = None,
) -> list[Result]:
    """Heads beside people, one dictionary of JSON values a run.

    Args:
        table: the clips as the cache has them, every value text.
        classes: in the order of the probabilities.
        modalities: in the order of the shares.
        probabilities: `(run, clips, classes)`.
        shares: `(run, clips, modalities)`; all 0 or NaN where a clip has none.
        label: the column that was predicted.
        sources: source of votes to modality; None: voice is audio, face is video, and a modality's name is itself.

    Returns:
        `votes` and `tags`, each None where the clips have no such columns; see docs/people.md.

    Raises:
        ValueError: the clips have neither, or the votes are for other classes than the head's.
    """
    votes = read_votes(table, classes, modalities, channels)
    if votes is None and TAG not in table:
        raise ValueError(
            f"--against people must find columns {VOTES}<SOURCE>_<CLASS> or {TAG} in the cache, got "
            f"{', '.join(map(str, table))}. Bring them: amr import --columns CSV."
        )
    tags = Tags.read(table) if TAG in table else None
    codes = {name: code for code, name in enumerate(classes)}
    target = np.array([codes.get(value, -1) for value in table[label].astype(str)])
    shares = np.asarray(shares, dtype=np.float64)
    shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, np.nan)
    results = []
    for of_run, share in zip(np.asarray(probabilities, dtype=np.float64), shares, strict=True):
        by_modality = dict(zip(modalities, share.T, strict=True))
        results.append(
            {
                "votes": None if votes is None else _against_votes(votes, of_run, by_modality, target),
                "tags": None if tags is None else against_tags(tags, classes, of_run.argmax(-1), by_modality, target),
            }
        )
    return results


def parse_channels(text: str) -> dict[str, str]:
    """`voice=audio,face=video` as a dictionary.

    >>> parse_sources("voice=audio,face=video")
    {'voice': 'audio', 'face': 'video'}
    """
    named: dict[str, str] = {}
    for part in text.split(","):
        channel, _, modality = (piece.strip() for piece in part.partition("="))
        if not channel or not modality or channel in named:
            raise ValueError(
                f"--people must be SOURCE=MODALITY with commas between, got {text!r}. Pass voice=audio,face=video."
            )
        named[channel] = modality
    return named


def read_votes(
    table: pd.DataFrame, classes: Sequence[str], modalities: Sequence[str], channels: Mapping[str, str] | None = None
) -> Votes | None:
    """The votes in the columns of some clips; None where there are none.

    Args:
        table: the clips, every value text; "" is no vote.
        classes: every source must have a column for each, and for nothing else.
        modalities: of the head; a source of another one is left out.
        sources: source to modality; None: `SOURCES`, and a modality's name is itself.

    Raises:
        ValueError: other classes than the votes', a source that no column has, none that is of a modality, or a count
            that is none.
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
                f"--people must name sources of votes ({', '.join(found)}), got {channel!r}. "
                "Pass for example voice=audio,face=video."
            )
    named = {**CHANNELS, **{m: m for m in modalities}} if channels is None else dict(channels)
    alone = {channel: named[channel] for channel in found if channel != TOGETHER and named.get(channel) in modalities}
    if not alone and set(found) != {TOGETHER}:
        raise ValueError(
            f"--people must say which of the modalities {', '.join(modalities)} the votes {', '.join(found)} are of, "
            f"got {', '.join(f'{s}={m}' for s, m in named.items())}. Pass --people voice={modalities[0]}."
        )
    used = {channel: found[channel] for channel in (*alone, TOGETHER) if channel in found}
    for channel, of_channel in used.items():
        if set(of_channel) != set(classes):
            raise ValueError(
                f"{VOTES}{channel}_<CLASS> must be there for each class of the label ({', '.join(classes)}), got "
                f"{', '.join(sorted(of_channel))}. Fit on a label that names them: amr fit --label COLUMN, or import "
                "again, with --columns and without --labels."
            )
    counts = {
        channel: np.stack([_numbers(table[of_channel[name]]) for name in classes], axis=-1)
        for channel, of_channel in used.items()
    }
    return Votes(counts, alone)


def _numbers(column: pd.Series) -> np.ndarray:
    """`(clips,)`: the counts of a column, 0 where it is empty."""
    numbers = pd.to_numeric(column.astype(str).replace("", "0"), errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if wrong.any():
        raise ValueError(
            f"{column.name} must be a count of votes, got {column[wrong].iloc[0]!r}. Correct the column and import it."
        )
    return numbers


def majority(counts: np.ndarray) -> np.ndarray:
    """`(clips, classes)` to the class with the most votes, `(clips,)`; -1 where several have, or nobody voted.

    >>> majority(np.array([[3, 1], [2, 2], [0, 0]]))
    array([ 0, -1, -1])
    """
    alone = (counts == counts.max(-1, keepdims=True)).sum(-1) == 1
    return np.where(alone, counts.argmax(-1), -1)


def distributions(counts: np.ndarray) -> np.ndarray:
    """`(clips, classes)` to each clip's distribution of votes; NaN where nobody voted."""
    total = counts.sum(-1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


def _against_votes(
    votes: Votes, probabilities: np.ndarray, shares: Mapping[str, np.ndarray], target: np.ndarray
) -> Result:
    preds = probabilities.argmax(-1)
    pairs = {f"{a}/{b}": conflict(votes, a, b, preds) for a, b in combinations(votes.unimodal, 2)}
    return {
        "num_clips": len(preds),
        "sources": dict(votes.modalities),
        "conflict": next(iter(pairs.values())) if len(pairs) == 1 else (pairs or None),
        "agreement": _agreement(votes, preds, target),
        "distance": distance(votes, probabilities) if TOGETHER in votes.counts else None,
        "correlation": {m: _correlation(votes, m, share, target) for m, share in shares.items()},
    }


def conflict(votes: Votes, first: str, second: str, preds: np.ndarray) -> Result:
    """Where the majorities of two sources differ: how often each is followed, by the head and by people with both.

    Clips on which a source has no majority are left out and counted. `tie` is people with both who have none.

    Args:
        votes: of the clips.
        first: a source.
        second: another one.
        preds: `(clips,)`.
    """
    a, b = (majority(votes.counts[channel]) for channel in (first, second))
    untied = (a >= 0) & (b >= 0)
    rows = untied & (a != b)
    together = majority(votes.counts[TOGETHER]) if TOGETHER in votes.counts else None

    def followed(answer: np.ndarray) -> Result:
        counted = {first: answer == a, second: answer == b, "neither": (answer != a) & (answer != b) & (answer >= 0)}
        return {name: rate(hits[rows]) for name, hits in counted.items()}

    people = None
    if together is not None:
        people = followed(together) | {"tie": rate((together < 0)[rows])}
    return {
        "num_clips": int(rows.sum()),
        "num_tied": int((~untied).sum()),
        "head": followed(preds),
        "people": people,
        "interval": {name: wilson_interval(preds[rows] == answer[rows]) for name, answer in ((first, a), (second, b))},
    }


def _agreement(votes: Votes, preds: np.ndarray, target: np.ndarray) -> Result:
    """How often the head, and the clip's label, are what most people chose; ties are left out."""
    agreed: Result = {}
    for channel, counts in votes.counts.items():
        chosen = majority(counts)
        agreed[channel] = {
            "num_clips": int((chosen >= 0).sum()),
            "head": rate((preds == chosen)[chosen >= 0]),
            "label": rate((target == chosen)[(chosen >= 0) & (target >= 0)]),
        }
    return agreed


def distance(votes: Votes, probabilities: np.ndarray) -> Result:
    """How far the head's probabilities are from the votes of people with both, mean over the clips that have any.

    Jensen-Shannon distance (base 2, 0 to 1) and cross-entropy in nats, of which the people's own entropy is the
    least there can be. People with one source alone are measured the same way, for comparison.

    Args:
        votes: of the clips; with `both`.
        probabilities: `(clips, classes)`.
    """
    people = distributions(votes.counts[TOGETHER])
    voted = np.isfinite(people).all(-1)
    alone = {channel: distributions(votes.counts[channel]) for channel in votes.unimodal}
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    return {
        "num_clips": int(voted.sum()),
        "jensen_shannon": {
            name: mean(jensenshannon(q[rows], people[rows], base=2, axis=-1))
            for name, q in {"head": probabilities, **alone}.items()
            for rows in (voted & np.isfinite(q).all(-1),)
        },
        "cross_entropy": mean(-(people * logs).sum(-1)[voted]),
        "entropy": mean(entropy(people[voted], axis=-1)),
    }


def _correlation(votes: Votes, modality: str, share: np.ndarray, target: np.ndarray) -> Result | None:
    """Spearman's rank correlation of a modality's share of a clip with how much more people got from it alone.

    How much: the share of the modality's votes that hit the clip's label, less the mean of the other modalities'.
    None where it has no votes, or no other modality has.
    """
    hits: dict[str, list[np.ndarray]] = {}
    there = target >= 0
    for channel, of_channel in votes.modalities.items():
        right = distributions(votes.counts[channel])[np.arange(len(target)), np.maximum(target, 0)]
        hits.setdefault(of_channel, []).append(np.where(there, right, np.nan))
    if modality not in hits or len(hits) < 2:
        return None
    own = np.mean(hits.pop(modality), axis=0)
    others = np.mean([np.mean(values, axis=0) for values in hits.values()], axis=0)
    gain = own - others
    rows = np.isfinite(gain) & np.isfinite(share)
    constant = rows.sum() < 3 or np.ptp(gain[rows]) == 0 or np.ptp(share[rows]) == 0
    found = None if constant else spearmanr(share[rows], gain[rows])
    return {
        "num_clips": int(rows.sum()),
        "rho": None if found is None else float(found.statistic),
        "p": None if found is None else float(found.pvalue),
    }
