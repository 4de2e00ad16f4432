"""Tables of heads beside people, from an evaluation with `--against people`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amr.fusion.evaluate.people.tags import KINDS
from amr.fusion.evaluate.tables import setting_labels
from amr.fusion.runs.read import SETTINGS, flat

HOW = {"A": "heard", "V": "seen", "AV": "heard and seen"}


@dataclass(frozen=True)
class PeopleTable:
    """A table with one row per setting, after one for people or for the label.

    Args:
        title: Title, with the number of clips.
        columns: Headings.
        rows: Texts and fractions; None for what is not measured.
    """

    title: str
    columns: list[str]
    rows: list[list[object]]


Entries = Sequence[Mapping[str, Any]]
Label = Callable[[Mapping[str, Any]], str]


def people_tables(document: Mapping[str, Any], label: Label | None = None) -> list[PeopleTable]:
    """Tables of what evaluation.json holds about people; fractions of clips, means over seeds.

    Args:
        document: Content of evaluation.json.
        label: Function that names the setting of a run's entry; None: names as in the other tables of `amr evaluate`.
    """
    entries = [entry for entry in document["runs"] if entry["measures"].get("people")]
    if not entries:
        return []
    settings = _Settings.of(entries, label)
    fullest = max(entries, key=lambda entry: len(entry["modalities"]))  # unimodal heads cannot follow two channels
    people: Mapping[str, Any] = fullest["measures"]["people"]
    tables = []
    if people["votes"] is not None:
        found = people["votes"]["conflict"] or {}
        conflicts = {"": found} if "head" in found else {f".{pair}": conflict for pair, conflict in found.items()}
        tables += [_followed(settings, f"votes.conflict{pair}", c) for pair, c in conflicts.items() if c["num_clips"]]
        tables.append(_agreement(settings, people["votes"]))
    if people["tags"] is not None:
        tables.append(_tags(settings, people["tags"]))
    return tables


@dataclass(frozen=True)
class _Settings:
    """Measures against people of each setting.

    Args:
        labels: Names of the settings.
        measures: Flat names to values, for each run of each setting.
    """

    labels: list[str]
    measures: list[list[dict[str, float]]]

    @classmethod
    def of(cls, entries: Entries, label: Label | None) -> _Settings:
        by_setting: dict[str, list[Mapping[str, Any]]] = {}
        for entry in entries:
            by_setting.setdefault(str([entry.get(name) for name in SETTINGS]), []).append(entry)
        firsts = [runs[0] for runs in by_setting.values()]
        labels = [", ".join(texts) for texts in setting_labels(firsts)] if label is None else [*map(label, firsts)]
        measures = [[flat(run["measures"]["people"]) for run in runs] for runs in by_setting.values()]
        return cls(labels, measures)

    def table(
        self, title: str, columns: Mapping[str, str], reference: Mapping[str, Sequence[object]] | None = None
    ) -> PeopleTable:
        """Table of some measures; settings that have none of them are left out.

        Args:
            title: Title.
            columns: Heading to the name of a measure.
            reference: Name of the first row, such as people, to its values.
        """
        rows: list[list[object]] = [[name, *values] for name, values in (reference or {}).items()]
        for label, runs in zip(self.labels, self.measures, strict=True):
            found = [[run[name] for run in runs if name in run] for name in columns.values()]
            if any(found):
                rows.append([label, *(float(np.mean(values)) if values else None for values in found)])
        return PeopleTable(title, ["setting", *columns], rows)


def _followed(settings: _Settings, name: str, conflict: Mapping[str, Any]) -> PeopleTable:
    """How often heads, and people given everything, choose as the majority of each of two channels."""
    columns = {channel: f"{name}.head.{channel}" for channel in conflict["head"]}
    first, second = list(columns)[:2]
    people = conflict["people"]
    reference = None if people is None else {"people": [people[channel] for channel in columns]}
    title = f"follows, on the {conflict['num_clips']} test clips on which {first} and {second} differ for people"
    return settings.table(title, columns, reference)


def _agreement(settings: _Settings, votes: Mapping[str, Any]) -> PeopleTable:
    """How often heads, and the label, are what most people chose; how far probabilities are from people's votes."""
    columns = {channel: f"votes.agreement.{channel}.head" for channel in votes["agreement"]}
    label: list[object] = [agreement["label"] for agreement in votes["agreement"].values()]
    if votes["distance"] is not None:
        columns["distance to both"] = "votes.distance.jensen_shannon.head"
        label.append(None)
    return settings.table("chooses as most people did, by what they were given", columns, {"the label": label})


def _tags(settings: _Settings, tags: Mapping[str, Any]) -> PeopleTable:
    """Accuracy on clips whose label is heard, seen, or both, and how often any tag is predicted."""
    columns = {HOW[kind]: f"tags.label.{kind}.accuracy" for kind in KINDS}
    if tags["any_tag"] is not None:
        columns["any tag"] = "tags.any_tag.accuracy"
    counts = ", ".join(f"{tags['label'][kind]['num_clips']} {HOW[kind]}" for kind in KINDS)
    return settings.table(f"accuracy on test clips by how their label shows ({counts})", columns)
