"""Commands that train encoders: `amr train-encoders`, and `amr table` with --end-to-end."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from amr.common.options import SPEED, flag, quoted
from amr.console.commands import configured, field_option, lists, parameter
from amr.console.output import say, say_notes, say_results, show, table
from amr.console.progress import stderr_progress
from amr.extract.config import check_clips, check_request
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TRAIN_SWEPT, TrainConfig, TrainSweepConfig

_SEEDS = Annotated[int | None, typer.Option(help="Number of seeds, 0 to N-1; replaces --seed.", rich_help_panel=SPEED)]
# set by `amr table` itself
_OF_TABLE = (
    *("objective", "teachers", "overwrite", "method", "recipe", "seed", "amr_ratio", "method_option", "preset"),
)


def add_train_encoders(app: typer.Typer) -> None:
    """Add `amr train-encoders` to an app."""
    swept = {
        field.name: field_option(field, str | None, None, more_help=lists(field.name), show_default=False)
        for field in dataclasses.fields(TrainConfig)
        if field.name in TRAIN_SWEPT
    }
    instead = swept | {"seeds": parameter("seeds", _SEEDS, None)}
    configured(app, "train-encoders", TrainConfig, _train_encoders, build=_request, instead=instead)


def _request(*, seeds: int | None, **values: Any) -> TrainSweepConfig:
    swept = {name: values.pop(name, None) for name in TRAIN_SWEPT}  # a recipe may have some
    return TrainSweepConfig.parse(seeds=seeds, swept=swept, **values)


def _train_encoders(config: TrainSweepConfig, as_json: bool) -> None:
    """Train encoders on your own clips, each separately or all with one head; lists of settings train many."""
    check_request(config.base)
    if not config.is_single:
        _sweep(config, as_json)
        return
    (member,) = config.members()
    from amr.fusion.end_to_end.train import train_encoders

    with stderr_progress() as progress:
        result = train_encoders(member, progress)
    say_notes(result.notes, result.warnings)
    show(result.to_json(), as_json, lambda: trained_table(result.to_json()))
    say(f"written to {result.folder}; next: {extraction(member, result.encoders)}")
    if member.objective == "joint":
        folder = quoted(result.folder)
        say(f"its joint model is a run: amr evaluate {folder}, amr predict {folder} CLIP")


def _sweep(config: TrainSweepConfig, as_json: bool) -> None:
    from amr.fusion.sweep.trainings import sweep_trainings

    with stderr_progress() as progress:
        result = sweep_trainings(config, progress, overwrite=config.base.overwrite)
    say_results(result, as_json)


def trained_table(trained: Mapping[str, Any]) -> Table:
    """Table with one row per trained model: the joint one, or one per modality."""
    rows = []
    for name, epochs in trained["epochs"].items():
        val, test = (trained[split] if name == "joint" else trained[split][name] for split in ("val", "test"))
        rows.append(
            [name, epochs["epochs"], epochs["best"], *(m and m["accuracy"] for m in (val, test)), test and test["map"]]
        )
    return table("", ["trained", "epochs", "best epoch", "val accuracy", "test accuracy", "test mAP"], rows)


def extraction(config: TrainConfig, encoders: Mapping[str, str]) -> str:
    """Command that extracts the clips of a training with its encoders.

    >>> extraction(TrainConfig(manifest="my clips.csv", label="word"), {"audio": "trained:mine"})
    "amr extract --manifest 'my clips.csv' --label-column word --encoder audio=trained:mine"
    """
    parts = ["amr", "extract"]
    for name, value in (("--dataset", config.dataset), ("--manifest", config.manifest), ("--root", config.root)):
        parts += [] if value is None else [name, value]
    if config.manifest is not None and config.label != "label":
        parts += ["--label-column", config.label]
    for name, spec in encoders.items():
        parts += ["--encoder", f"{name}={spec}"]
    return shlex.join(parts)


def table_options() -> dict[str, inspect.Parameter | None]:
    """Options of `amr table` for --end-to-end: those of TrainConfig that FitConfig lacks, or has another default of."""
    ours = {field.name: field for field in dataclasses.fields(FitConfig)}
    hints = typing.get_type_hints(TrainConfig)
    options: dict[str, inspect.Parameter | None] = {}
    for field in dataclasses.fields(TrainConfig):
        same = field.name in ours and ours[field.name].default == field.default
        if field.name in _OF_TABLE or same:
            continue
        many = typing.get_origin(hints[field.name]) is tuple
        more = "" if field.name in ours else " With --end-to-end."
        if field.name in ours:
            fit = ours[field.name].default
            more = f" By default {'' if fit is None else f'{fit}, and '}{field.default} with --end-to-end."
        kind: Any = list[str] if many else hints[field.name] | None
        shown = ours.get(field.name, field)
        options[field.name] = field_option(shown, kind, [] if many else None, more_help=more, show_default=False)
    return options


def table_config(values: Mapping[str, Any], *, end_to_end: bool) -> FitConfig | TrainConfig:
    """Config of a table's rows.

    Args:
        values: Options of `amr table`; None and () are not given.
        end_to_end: Whether encoders are trained.

    Raises:
        ValueError: An option does not fit.
    """
    wanted: type[FitConfig] | type[TrainConfig] = TrainConfig if end_to_end else FitConfig
    names = {field.name for field in dataclasses.fields(wanted)}
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    for name, value in given.items():
        default = "linear" if name == "adapter" else getattr(FitConfig, name, None)
        if name not in names and value != default:
            shown = " ".join(value) if isinstance(value, tuple) else value
            rule, advice = ("left out with", "Leave it out") if end_to_end else ("used with", "Add --end-to-end")
            other = "leave out --end-to-end" if end_to_end else "leave it out"
            raise ValueError(f"{flag(name)} must be {rule} --end-to-end, got {shown}. {advice}, or {other}.")
    known = {name: value for name, value in given.items() if name in names}
    if not end_to_end:
        return FitConfig(**known)
    check_clips("amr table --end-to-end", known.get("dataset"), known.get("manifest"))
    return TrainConfig(**known, objective="joint")
