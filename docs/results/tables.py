"""The tables of a set's section: methods, frontier, noise, balance of each decision, people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from noise import LEVELS, UnderNoise
from paired import difference, find, settings_of

from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.config import FitConfig
from amr.fusion.sweep.table import markdown

PLAIN = "none"  # the ratio without AMR, on the command line and in tables
PAIRS = {  # measures of each modality
    "share": "share",
    "use": "perceptual",
    "use share": "use_share",
    "Shapley use share": "shapley_use_share",
    "alone": "alone",
    "robustness": "robustness",
}
FEW_PAIRS = ("share", "use", "alone")  # with more than two modalities
GAINS = {"over UME": "gain_over_ume", "over best uni-modal": "gain_over_best_unimodal"}
Rows = tuple[list[str], list[list[str]]]  # columns, and cells of each row


def table(rows: Rows) -> str:
    """Format as Markdown."""
    return markdown(*rows).strip()


def number(value: float | None, form: str = ".3f") -> str:
    """Text of a number, a dash for None; never -0.

    >>> number(-0.0001), number(None)
    ('0.000', '-')
    """
    if value is None:
        return "-"
    text = f"{value:{form}}"
    return text.replace("-", "" if form[0] != "+" else "+") if float(text) == 0 else text


def several(values: Mapping[str, float | None] | None) -> str:
    """Numbers of the modalities side by side; a dash if any is unknown."""
    if values is None or None in values.values():
        return "-"
    return "/".join(number(value, ".2f") for value in values.values())


def with_half(value: float | None, interval: Sequence[float] | None, form: str = ".3f") -> str:
    """Number ± half of its interval."""
    half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:{form.removeprefix('+')}}"
    return number(value, form) + half


def method_name(setting: Mapping[str, Any]) -> str:
    """Name of a method; of uni-modal heads, their modality."""
    return f"{setting['modalities'][0]} only" if setting["method"] == "unimodal" else setting["method"]


def ratio_name(setting: Mapping[str, Any]) -> str:
    """Ratio of a setting, without the names of two modalities, or `even` for more."""
    ratio = setting["amr_ratio"]
    return PLAIN if ratio is None else short(named_ratio(ratio, setting["modalities"]), setting["modalities"])


def short(label: str, modalities: Sequence[str]) -> str:
    """Label of a setting with a short ratio.

    >>> short("permutation audio=1:video=4 weight 0.3", ["audio", "video"])
    'permutation 1:4 weight 0.3'
    >>> short("modality scaling a=2:b=1:c=1", "abc"), short("a=1:b=1:c=1", "abc")
    ('modality scaling a=2', 'even')
    """
    ratio = re.search(r"\w+=[\d.]+(:\w+=[\d.]+)+", label)
    if ratio is None:
        return label
    parts = [part.split("=") for part in ratio[0].split(":")]
    favored = [f"{name}={value}" for name, value in parts if value != "1"]
    text = ":".join(value for _, value in parts) if len(modalities) == 2 else ":".join(favored) or "even"
    return label.replace(ratio[0], text)


def methods(evaluation: Mapping[str, Any]) -> Rows:
    """What the methods of table 1 rely on."""
    names = evaluation["modalities"]
    pairs = PAIRS if len(names) == 2 else {title: PAIRS[title] for title in FEW_PAIRS}
    columns = ["method", "AMR", "accuracy", *(f"{title} {'/'.join(names)}" for title in pairs), "ECE", *GAINS]
    rows = []
    for group in evaluation["groups"]:
        mean, fuses = group["mean"], len(group["modalities"]) > 1
        rows.append(
            [
                method_name(group),
                ratio_name(group),
                with_half(mean["accuracy"], group["interval"].get("accuracy")),
                *(several({m: mean.get(f"{key}.{m}") for m in names}) if fuses else "-" for key in pairs.values()),
                number(mean.get("calibration.clean.ece")),
                *(with_half(mean.get(key), group["interval"].get(key), "+.3f") for key in GAINS.values()),
            ]
        )
    return columns, rows


def frontier(document: Mapping[str, Any]) -> Rows:
    """Every setting of a frontier; those on the front are bold."""
    names = document["modalities"]
    first, two = names[0], len(names) == 2

    def of(values: Mapping[str, float | None] | None) -> str:
        return several(values if values is None or not two else {first: values[first]})

    of_names = first if two else "/".join(names)
    columns = ["setting", "accuracy", f"share {of_names}", f"use {'/'.join(names)}", f"use share {of_names}"]
    columns += [f"Shapley use share {of_names}", "accuracy lost", f"cost of 0.10 of {first}" if two else "distance"]
    rows = []
    for entry in document["settings"]:
        price = (entry["price"] or {}).get(first)
        label = short(entry["setting"], names)
        rows.append(
            [
                f"**{label}**" if entry["on_front"] else label,
                with_half(entry["accuracy"], entry["accuracy_interval"]),
                of(entry["share"]),
                several(entry["use"]),
                of(entry["use_share"]),
                of(entry["shapley_use_share"]),
                "-" if price is None else with_half(price["accuracy_lost"], price["accuracy_lost_interval"], "+.3f"),
                number(price["per_tenth"] if price else None) if two else number(entry["distance"]),
            ]
        )
    return columns, rows


def under_noise(measured: UnderNoise) -> Rows:
    """Accuracy and use at noise of 0, 1 and 2 deviations, and the difference from plain heads at 2."""
    shown = [LEVELS.index(level) for level in (0.0, 1.0, 2.0)]
    columns = ["noise in", "setting", "accuracy at 0", "at 1", "at 2", "accuracy beyond plain at 2"]
    columns += ["use at 0", "at 1", "at 2", "use beyond plain at 2"]
    rows = []
    for m in measured.modalities:
        for setting in measured.accuracy:
            row = [m, short(setting, measured.modalities)]
            for name in ("accuracy", "use"):
                row += [number(float(getattr(measured, name)[setting][m][level].mean())) for level in shown]
                test = measured.difference(name, setting, m, shown[-1])
                row.append("-" if setting == "plain" else with_half(test.difference, test.interval, "+.3f"))
            rows.append(row)
    return columns, rows


def beside_noise(folder: Path, overlap: float) -> Rows:
    """AMR with noise in training and without it: accuracy, share and use, against no AMR at the same noise.

    Args:
        folder: Folder of the sweep, of two modalities.
        overlap: Number of test clips over number of training clips, if there are folds; else 0.
    """
    settings = settings_of(folder)
    names = settings[0].modalities
    columns = ["noise in training", "AMR", "accuracy", f"share {'/'.join(names)}", f"use {'/'.join(names)}"]
    columns += [f"use share {names[0]}", "accuracy against none", f"use share {names[0]} against none"]
    rows = []
    for setting in sorted(settings, key=lambda each: _noise(each.runs[0].config)):
        config, values = setting.runs[0].config, setting.values
        none = find(settings, lambda run, c=config: _is_plain(run.config) and _noise(run.config) == _noise(c))
        tests = (
            difference(values.accuracy, none.values.accuracy, overlap),
            difference(values.use_share[..., 0], none.values.use_share[..., 0], overlap),
        )
        ratio = PLAIN if config.amr_ratio is None else short(named_ratio(config.amr_ratio, names), names)
        rows.append(
            [
                config.embedding_noise or "0",
                ratio if setting is none else f"{ratio} on {config.attribution}",
                number(float(values.accuracy.mean())),
                several(setting.means("share")),
                several(setting.means("perceptual")),
                number(setting.use_share[names[0]]),
                *("-" if setting is none else with_half(test.difference, test.interval, "+.3f") for test in tests),
            ]
        )
    return columns, rows


def _noise(config: FitConfig) -> float:
    return float(config.embedding_noise or 0)


def _is_plain(config: FitConfig) -> bool:
    return config.amr_ratio is None


def people(evaluation: Mapping[str, Any]) -> Rows:
    """One row for the people, then one per method and ratio, the mean over its seeds."""
    columns = ["method", "AMR", "follows face", "follows voice", "neither", "distance to votes", "rho of shares"]
    of_settings: dict[tuple[str, str], list[list[float]]] = {}
    first: dict[str, Any] = {}
    for setting, values, votes in _votes(evaluation):
        first = first or votes
        of_settings.setdefault(setting, []).append(values)
    answers = first["conflict"]["people"]
    rows = [["people", "-", *(number(answers[name]) for name in ("face", "voice", "neither")), "-", "-"]]
    for (method, ratio), of_seeds in of_settings.items():
        means = [number(sum(values) / len(values)) for values in zip(*of_seeds, strict=True)]
        rows.append([method, ratio, *means, *["-"] * (5 - len(means))])
    return columns, rows


def _votes(evaluation: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], list[float], dict[str, Any]]]:
    """Method and ratio, values and votes of each run of several modalities."""
    for each in evaluation["runs"]:
        votes = each["measures"]["people"]["votes"]
        if votes["conflict"] is None:  # a uni-modal run
            continue
        head, correlation = votes["conflict"]["head"], votes["correlation"] or {}
        rho = [c["rho"] for c in correlation.values() if c["rho"] is not None]
        values = [head["face"], head["voice"], head["neither"], votes["distance"]["jensen_shannon"]["head"]]
        yield (method_name(each), ratio_name(each)), [*values, *rho[:1]], votes
