"""The content of frontier.json with the labels of the page: a setting has one name in every sentence and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amr.fusion.report.settings import Setting


def setting_of(entry: Mapping[str, Any], settings: Sequence[Setting]) -> Setting | None:
    """Setting of the page that an entry is about; None for modality scaling, which has no runs of its own."""
    if "factors" in entry or entry["kind"] == "modality scaling":
        return None
    names = set(entry["runs"])
    return next((setting for setting in settings if names & {run.name for run in setting.runs}), None)


def relabelled(document: Mapping[str, Any], settings: Sequence[Setting]) -> dict[str, Any]:
    """The document, with the page's label of each setting that has runs."""
    labels = {}
    for entry in document["settings"]:
        setting = setting_of(entry, settings)
        labels[entry["setting"]] = entry["setting"] if setting is None else setting.label

    def renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {**entry, "setting": labels.get(entry["setting"], entry["setting"])}

    best = document["best"]
    return {
        **document,
        "settings": [renamed(entry) for entry in document["settings"]],
        "front": [renamed(entry) for entry in document["front"]],
        "price": {m: renamed(price) for m, price in document["price"].items()},
        "best": None if best is None else renamed(best),
    }
