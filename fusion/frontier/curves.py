"""The curves of a frontier's pictures, from the content of frontier.json. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amr.fusion.choices import SCORES, Score, score_of


@dataclass(frozen=True)
class Point:
    """One setting in a picture.

    Args:
        label: Text of the setting.
        x: Use share of a modality on test, or the distance of all use shares from the target.
        y: Accuracy on test, or the score of another task.
        x_half, y_half: Half the 95 % interval of the paired difference from the plain head; None if unknown.
    """

    label: str
    x: float
    y: float
    x_half: float | None
    y_half: float | None

    @property
    def place(self) -> tuple[float, float]:
        """Its x and y."""
        return self.x, self.y

    @classmethod
    def of(cls, entry: Mapping[str, Any], document: Mapping[str, Any], modality: str | None = None) -> Point:
        """Point of a setting.

        Args:
            entry: Entry of `settings`.
            document: Content of frontier.json.
            modality: Modality of the use share; None for the first of two, or the distance if there are more.
        """
        if modality is None and len(document["modalities"]) == 2:
            modality = document["modalities"][0]
        prices: Mapping[str, Any] = entry["price"] or {}
        if modality is None:
            x, x_half = entry["distance"], None
        else:
            x = entry["use_share"][modality]
            x_half = half_width(prices.get(modality, {}).get("moved_interval"))
        score = score_of(document)
        return cls(entry["setting"], x, entry[score.name], x_half, half_width(interval_of_change(entry, score)))


@dataclass(frozen=True)
class Curve:
    """Settings of one kind, in the order of their option.

    Args:
        name: Text of the legend.
        is_control: Whether it does without the regularizer.
        is_ordered: Whether its points have an order: ratios of three modalities have none.
        points: Its points.
    """

    name: str
    is_control: bool
    is_ordered: bool
    points: tuple[Point, ...]


def curves_of(document: Mapping[str, Any], modality: str | None = None) -> list[Curve]:
    """Curves of a frontier, that of the plain head first. A regularizer has one curve per weight.

    Args:
        document: Content of frontier.json.
        modality: As of `Point.of`.
    """
    two = len(document["modalities"]) == 2
    members: dict[str, list[Mapping[str, Any]]] = {}
    for entry in document["settings"]:
        if entry["distance"] is not None:  # None without any use
            members.setdefault(entry["curve"], []).append(entry)
    curves = []
    for name, entries in members.items():
        points = tuple(Point.of(entry, document, modality) for entry in entries)
        curves.append(Curve(name, entries[0]["is_control"], two or not entries[0]["has_ratio"], points))
    return curves


def front_of(document: Mapping[str, Any], modality: str | None = None) -> list[tuple[float, float]]:
    """Points of the front in the order of x; a setting without any use on test has none."""
    return sorted(
        Point.of(each, document, modality).place for each in document["front"] if each["distance"] is not None
    )


def interval_of_change(entry: Mapping[str, Any], score: Score = SCORES["multiclass"]) -> Sequence[float] | None:
    """95 % interval of the accuracy or score that a setting loses against the plain head; None if unknown."""
    price: Mapping[str, Any] = next(iter((entry["price"] or {}).values()), {})
    interval: Sequence[float] | None = price.get(f"{score.name}_lost_interval")
    return interval


def half_width(interval: Sequence[float] | None) -> float | None:
    """Half the width of an interval."""
    return None if interval is None else (interval[1] - interval[0]) / 2
