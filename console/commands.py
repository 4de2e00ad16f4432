"""Commands whose options are the fields of a frozen dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]


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
        app: that gets it.
        name: of the command; its help is the docstring of `body`.
        config_class: every field has `metadata["help"]`.
        body: called with the config and whether JSON is wanted.
        build: what makes the config of the options; None: the class itself.
        instead: options that take the place of fields, or come behind them; None leaves a field out.
    """
    instead = dict(instead or {})
    hints = typing.get_type_hints(config_class)
    parameters: list[inspect.Parameter | None] = []
    for field in dataclasses.fields(config_class):
        many = typing.get_origin(hints[field.name]) is tuple
        kind = list[str] if many else hints[field.name]
        option = typer.Option(f"--{field.name.replace('_', '-')}", help=field.metadata["help"], show_default=not many)
        default: Any = field.default
        default = list(default) if many else default
        parameters.append(instead.pop(field.name, parameter(field.name, Annotated[kind, option], default)))
    parameters += instead.values()
    parameters.append(parameter("json", Json, False))

    def command(**values: Any) -> None:
        as_json = values.pop("json")
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        body((build or config_class)(**given), as_json)

    taken = [parameter for parameter in parameters if parameter is not None]
    command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in taken}
    app.command(name, help=body.__doc__)(command)


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """An option or argument of a command, as typer reads it from a signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
