"""Tables of an evaluation: the measures of each setting, and the changes by AMR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amr.fusion.runs.read import SETTINGS, setting_text

Rows = tuple[list[str], list[list[object]]]

SIGNIFICANT = 0.05
READING = """\
{order}fractions of 1, test clips
share     part of the decision, by gradient x input; this is what AMR changes
use       accuracy lost if the modality comes from another clip (perceptual score)
alone     accuracy with that modality only, the rest from another clip
noisy     part of the accuracy that is left, mean over noise of 0 to 1 standard deviation in the modality
follows   how often the modality's class is predicted if the modalities come from clips of two classes
over UME  accuracy minus that of UME, the mean of the uni-modal heads"""


def reading(document: Mapping[str, Any]) -> str:
    """Explain the columns of `settings_table`."""
    modalities = document["modalities"]
    return READING.format(order=f"{' / '.join(modalities)}, " if len(modalities) == 2 else "")


def settings_table(document: Mapping[str, Any]) -> Rows:
    """Columns, and one row per setting: means over seeds; `±` is half the 95 % interval over seeds.

    Two modalities are in one cell; of more, each has its own row.
    """
    modalities, groups = document["modalities"], document["groups"]
    varied = _varied(groups)
    several = max(len(group["seeds"]) for group in groups) > 1
    pair = len(modalities) == 2
    templates = _EACH | {"follows": "conflict.{}"} if pair else _EACH
    columns = [*varied, *(["seeds"] if several else []), "accuracy", "ECE", "over UME"]
    columns += [*([] if pair else ["modality"]), *templates]
    rows: list[list[object]] = []
    for group in groups:
        mean, own = group["mean"], group["modalities"]
        first: list[object] = [setting_text(name, group[name]) for name in varied] + (
            [len(group["seeds"])] if several else []
        )
        first += [_with_interval(group), mean.get("calibration.clean.ece"), mean.get("gain_over_ume")]
        if pair:
            rows.append([*first, *(_pair(mean, template, modalities, own) for template in templates.values())])
            continue
        for i, m in enumerate(own):
            values = [mean.get(template.format(m)) for template in templates.values()]
            rows.append([*(first if i == 0 else [""] * len(first)), m, *values])
    return columns, rows


def differences_table(document: Mapping[str, Any]) -> Rows:
    """Columns, and rows of the changes by AMR against none; * if p < .05 by the t-test after Holm's correction."""
    compared: dict[str, dict[str, dict[str, Any]]] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for entry in document["comparisons"]:
        key = str([entry[name] for name in SETTINGS])
        settings[key] = entry
        compared.setdefault(key, {})[entry["measure"]] = entry
    varied = _varied(list(settings.values()))
    columns = [*varied, "pairs", "accuracy", *(f"{name} {m}" for name in _COMPARED for m in document["modalities"])]
    rows: list[list[object]] = []
    for key, by_measure in compared.items():
        names = ["accuracy", *(t.format(m) for t in _COMPARED.values() for m in document["modalities"])]
        pairs = by_measure["accuracy"]["num_pairs"]
        cells = [_change(by_measure.get(name)) for name in names]
        rows.append([*(setting_text(name, settings[key][name]) for name in varied), pairs, *cells])
    return columns, rows


_EACH = {
    "share": "share.{}",
    "use": "perceptual.{}",
    "alone": "missing.permutation.{}",
    "noisy": "robustness.{}",
}
_COMPARED = {"share": "share.{}", "use": "perceptual.{}", "noisy": "robustness.{}"}


def _varied(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Options in which the settings differ, and always the method and the ratio."""
    always = ("method", "amr_ratio")
    return [n for n in SETTINGS if n in always or len({setting_text(n, g[n]) for g in groups if g[n] is not None}) > 1]


def _with_interval(group: Mapping[str, Any]) -> str:
    mean, interval = group["mean"]["accuracy"], group["interval"]["accuracy"]
    return f"{mean:.3f}" if interval is None else f"{mean:.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def _pair(mean: Mapping[str, float | None], template: str, modalities: Sequence[str], own: Sequence[str]) -> str:
    values = [mean.get(template.format(m)) if m in own else None for m in modalities]
    if all(value is None for value in values):
        return "-"
    return " / ".join("-" if value is None else f"{value:.2f}" for value in values)


def _change(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["difference"] is None:
        return "-"
    p = entry["p_corrected"]
    mark = "*" if p is not None and p < SIGNIFICANT else ""
    return f"{entry['difference']:+.3f}{mark}"
