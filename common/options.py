"""Options of commands: one frozen dataclass holds a command's defaults, help and saved record."""

from __future__ import annotations

import math
import os
import re
import shlex
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from amr.common.registry import closest, unknown

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda")
APPLE_GPU = "mps"  # which runs encoders; heads are small, and their float64 is not known to it
NTH_GPU = re.compile(r"cuda:[0-9]{1,3}")


# Names that HDF5, ratios (audio=3:video=1), comma lists and file names can all hold.
_NAME = re.compile(r"\w[\w.-]*")


# What a terminal obeys rather than shows: C0 and C1 controls, separators of lines, overrides of the direction of text.
# Halves of surrogate pairs cannot be printed at all.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# Panels of a command's help, in the order of display.
SOURCE, MODEL, REGULARIZER, TRAINING, DATA, SPEED, CLUSTER, OUTPUT = PANELS = (
    "Clips and encoders",
    "Model",
    "Attribution regularization (AMR)",
    "Training",
    "Data",
    "Speed",
    "Cluster",
    "Output",
)


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: Sequence[str] | None = None,
    panel: str | None = None,
    first: bool = False,
    since: str | None = None,
    separator: str | None = None,
) -> Any:
    """Define a field of a config: its default, its help on the command line, and its rule for `check_options`.

    Args:
        default: Default value; None if the option may be left out.
        help: Help text.
        least: Smallest number allowed.
        above: Number that the value must exceed.
        most: Largest number allowed.
        choices: Allowed values.
        panel: Panel of the help, one of `PANELS`.
        first: Whether the option comes first in its panel.
        since: Version that added the field, if later than 0.1; see `saved_settings`.
        separator: Separator of the text's parts, if the text is a list; see `coerce_fields`.
    """
    metadata = {"help": help, "panel": panel, "first": first, "since": since, "separator": separator}
    return field(
        default=default, metadata=metadata | {"least": least, "above": above, "most": most, "choices": choices}
    )


def printable(text: str) -> str:
    r"""Text with control characters escaped, so that no name or path can steer the terminal. For one line.

    >>> print(printable("one\x1b[31m two\nthree [laughter]"))
    one\x1b[31m two\nthree [laughter]
    """
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def quoted(path: str | os.PathLike[str]) -> str:
    """Path as an argument for a shell, also where it begins with a hyphen.

    >>> quoted("my runs/a"), quoted("-a")
    ("'my runs/a'", './-a')
    """
    text = os.fspath(path)
    return in_shell(f"./{text}" if text.startswith("-") else text)


def in_shell(text: str) -> str:
    r"""Text as one argument of a shell. Control characters are escaped, as bash, zsh and POSIX.1-2024 read them.

    >>> print(in_shell("it's"), in_shell("a\x1b[31m b"))
    'it'"'"'s' $'a\x1b[31m b'
    """
    if CONTROLS.search(text) is None:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{CONTROLS.sub(_in_bytes, escaped)}'"


def _in_bytes(found: re.Match[str]) -> str:
    errors = "surrogateescape" if "\udc80" <= found[0] <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", errors))


def saved_settings(config: Any) -> dict[str, Any]:
    """Config as a dictionary, without later fields at their defaults: the same as an older version wrote."""
    late = {each.name for each in fields(config) if each.metadata.get("since") is not None}
    unchanged = {
        each.name for each in fields(config) if each.name in late and getattr(config, each.name) == each.default
    }
    return {name: value for name, value in asdict(config).items() if name not in unchanged}


def number_text(value: float) -> str:
    """Shortest text of a number that reads back as the same number.

    >>> number_text(0.5), number_text(1e-05), number_text(0.1234567)
    ('0.5', '1e-05', '0.1234567')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def flag(name: str) -> str:
    """Option name of a field: `amr_ratio` to `--amr-ratio`."""
    return f"--{name.replace('_', '-')}"


def coerce_fields(config: Any) -> None:
    """Convert what Python code passes to the declared types of a frozen config, in place. Call it first.

    Paths and texts become what is declared; numpy numbers become numbers; a list becomes a tuple, or a text if the
    option has a `separator`; a mapping becomes NAME=VALUE entries of such a list.

    Raises:
        ValueError: A value has another type.
    """
    kinds = _kinds(type(config))  # type: ignore[arg-type]  # mypy takes classes of Any for unhashable
    for each in fields(config):
        value = getattr(config, each.name)
        kind, is_optional = kinds[each.name]
        if value is not None or not is_optional:
            object.__setattr__(config, each.name, _coerced(each, kind, value))


@cache
def _kinds(config_class: Any) -> dict[str, tuple[Any, bool]]:
    """Field to its type (`tuple` for a tuple of any kind), and whether it may be None."""
    result = {}
    for name, hint in typing.get_type_hints(config_class).items():
        is_optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        if is_optional:
            hint = next(each for each in typing.get_args(hint) if each is not type(None))
        result[name] = (typing.get_origin(hint) or hint, is_optional)
    return result


def _coerced(each: Field[Any], kind: Any, value: Any) -> Any:
    if kind is tuple:
        return tuple(
            map(_text, _entries(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value])
        )
    separator = each.metadata.get("separator")
    if kind is str and separator is not None and isinstance(value, Iterable) and not isinstance(value, str):
        return separator.join(map(_text, _entries(value)))
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is bool and type(value).__module__ == "numpy":
        return bool(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        return _shortest(value)
    if kind is str and isinstance(value, Path):
        return str(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        wanted = {str: "a text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path"}
        advice = "Pass one." if each.default in (MISSING, None) else f"The default is {each.default!r}."
        raise ValueError(f"{flag(each.name)} must be {wanted.get(kind, kind.__name__)}, got {value!r}. {advice}")
    return value


def _entries(value: Any) -> Iterable[Any]:
    return (f"{name}={_text(each)}" for name, each in value.items()) if isinstance(value, Mapping) else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return number_text(_shortest(value)) if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def _shortest(value: Any) -> float:
    """Python number of a numpy one; float32 .1 is .1, not .10000000149."""
    return float(str(value)) if type(value).__module__ == "numpy" else float(value)


def check_options(config: Any) -> None:
    """Check every field of a config against the rule in its `option`.

    Raises:
        ValueError: A value breaks its rule.
    """
    for each in fields(config):
        value, rule = getattr(config, each.name), each.metadata
        if value is None and each.default is None:
            continue
        if rule.get("choices") is not None and value not in rule["choices"]:
            raise unknown(flag(each.name), value, rule["choices"])
        _check_number(each, value)


def _check_number(each: Field[Any], value: Any) -> None:
    least, above, most = (each.metadata.get(name) for name in ("least", "above", "most"))
    if least is None and above is None and most is None:
        return
    fits = math.isfinite(value)
    fits = fits and (least is None or value >= least) and (above is None or value > above)
    if fits and (most is None or value <= most):
        return
    if above is not None:
        rule = f"above {above}" if most is None else f"above {above} and at most {most}"
    else:
        rule = f"{least} or more" if most is None else f"from {least} to {most}"
    if most is None and not math.isfinite(value):
        rule = f"finite and {rule}"
    default = "Leave it out for the default" if each.default is None else f"The default is {each.default}"
    raise ValueError(f"{flag(each.name)} must be {rule}, got {value}. {default}.")


@dataclass(frozen=True)
class NoOptions:
    """Options of a head or method that has none."""


KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def parse_options(options: type[T], texts: Sequence[str], option_name: str, owner: str) -> T:
    """Parse KEY=VALUE texts into a frozen dataclass, each value with the type of its default.

    Args:
        options: Dataclass of a method's or a head's own options.
        texts: Texts of the form KEY=VALUE.
        option_name: Option of the command line, for errors.
        owner: Name of the method or the head, for errors.

    Raises:
        ValueError: A key is unknown, or a value has another type.
    """
    known = {each.name: each for each in fields(options)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not known:
            raise ValueError(f"{option_name} must be left out for {owner}, which has none, got {text!r}. Leave it out.")
        if key not in known and equals:
            raise unknown(f"{option_name} of {owner}", key, known)
        if not equals:
            example = known[closest(key, known) or next(iter(known))]
            shown = f"{example.name}={'VALUE' if example.default is None else _text(example.default)}"
            raise ValueError(f"{option_name} must be KEY=VALUE, got {text!r}. Pass for example {shown}.")
        default = known[key].default
        kind: Any = str if default is None else type(default)
        try:
            values[key] = _parse(kind, value)
        except ValueError:
            advice = f"Pass {key}=true or {key}=false" if kind is bool else f"Pass for example {key}={_text(default)}"
            raise ValueError(f"{option_name} {key} must be {KINDS[kind]}, got {value!r}. {advice}.") from None
    return options(**values)


def check_finite(
    options: Any, *names: str, least: float = 0, above: float | None = None, of: str = "--method-option"
) -> None:
    """Check that options of a method or a head are finite numbers, large enough.

    Args:
        options: Dataclass of its own options.
        names: Names of the options to check.
        least: Smallest number allowed.
        above: Number that they must exceed, instead.
        of: Option of the command line, for the error.

    Raises:
        ValueError: A number is too small, infinite, or not a number.
    """
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and (value >= least if above is None else value > above)):
            rule = f"a finite number, {least} or more" if above is None else f"a finite number above {above}"
            default = _text(getattr(type(options), name))
            raise ValueError(f"{of} {name} must be {rule}, got {value}. Pass {name}={default}.")


def check_used(options: Any, names: Iterable[str], switch: str, *, on: bool) -> None:
    """Check that options of a method whose part is switched off are at their defaults.

    Args:
        options: Dataclass of its own options.
        names: Names of the options that only this part uses.
        switch: Text that switches it on, such as opm=true.
        on: Whether it is.

    Raises:
        ValueError: An option has no effect.
    """
    for name in () if on else names:
        value = getattr(options, name)
        if value != getattr(type(options), name):
            raise ValueError(
                f"--method-option {name} must be used with {switch}, got {_text(value)} without it. "
                f"Pass --method-option {switch}, or leave {name} out."
            )


def _parse(kind: Any, value: str) -> Any:
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise ValueError(value)
        return value.lower() == "true"
    return kind(value)


def check_device(name: str, *, encodes: bool = False) -> None:
    """Refuse a name that is no device: neither one of `DEVICES` nor a GPU by its number, such as cuda:1.

    Args:
        name: Name of the device.
        encodes: Whether it is to run encoders, and may be the GPU of an Apple machine, mps.
    """
    if name == APPLE_GPU and not encodes:
        raise ValueError(
            "--device must be auto, cpu or cuda for heads, got mps, which runs encoders. Pass --device cpu."
        )
    if name not in (*DEVICES, APPLE_GPU) and not NTH_GPU.fullmatch(name):
        raise unknown("--device", name, [*DEVICES, "cuda:N", *([APPLE_GPU] if encodes else [])])


def available_cores() -> int:
    """Number of CPU cores that this process may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def parse_named(values: Iterable[str], option_name: str, what: str, example: str) -> dict[str, str]:
    """Parse NAME=VALUE texts into a dict, in their order.

    >>> parse_named(["audio=logmel,bands=40"], "--encoder", "SPEC", "audio=logmel")
    {'audio': 'logmel,bands=40'}
    """
    named: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (equals and value):
            raise ValueError(f"{option_name} must be NAME={what}, got {text!r}. Pass {option_name} {example}.")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{option_name} NAME must be letters, digits, '_', '-' and '.', got {name!r}. "
                f"Pass {option_name} {example}."
            )
        if name in named:
            raise ValueError(
                f"{option_name} must name each embedding once, got {name} for {named[name]} and for {value}. "
                f"Rename one, such as {name}2={value}."
            )
        named[name] = value
    return named
