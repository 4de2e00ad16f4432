"""Compare heads with people: which channel does a head follow, and which do people (docs/people.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import scipy

from amr.fusion.evaluate.people.tags import TAG, Tags, against_tags
from amr.fusion.evaluate.people.votes import TOGETHER, Votes, distributions, find_votes, majority
from amr.fusion.runs.statistics import Result, mean, rate, wilson_interval

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # so that the log of a class with votes is finite


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
    """Compare heads with people; one dictionary of JSON values per run.

    Args:
        table: Clips as in the cache; every value is text.
        classes: Class names, in the order of the probabilities.
        modalities: Modalities, in the order of the shares.
        probabilities: Probabilities, `(run, clips, classes)`.
        shares: Shares, `(run, clips, modalities)`; all 0 or NaN if a clip has none.
        label: Column that was predicted.
        channels: Channel of votes to modality; None: voice is audio, face is video, and a channel named like a
            modality is that modality.

    Returns:
        `votes` and `tags`, each None if the clips lack the columns; see docs/people.md.

    Raises:
        ValueError: The clips have neither, or the votes are for other classes than the head's.
    """
    votes = find_votes(table, classes, modalities, channels)
    tags = Tags.read(table) if TAG in table else None
    codes = {name: code for code, name in enumerate(classes)}
    target = np.array([codes.get(value, -1) for value in table[label].astype(str)])
    shares = np.asarray(shares, dtype=np.float64)
    shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, np.nan)
    results = []
    for p, share in zip(np.asarray(probabilities, dtype=np.float64), shares, strict=True):
        by_modality = dict(zip(modalities, share.T, strict=True))
        results.append(
            {
                "votes": None if votes is None else _against_votes(votes, p, by_modality, target),
                "tags": None if tags is None else against_tags(tags, classes, p.argmax(-1), by_modality, target),
            }
        )
    return results


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
    """How often the head, and people given everything, follow each of two channels whose majorities differ.

    Clips on which a channel has no majority are left out and counted. `tie`: people given everything
    have no majority.

    Args:
        votes: Votes on the clips.
        first: Name of a channel.
        second: Name of another channel.
        preds: Predicted classes, `(clips,)`.
    """
    a, b = (majority(votes.counts[channel]) for channel in (first, second))
    untied = (a >= 0) & (b >= 0)
    rows = untied & (a != b)
    together = majority(votes.counts[TOGETHER]) if TOGETHER in votes.counts else None

    def followed(answer: np.ndarray) -> Result:
        matches = {first: answer == a, second: answer == b, "neither": (answer != a) & (answer != b) & (answer >= 0)}
        return {name: rate(match[rows]) for name, match in matches.items()}

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
    """How often the head and the clip's label are what most people chose; ties are left out."""
    agreement: Result = {}
    for channel, counts in votes.counts.items():
        chosen = majority(counts)
        agreement[channel] = {
            "num_clips": int((chosen >= 0).sum()),
            "head": rate((preds == chosen)[chosen >= 0]),
            "label": rate((target == chosen)[(chosen >= 0) & (target >= 0)]),
        }
    return agreement


def distance(votes: Votes, probabilities: np.ndarray) -> Result:
    """Mean distance, over clips with votes, of the head's probabilities from the votes of people given everything.

    Jensen-Shannon distance (base 2, 0 to 1), and cross-entropy in nats, whose lower bound is people's own entropy.
    Votes from a single channel are measured the same way, for comparison.

    Args:
        votes: Votes on the clips; must have the channel `both`.
        probabilities: Probabilities, `(clips, classes)`.
    """
    people = distributions(votes.counts[TOGETHER])
    voted = np.isfinite(people).all(-1)
    unimodal = {channel: distributions(votes.counts[channel]) for channel in votes.unimodal}
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    return {
        "num_clips": int(voted.sum()),
        "jensen_shannon": {
            name: mean(scipy.spatial.distance.jensenshannon(q[rows], people[rows], base=2, axis=-1))
            for name, q in {"head": probabilities, **unimodal}.items()
            for rows in (voted & np.isfinite(q).all(-1),)
        },
        "cross_entropy": mean(-(people * logs).sum(-1)[voted]),
        "entropy": mean(scipy.stats.entropy(people[voted], axis=-1)),
    }


def _correlation(votes: Votes, modality: str, share: np.ndarray, target: np.ndarray) -> Result | None:
    """Spearman's rank correlation over clips of a modality's share with people's gain from that modality.

    The gain is the fraction of the modality's votes for the clip's label, minus the mean of the other modalities'.
    None if the modality has no votes, or no other modality has.
    """
    accuracies: dict[str, list[np.ndarray]] = {}
    labeled = target >= 0
    for channel, channel_modality in votes.modalities.items():
        accuracy = distributions(votes.counts[channel])[np.arange(len(target)), np.maximum(target, 0)]
        accuracies.setdefault(channel_modality, []).append(np.where(labeled, accuracy, np.nan))
    if modality not in accuracies or len(accuracies) < 2:
        return None
    own = np.mean(accuracies.pop(modality), axis=0)
    others = np.mean([np.mean(values, axis=0) for values in accuracies.values()], axis=0)
    gain = own - others
    rows = np.isfinite(gain) & np.isfinite(share)
    constant = rows.sum() < 3 or np.ptp(gain[rows]) == 0 or np.ptp(share[rows]) == 0
    correlation = None if constant else scipy.stats.spearmanr(share[rows], gain[rows])
    return {
        "num_clips": int(rows.sum()),
        "rho": None if correlation is None else float(correlation.statistic),
        "p": None if correlation is None else float(correlation.pvalue),
    }
