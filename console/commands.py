"""Commands whose options are the fields of a frozen dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from amr.common.cluster.options import ClusterOptions
from amr.common.options import OUTPUT, PANELS, flag
from amr.fusion.recipes.given import recipe_settings

_JSON = "Print one JSON document and nothing else on stdout."
Json = Annotated[bool, typer.Option("--json", help=_JSON)]
JsonInPanel = Annotated[bool, typer.Option("--json", help=_JSON, rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")]


def configured(
    app: typer.Typer,
    name: str,
    config_class: type,
    body: Callable[[Any, bool], None],
    build: Callable[..., Any] | None = None,
    instead: Mapping[str, inspect.Parameter | None] | None = None,
) -> None:
    """Add a command whose options, defaults and help are the fields of a frozen dataclass.

    Args:
        app: App that gets the command.
        name: Name of the command; its help is the docstring of `body`.
        config_class: Frozen dataclass whose fields are made by `amr.common.options.option`.
        body: Function that is called with the config and whether JSON is requested.
        build: Function that makes the config from the options; None for the class itself.
        instead: Parameters that replace fields or are added to them; None leaves a field out.
    """
    instead = dict(instead or {})
    hints = typing.get_type_hints(config_class)
    parameters: list[inspect.Parameter | None] = []
    for field in sorted(dataclasses.fields(config_class), key=_position):
        many = typing.get_origin(hints[field.name]) is tuple
        kind = list[str] if many else hints[field.name]
        default: Any = field.default
        default = list(default) if many else default
        ours = field_option(field, kind, default, show_default=not many)
        parameters.append(instead.pop(field.name, ours))
    parameters += instead.values()
    in_panels = any(field.metadata.get("panel") for field in dataclasses.fields(config_class))
    parameters.append(parameter("json", JsonInPanel if in_panels else Json, False))

    def command(context: typer.Context, **values: Any) -> None:
        as_json = values.pop("json")
        if values.get("recipe") is not None:  # what is not typed is the recipe's
            for option in recipe_settings(values["recipe"], hints):
                source = context.get_parameter_source(option)
                if source is not None and source.name == "DEFAULT":
                    del values[option]
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        body((build or config_class)(**config), as_json)

    selected = [parameter("context", typer.Context, inspect.Parameter.empty)]
    selected += [each for each in parameters if each is not None]
    command.__signature__ = inspect.Signature(selected)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in selected}
    app.command(name, help=body.__doc__)(command)


def cluster_options() -> dict[str, inspect.Parameter | None]:
    """Options of a cluster, for commands whose config has none."""
    hints = typing.get_type_hints(ClusterOptions)
    return {
        each.name: field_option(each, hints[each.name], each.default) for each in dataclasses.fields(ClusterOptions)
    }


def taken_cluster(values: dict[str, Any]) -> ClusterOptions:
    """Take the options of a cluster out of those of a command."""
    return ClusterOptions(**{each.name: values.pop(each.name) for each in dataclasses.fields(ClusterOptions)})


def lists(name: str) -> str:
    """Sentences that are added to the help of a setting that takes several values."""
    return " Separate several values with commas." + (" all: every one that can run." if name == "method" else "")


def field_option(
    field: dataclasses.Field[Any], kind: Any, default: Any, *, more_help: str = "", show_default: bool = True
) -> inspect.Parameter:
    """Command-line option of a field, in the panel of its metadata; --NAME/--no-NAME if a flag may be left open."""
    name = flag(field.name)
    option = typer.Option(
        f"{name}/--no-{name.removeprefix('--')}" if kind == bool | None else name,
        help=field.metadata["help"] + more_help,
        show_default=show_default,
        rich_help_panel=field.metadata.get("panel"),
    )
    return parameter(field.name, Annotated[kind, option], default)


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Option or argument of a command, as typer reads it from a signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _position(field: dataclasses.Field[Any]) -> tuple[int, bool]:
    """Position of a field in the help: by panel, those without one first; in a panel, those marked `first` lead."""
    panel = field.metadata.get("panel")
    return -1 if panel is None else PANELS.index(panel), not field.metadata.get("first", False)
