"""A frontier in sentences, from the content of frontier.json. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amr.fusion.choices import score_of
from amr.fusion.runs.statistics import MIN_VALUES_INTERVAL


def reading(document: Mapping[str, Any]) -> list[str]:
    """Sentences on the price, and on the best head for the target."""
    prices = [*document["price"].items()]
    sentences = [*dict.fromkeys(_price_sentence(modality, price, document) for modality, price in prices)]
    if len(document["modalities"]) == 2:  # what the one loses the other gains
        sentences = sentences[:1]
    best, score = document["best"], score_of(document)
    if best is None:
        return sentences
    return [
        *sentences,
        f"Of the fitted heads, the nearest to the target for at most {document['max_cost']:g} of val {score.words}: "
        f"{best['setting']}. "
        f"Its best run by val has test {score.words} {best[score.name]:.3f} and use share "
        f"{shares_text(best['use_share'])}.",
    ]


def _price_sentence(modality: str, price: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    setting = price["setting"]
    if price["pairs"] < MIN_VALUES_INTERVAL:
        advice = "" if "runs" in document.get("config", {}) else ": pass --seeds 3 or --folds 5"
        return f"There is no price, which needs three pairs of seed and fold{advice}."
    if price["per_tenth"] is None:
        return f"There is no price for {modality}: {setting} does not surely move its use share nearer to the target."
    interval = price["per_tenth_interval"]
    between = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    words = score_of(document).words
    return (
        f"Moving the use share of {modality} by .10 towards {document['target'][modality]:.2f} costs "
        f"{price['per_tenth']:.3f} {words}{between}, by {setting}, the nearest to the target on the front."
    )


def shares_text(shares: Mapping[str, float | None]) -> str:
    """Shares of the modalities side by side.

    >>> shares_text({"audio": 0.6, "video": None})
    '0.60/-'
    """
    return "/".join("-" if share is None else f"{share:.2f}" for share in shares.values())
