"""Tables of heads beside people, from an evaluation with `--against people`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amr.fusion.evaluate.measures.tags import KINDS
from amr.fusion.runs.read import SETTINGS, flat, setting_text

HOW = {"A": "heard", "V": "seen", "AV": "heard and seen"}


@dataclass(frozen=True)
class PeopleTable:
    """A table with one row per setting, and one for people or for the label.

    Args:
        title: Title, with the number of clips.
        columns: Headings.
        rows: Texts and fractions; None for what is not measured.
    """

    title: str
    columns: list[str]
    rows: list[list[object]]


def people_tables(document: Mapping[str, Any]) -> list[PeopleTable]:
    """Tables of what evaluation.json holds about people; fractions of clips, means over seeds."""
    entries = [entry for entry in document["runs"] if entry["measures"].get("people")]
    if not entries:
        return []
    settings = _Settings.of(entries)
    fullest = max(entries, key=lambda entry: len(entry["modalities"]))  # unimodal heads cannot follow two channels
    first: Mapping[str, Any] = fullest["measures"]["people"]
    tables = []
    if first["votes"] is not None:
        conflict = first["votes"]["conflict"] or {}
        pairs = (
            {"conflict": conflict} if "head" in conflict else {f"conflict.{pair}": c for pair, c in conflict.items()}
        )
        tables += [_followed(settings, f"votes.{name}", c) for name, c in pairs.items() if c["num_clips"] > 0]
        tables.append(_agreement(settings, first["votes"]))
    if first["tags"] is not None:
        tables.append(_tags(settings, first["tags"]))
    return tables


@dataclass(frozen=True)
class _Settings:
    """Measures against people of each setting.

    Args:
        names: Options in which the settings differ, and always the method and the ratio.
        labels: Texts of these options, for each setting.
        measures: Flat names to values, for each run of each setting.
    """

    names: list[str]
    labels: list[list[str]]
    measures: list[list[dict[str, float]]]

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> _Settings:
        texts = [tuple(setting_text(name, entry[name]) for name in SETTINGS) for entry in entries]
        varied = [i for i, n in enumerate(SETTINGS) if n in ("method", "amr_ratio") or len({t[i] for t in texts}) > 1]
        by_setting: dict[tuple[str, ...], list[dict[str, float]]] = {}
        for text, entry in zip(texts, entries, strict=True):
            by_setting.setdefault(text, []).append(flat(entry["measures"]["people"]))
        labels = [[text[i] for i in varied] for text in by_setting]
        return cls([SETTINGS[i] for i in varied], labels, list(by_setting.values()))

    def table(self, title: str, columns: Mapping[str, str], reference: str, values: Sequence[object]) -> PeopleTable:
        """Table of some measures.

        Args:
            title: Title.
            columns: Heading to the name of a measure.
            reference: Name of the first row, such as people; "" for none.
            values: Values of that row.
        """
        rows: list[list[object]] = []
        if reference:
            rows.append([reference, *([""] * (len(self.names) - 1)), *values])
        for label, runs in zip(self.labels, self.measures, strict=True):
            found = [[run[name] for run in runs if name in run] for name in columns.values()]
            rows.append([*label, *(float(np.mean(each)) if each else None for each in found)])
        return PeopleTable(title, [*self.names, *columns], rows)


def _followed(settings: _Settings, name: str, conflict: Mapping[str, Any]) -> PeopleTable:
    """How often heads, and people given everything, choose as the majority of each of two channels."""
    channels = list(conflict["head"])
    columns = {channel: f"{name}.head.{channel}" for channel in channels}
    first, second = channels[:2]
    people = conflict["people"] or {}
    title = (
        f"follows, on the {conflict['num_clips']} test clips that people took for two classes by {first} and {second}"
    )
    return settings.table(title, columns, "people" if people else "", [people.get(channel) for channel in channels])


def _agreement(settings: _Settings, votes: Mapping[str, Any]) -> PeopleTable:
    """How often heads, and the label, are what most people chose; how far probabilities are from people's votes."""
    columns = {channel: f"votes.agreement.{channel}.head" for channel in votes["agreement"]}
    label = [agreement["label"] for agreement in votes["agreement"].values()]
    if votes["distance"] is not None:
        columns["distance to both"] = "votes.distance.jensen_shannon.head"
        label.append(None)
    title = "chooses as most people did, by what they were given"
    return settings.table(title, columns, "label", label)


def _tags(settings: _Settings, tags: Mapping[str, Any]) -> PeopleTable:
    """Accuracy on clips whose label is heard, seen, or both, and how often any tag is predicted."""
    columns = {HOW[kind]: f"tags.label.{kind}.accuracy" for kind in KINDS}
    if tags["any_tag"] is not None:
        columns["any tag"] = "tags.any_tag.accuracy"
    counts = ", ".join(f"{tags['label'][kind]['num_clips']} {HOW[kind]}" for kind in KINDS)
    return settings.table(f"accuracy by how the label shows ({counts})", columns, "", [])
