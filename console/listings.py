"""Commands that list datasets, encoders, heads, methods, attributions and measures."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from amr.common.options import flag
from amr.console.commands import Json
from amr.console.output import show, table
from amr.fusion.choices import registered_names, unknown_method

WIDTH = 100  # of sentences


def add_listings(app: typer.Typer) -> None:
    """Add the listing commands to an app."""
    for command in (list_datasets, list_encoders, list_heads, list_methods, list_attributions, list_measures):
        app.command(command.__name__.removeprefix("list_"))(command)


def list_datasets(json: Json = False) -> None:
    """List the datasets that are known by name."""
    from amr.data_manifests.datasets import datasets

    names = ("name", "modalities", "summary", "licence", "homepage")
    rows = [{name: getattr(d, name) for name in names} | {"modalities": [*d.modalities]} for _, d in datasets.items()]
    cells = [[r["name"], ", ".join(r["modalities"]), r["summary"], r["homepage"] or "-"] for r in rows]
    show(rows, json, lambda: table("", ["dataset", "modalities", "summary", "media from"], cells))


def list_encoders(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, such as resnet.")] = None, json: Json = False
) -> None:
    """List the encoders that --encoder NAME=SPEC accepts."""
    from amr.extract.encoders import list_encoders

    rows = [dataclasses.asdict(info) for info in list_encoders(pattern)]
    if not rows:
        raise ValueError(
            f"PATTERN must be part of an encoder's name, got {pattern!r}. amr encoders lists the families."
        )
    cells = [[r["spec"], r["modality"], r["embed_dim"], r["summary"]] for r in rows]
    show(rows, json, lambda: table("", ["spec", "modality", "embed_dim", "summary"], cells))
    if pattern is None and not json:
        show(None, json, _presets)


def _presets() -> Table:
    from amr.data_manifests.dataset import TEXT_ENCODERS
    from amr.data_manifests.datasets import PRESETS, datasets

    lines = []
    for name, encoders in PRESETS.items():
        fitting = [each for each, dataset in datasets.items() if dataset.presets.get("pretrained") == encoders]
        own = ["your own clips"] if "vggsound" in fitting else []
        text = TEXT_ENCODERS.get(name, TEXT_ENCODERS["pretrained"])
        lines.append([name, *encoders.values(), text, ", ".join([*fitting, *own]) or "-"])
    columns = ["name", "audio", "video", "text, if clips have any", "pretrained for"]
    return table("ready-made pairs, amr extract --preset NAME", columns, lines)


def _default_options(options: type) -> dict[str, Any]:
    return {each.name: each.default for each in dataclasses.fields(options)}


def _as_text(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={'' if value is None else _setting(value)}" for key, value in options.items()) or " "


def list_heads(json: Json = False) -> None:
    """List the fusion heads, with their number of parameters for two modalities of 512 dimensions and six classes."""
    from amr.fusion.heads import HeadShape, heads
    from amr.fusion.run_axis.seeds import Draws

    rows: list[dict[str, Any]] = []
    for name, head in heads.items():
        if head.listed:
            built = head(HeadShape({"audio": 512, "video": 512}, 6, 0), Draws([0]))
            num_parameters = sum(p.numel() for p in built.parameters())
            options = _default_options(head.Options)
            rows.append({"name": name, "parameters": num_parameters, "summary": head.summary, "options": options})
    cells = [[r["name"], r["parameters"], r["summary"], _as_text(r["options"])] for r in rows]
    show(rows, json, lambda: table("", ["head", "parameters", "summary", "options"], cells))


def meanings(options: type) -> dict[str, str]:
    """What each option of a method or a head means, from the docstrings of its dataclass and of its bases.

    >>> class Shown:
    ...     '''Settings.
    ...
    ...     Args:
    ...         first, last: Epochs between which
    ...             it acts.
    ...     '''
    >>> meanings(Shown)
    {'first': 'Epochs between which it acts.', 'last': 'Epochs between which it acts.'}
    """
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        text = (inspect.getdoc(kind) or "").partition("Args:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"^    (?! )", text, flags=re.MULTILINE)[1:]:
            names, _, meaning = entry.partition(": ")
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def list_methods(
    name: Annotated[
        str | None, typer.Argument(help="Method, to see its defaults beside its published settings.")
    ] = None,
    json: Json = False,
) -> None:
    """List the training methods (how training treats the modalities) and their options; of one, also its recipes."""
    if name is not None:
        _show_method(name, as_json=json)
        return
    from amr.fusion.methods import methods

    rows = [_method_row(each) for each in methods]
    only = {True: " (trains encoders only)", False: ""}
    cells = [[r["name"], r["summary"] + only[r["needs_encoders"]], _as_text(r["options"]), r["source"]] for r in rows]
    show(rows, json, lambda: table("", ["method", "summary", "options", "source"], cells))


def _method_row(name: str) -> dict[str, Any]:
    """A method as in `amr methods --json`."""
    from amr.fusion.methods import methods

    method = methods[name]
    return {
        "name": name,
        "summary": method.summary,
        "source": method.citation,
        "options": _default_options(method.Options),
        "end_to_end": method.end_to_end,
        "needs_encoders": method.needs_encoders,
    }


def _show_method(name: str, *, as_json: bool) -> None:
    """Show the defaults of a method, and its recipes."""
    if name not in registered_names("methods"):
        raise unknown_method("NAME", name)
    from amr.fusion.methods import methods
    from amr.fusion.recipes.published import recipes_of
    from amr.fusion.resolve import default_settings

    method, recipes = methods[name], recipes_of(name)
    row, defaults = _method_row(name), default_settings(name)
    options, words = row["options"], meanings(method.Options)
    document = row | {"meanings": words, "defaults": defaults, "recipes": [recipe.to_json() for recipe in recipes]}
    settings: list[Mapping[str, Any]] = [defaults, *(recipe.settings for recipe in recipes)]
    own: list[Mapping[str, Any]] = [options, *(recipe.options for recipe in recipes)]
    rows = [[flag(each), *(_setting(of.get(each)) for of in settings)] for each in defaults]
    rows += [[f"  {each}", *(_setting(of.get(each)) for of in own)] for each in options]
    columns = ["option", "default", *(recipe.name for recipe in recipes)]
    show(document, as_json, lambda: table(name, columns, rows))
    if not as_json:
        sources = [f"{each.name}: {each.source}{f'. Note: {each.note}' if each.note else ''}." for each in recipes]
        command = "amr train-encoders" if method.needs_encoders else "amr fit"
        sentence = f"{command} --recipe NAME sets published values. They are of encoders trained with the head."
        own_options = [f"{each}: {words[each]}" for each in options]
        texts = [f"{method.summary}. Source: {method.citation or '-'}.", *own_options]
        texts += [*sources, *[sentence] * bool(recipes)]
        paragraphs = [textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in texts]
        show(None, False, lambda: "\n" + "\n".join(paragraphs))


def _setting(value: object) -> str:
    """Text of a setting as it can be typed, a number to 4 digits; "-" if it is not stated."""
    if value is None or isinstance(value, bool):
        return "-" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def list_attributions(json: Json = False) -> None:
    """List the ways to attribute a decision to modalities."""
    from amr.fusion.attribution.attributor import attributions

    rows = [{"name": name, "summary": a.summary, "source": a.citation} for name, a in attributions.items()]
    show(rows, json, lambda: table("", ["attribution", "summary", "source"], [[*row.values()] for row in rows]))


def list_measures(json: Json = False) -> None:
    """List the measures of amr evaluate."""
    from amr.fusion.evaluate.measures import measures

    rows = [{"name": name, "summary": m.summary, "source": m.citation} for name, m in measures.items()]
    show(rows, json, lambda: table("", ["measure", "summary", "source"], [[*row.values()] for row in rows]))
