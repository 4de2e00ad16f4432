"""Pages of the reference: every public name, and every command with its options, as the code says."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import typer

import amr
from amr.cli import app
from amr.common.options import PANELS

ROOT = Path(__file__).resolve().parent.parent.parent
# The line of a page in the repository, in whose place the site has what is made.
MADE = "*The rest of this page is made from the code: `make docs`.*"


MODULES = {"balance": ROOT / "fusion" / "balance" / "__init__.py"}  # public names that are modules


def public_names(file: Path = ROOT / "__init__.pyi") -> dict[str, str]:
    """Each name that a file imports with the dotted path of its object."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    paths = {name.name: f"{node.module}.{name.name}" for node in imports for name in node.names}
    return {name: path if path.startswith("amr.") else f"amr.{path}" for name, path in paths.items()}


def python_names() -> str:
    """The reference of Python: functions first, then classes, then the configs, then the functions of modules."""
    paths = {name: path for name, path in public_names().items() if name != "__version__"}
    configs = {name for name in paths if name.endswith(("Config", "Options"))}
    functions = {name for name in paths if name.islower()} - set(MODULES)
    classes = set(paths) - functions - configs - set(MODULES)
    groups = {"Functions": functions, "Classes": classes, "Settings": configs}
    parts = []
    for title, names in groups.items():
        parts.append(f"## {title}\n")
        parts += [
            # only configs are imported: the rest would import torch
            _fields(name, paths[name], getattr(amr, name)) if name in configs else _directive(name, paths[name])
            for name in sorted(names, key=str.lower)
        ]
    for module, file in MODULES.items():
        docstring = str(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))
        parts += [f"## Functions of amr.{module}\n", f"{docstring}\n"]
        parts += [_directive(f"{module}.{name}", path) for name, path in sorted(public_names(file).items())]
    return "\n".join(parts)


def commands() -> str:
    """The reference of the command line."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in sorted(group.commands.items()):
        context = command.context_class(command, info_name=f"amr {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts += [f"## amr {name}\n", f"{inspect.cleandoc(command.help)}\n", f"```text\n{usage}\n```\n"]
        parts.append(_options(command, context))
    return "\n".join(parts)


def _directive(name: str, path: str, **options: Any) -> str:
    lines = [f"::: {path}", "    options:", f'      heading: "amr.{name}"', "      heading_level: 3"]
    return "\n".join([*lines, *(f"      {key}: {value}" for key, value in options.items()), ""])


def _fields(name: str, path: str, config: Any) -> str:
    """A config: its docstring, then a row per field with what the option's help says."""
    rows = [
        _row(f"`{each.name}`", f"`{each.type}`", _default(each), each.metadata.get("help", ""))
        for each in dataclasses.fields(config)
    ]
    head = _directive(name, path, members="false", show_signature="false", show_docstring_attributes="false")
    return "\n".join([head, _row("field", "type", "default", "meaning"), "|---|---|---|---|", *rows, ""])


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "required" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()!r}`"


def _options(command: Any, context: Any) -> str:
    """Tables of a command's arguments and options, one per panel."""
    rows: dict[str, list[str]] = {}
    for each in command.params:
        is_argument = each.param_type_name == "argument"
        panel = each.rich_help_panel or ("Arguments" if is_argument else "Options")
        rows.setdefault(panel, []).append(_row(*(_argument if is_argument else _option)(each, context)))
    order = ["Arguments", "Options", *PANELS]
    parts = []
    for panel in sorted(rows, key=order.index):
        title = [f"**{panel}**\n"] if len(rows) > 1 else []
        parts += [*title, _row("name", "type", "meaning"), "|---|---|---|", *rows[panel], ""]
    return "\n".join(parts)


def _argument(each: Any, context: Any) -> tuple[str, str, str]:
    return f"`{' '.join(each.get_usage_pieces(context))}`", "", each.help or ""


def _option(each: Any, context: Any) -> tuple[str, str, str]:
    name = ", ".join(f"`{opt}`" for opt in [*each.opts, *each.secondary_opts])
    kind = "" if getattr(each, "is_flag", False) else f"`{each.display_type(context)}`"
    shown = each.show_default and each.default not in (None, False, ()) and not callable(each.default)
    return name, kind, (each.help or "") + (f" Default: `{each.default}`." if shown else "")


def _row(*cells: str) -> str:
    """A row of a table. A bar divides cells but in code."""
    texts = (" ".join(cell.split()) for cell in cells)
    return "| " + " | ".join(text if text.startswith("`") else text.replace("|", "\\|") for text in texts) + " |"
