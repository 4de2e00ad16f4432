"""Commands that made a folder, ready to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from amr.common.options import number_text
from amr.fusion.choices import own_weight
from amr.fusion.config import SWEPT, FitConfig
from amr.fusion.report.read import ResultFolder

MAX_LINE = 60


def commands(results: ResultFolder) -> list[str]:
    """`amr fit`, `amr sweep`, `amr table` or `amr frontier`, then `amr evaluate` if the folder was evaluated."""
    out = shlex.quote(str(results.folder))
    if results.frontier is not None:
        lines = [_frontier(results.frontier, out)]
    else:
        lines = [_fit(asdict(results.runs[0].config), out)] if results.sweep is None else [_sweep(results, out)]
    if results.evaluation is not None:
        lines.append(f"amr evaluate {out}{_evaluate_options(results)}")
    return [_wrapped(command) for command in lines]


def _wrapped(command: str) -> str:
    """Break a long command into one line per option."""
    return command if len(command) <= MAX_LINE else command.replace(" --", " \\\n  --")


def _fit(config: Mapping[str, Any], out: str) -> str:
    return " ".join(["amr fit", *_options(config, skipped=("out",)), f"--out {out}"])


def _sweep(results: ResultFolder, out: str) -> str:
    sweep = results.sweep or {}
    is_table = results.table is not None
    skipped = {"out", "amr_weight", *(name for name in SWEPT if name in sweep)} | ({"method"} if is_table else set())
    # `amr table` has an adapter by default, and adds its methods and the columns without AMR automatically
    parts = ["amr table" if is_table else "amr sweep", *_options(sweep["base"], skipped=tuple(skipped))]
    if is_table and sweep["base"]["adapter"] == "none":
        parts.append("--adapter none")
    attribution = sweep["base"].get("attribution", FitConfig.attribution)
    for name in SWEPT:
        values = sweep.get(name)  # None if a setting of one value is in `base`
        if values is None or (is_table and name == "method"):
            continue
        own = [own_weight(attribution)]
        if name == "amr_weight" and (values in ([None], own) or sweep["amr_ratio"] == [None]):
            continue
        if is_table and name == "amr_ratio":
            values = [value for value in values if value is not None] or ["none"]
        text = ",".join("none" if value is None else _text(value) for value in values)
        if name == "seed" and values == list(range(len(values))) and (is_table or len(values) > 1):
            parts.append(f"--seeds {len(values)}")
        elif values != [_default(name)]:
            parts.append(f"--{name.replace('_', '-')} {shlex.quote(text)}")
    return " ".join([*parts, f"--out {out}"])


def _frontier(document: Mapping[str, Any], out: str) -> str:
    parts = [_option(name, value) for name, value in document["config"].items()]
    return " ".join(["amr frontier", *(part for each in parts for part in each), f"--out {out}"])


def _evaluate_options(results: ResultFolder) -> str:
    settings = (results.evaluation or {}).get("settings", {})
    options = {"num_bootstrap": ("--bootstrap", 1000), "noise_draws": ("--noise-draws", 5), "seed": ("--seed", 0)}
    changed = [
        f" {name} {settings[key]}" for key, (name, default) in options.items() if settings.get(key, default) != default
    ]
    return "".join(changed) + " --against people" * any("people" in run.nested for run in results.runs)


def _options(config: Mapping[str, Any], skipped: tuple[str, ...]) -> list[str]:
    """Settings other than the defaults, as options."""
    options = []
    for field in fields(FitConfig):
        value = config.get(field.name, field.default)
        if field.name in skipped or value == field.default or (field.name == "method_option" and not value):
            continue
        if field.name == "amr_weight" and (config.get("amr_ratio") is None or _is_own_weight(config)):
            continue
        options += _option(field.name, value)
    return options


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"{flag} {shlex.quote(_text(item))}" for item in values]


def _is_own_weight(config: Mapping[str, Any]) -> bool:
    return bool(config["amr_weight"] == own_weight(config.get("attribution", FitConfig.attribution)))


def _default(name: str) -> Any:
    return next(field.default for field in fields(FitConfig) if field.name == name)


def _text(value: object) -> str:
    return number_text(value) if isinstance(value, float) else str(value)
