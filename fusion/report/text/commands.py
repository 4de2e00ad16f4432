"""Commands that made a folder, ready to paste."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from amr.common.options import in_shell, number_text, quoted
from amr.common.workspace import JOINT_RUN, is_training
from amr.fusion.choices import own_weight
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.end_to_end.config import TRAIN_SWEPT, TrainConfig
from amr.fusion.recipes.given import recipe_settings
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.text.paths import as_named, without_paths
from amr.fusion.sweep.table import default_methods
from amr.fusion.swept import SWEPT

MAX_LINE = 60


def commands(results: ResultFolder) -> list[str]:
    """`amr fit`, `amr sweep`, `amr table`, `amr frontier` or `amr train-encoders`, then `amr evaluate` if run."""
    folder = results.folder
    if results.record.model is not None:
        task = results.record.config.task
        named = "" if task == FitConfig.task else f"task={task!r}, "
        return [f"amr.audit(model, batches, {named}out={as_named(folder)!r})  # in Python"]
    out = quoted(as_named(folder.parent if results.training is not None and folder.name == JOINT_RUN else folder))
    of_runs = results.frontier is not None and "runs" in results.frontier["config"]  # it fitted nothing
    if results.training is not None:
        lines = [_train(results)]
    elif results.frontier is not None and not of_runs:
        lines = [[*_frontier(results.frontier), f"--out {out}"]]
    else:
        lines = [_fit(asdict(results.runs[0].config), out)] if results.sweep is None else [_sweep(results, out)]
    if results.frontier is not None and of_runs:
        lines.append(_frontier(results.frontier))
    if results.evaluation is not None:
        lines.append([f"amr evaluate {out}", *_evaluate_options(results)])
    return [_wrapped(command) for command in lines]


def _wrapped(command: Sequence[str]) -> str:
    """Join a command and its options, one line per option if that is long."""
    return " ".join(command) if len(" ".join(command)) <= MAX_LINE else " \\\n  ".join(command)


def _train(results: ResultFolder) -> list[str]:
    """Command of a training of encoders, or of a sweep or table of trainings."""
    folder = next((each for each in (results.folder, *results.folder.parents) if is_training(each)), results.folder)
    sweep = results.sweep or {}
    is_table = results.table is not None
    skipped = ("out", *(["objective"] if is_table else []), *(name for name in TRAIN_SWEPT if name in sweep))
    options = _options(sweep.get("base", results.training), skipped=skipped, of=TrainConfig)
    weight = sweep.get("base", {}).get("amr_weight")
    own = list(dict.fromkeys(own_weight(name) for name in sweep.get("attribution", ())))
    if sweep.get("amr_ratio", [None]) != [None] and weight not in (own, *own[:1]):
        options.append(f"--amr-weight {_text(weight)}")
    usual = _defaults(sweep.get("base", {}), TrainConfig)
    swept = {name: sweep[name] for name in TRAIN_SWEPT if name in sweep}
    lists = _lists(_of_table(swept, results) if is_table else swept, usual, is_table=is_table)
    command = ["amr table", "--end-to-end"] if is_table else ["amr train-encoders"]
    return [*command, *options, *lists, f"--out {quoted(as_named(folder))}"]


def _fit(config: Mapping[str, Any], out: str) -> list[str]:
    return ["amr fit", *_options(config, skipped=("out",)), f"--out {out}"]


def _sweep(results: ResultFolder, out: str) -> list[str]:
    sweep = results.sweep or {}
    usual = _defaults(sweep["base"], FitConfig)
    is_table = results.table is not None
    skipped = {"out", "amr_weight", *(name for name in SWEPT if name in sweep)}
    # `amr table` has an adapter by default, and adds the columns without AMR automatically
    parts = ["amr table" if is_table else "amr sweep", *_options(sweep["base"], skipped=tuple(skipped))]
    if is_table and sweep["base"]["adapter"] == "none":
        parts.append("--adapter none")
    attribution = sweep["base"].get("attribution", FitConfig.attribution)
    swept = {name: sweep[name] for name in SWEPT if sweep.get(name) is not None}  # None: one value, in `base`
    if is_table:
        swept = _of_table(swept, results)
    if swept.get("amr_weight") in ([None], [own_weight(attribution)]) or sweep["amr_ratio"] == [None]:
        swept.pop("amr_weight", None)
    return [*parts, *_lists(swept, usual, is_table=is_table), f"--out {out}"]


def _of_table(swept: Mapping[str, Any], results: ResultFolder) -> dict[str, Any]:
    """Lists of a table, without its methods if they are those that it has by default."""
    usual = default_methods(results.modalities, results.record.config.task)
    return {name: values for name, values in swept.items() if name != "method" or tuple(values) != usual}


def _lists(swept: Mapping[str, Sequence[Any]], usual: Mapping[str, Any], *, is_table: bool) -> list[str]:
    """Lists other than the defaults, as options.

    Args:
        swept: Option to its values.
        usual: Option to its default.
        is_table: Whether they are options of `amr table`.
    """
    options = []
    for name, values in swept.items():
        if is_table and name == "amr_ratio":  # a table has the columns without AMR anyway
            values = [value for value in values if value is not None] or ["none"]
        text = ",".join("none" if value is None else _text(value) for value in values)
        if name == "seed" and values == list(range(len(values))) and (is_table or len(values) > 1):
            options.append(f"--seeds {len(values)}")
        elif values != [usual[name]] or (is_table and name == "method"):
            options.append(_with_value(f"--{name.replace('_', '-')}", text))
    return options


def _frontier(document: Mapping[str, Any]) -> list[str]:
    options = [_option(name, value) for name, value in document["config"].items()]
    return ["amr frontier", *(option for each in options for option in each)]


def _evaluate_options(results: ResultFolder) -> list[str]:
    settings = (results.evaluation or {}).get("settings", {})
    defaults = {"num_bootstrap": 1000, "noise_draws": 5, "seed": 0, "unimodal": None}
    flags = {"num_bootstrap": "--bootstrap", "noise_draws": "--noise-draws"}
    changed = [
        f"{flags.get(name, f'--{name}')} {quoted(_text(settings[name]))}"
        for name, default in defaults.items()
        if settings.get(name, default) != default
    ]
    return changed + ["--against people"] * any("people" in run.nested for run in results.runs)


def _options(config: Mapping[str, Any], skipped: tuple[str, ...], of: type[TrainingConfig] = FitConfig) -> list[str]:
    """Settings other than the defaults of a config and of its recipe, as options."""
    options, usual = [], _defaults(config, of)
    for field in fields(of):
        value, default = config.get(field.name, field.default), usual[field.name]
        if field.name == "method_option" and value:
            value = [text for text in value if text not in default]
        if field.name in skipped or value in (default, None) or (field.default == () and not value):
            continue
        if field.name == "amr_weight" and (config.get("amr_ratio") is None or _is_own_weight(config)):
            continue
        options += _option(field.name, value)
    return options


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-")]
    values = value if isinstance(value, list | tuple) else [value]
    return [_with_value(flag, _text(item)) for item in values]


def _with_value(flag: str, value: str) -> str:
    """Option with its value, as a shell reads it: joined by = if the value begins like an option."""
    return f"{flag}{'=' if value.startswith('-') else ' '}{in_shell(value)}"


def _is_own_weight(config: Mapping[str, Any]) -> bool:
    return bool(config["amr_weight"] == own_weight(config.get("attribution", FitConfig.attribution)))


def _defaults(config: Mapping[str, Any], of: type[TrainingConfig]) -> dict[str, Any]:
    """Option to the value that it has if it is not typed: that of the recipe, if it says one.

    A recipe whose values were changed since is typed all the same: what it says otherwise now is an option.
    """
    usual = {field.name: field.default for field in fields(of)}
    recipe = config.get("recipe")
    return usual if recipe is None else usual | recipe_settings(recipe, usual)


def _text(value: object) -> str:
    if isinstance(value, float):
        return number_text(value)
    text = str(value)
    return as_named(text) if os.path.isabs(text) or text.startswith("~") else without_paths(text)
