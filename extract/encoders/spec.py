"""An encoder in one line of text, `family[:model][,option=value]...`, and its options with their types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from amr.common.registry import unknown

Options = TypeVar("Options")


@dataclass(frozen=True)
class Spec:
    """What to encode with.

    Args:
        family: the kind of encoder, such as "timm".
        model: which of the family, where it has several.
        options: everything else, as written.

    >>> spec = Spec.parse("timm:resnet18,frames=4")
    >>> spec.family, spec.model, spec.options
    ('timm', 'resnet18', {'frames': '4'})
    >>> str(spec)
    'timm:resnet18,frames=4'
    """

    family: str
    model: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a spec from text.

        Raises:
            ValueError: it is not of the form `family[:model][,option=value]...`.
        """
        head, *rest = text.split(",")
        family, colon, model = (part.strip() for part in head.partition(":"))
        if not family or (colon and not model):
            raise ValueError(f"encoder must be family[:model][,option=value]..., got {text!r}. See amr encoders.")
        options: dict[str, str] = {}
        for each in rest:
            name, equals, value = (part.strip() for part in each.partition("="))
            if not name or not equals or not value:
                raise ValueError(f"encoder option must be option=value, got {each!r} in {text!r}.")
            if name in options:
                raise ValueError(f"encoder option {name} must be given once, got it twice in {text!r}.")
            options[name] = value
        return cls(family, model or None, options)

    def __str__(self) -> str:
        head = self.family if self.model is None else f"{self.family}:{self.model}"
        return ",".join([head, *(f"{name}={value}" for name, value in self.options.items())])

    def model_among(self, models: Iterable[str]) -> str:
        """The model, checked to be one of those.

        Raises:
            ValueError: there is none, or it is not one of them; their names are too many to be told.
        """
        names = list(models)
        if self.model in names:
            return str(self.model)
        close = difflib.get_close_matches(self.model or "", names, n=1)
        hint = f"Did you mean {self.family}:{close[0]}? " if close else ""
        raise ValueError(
            f"{self.family} must be given a model it has, got {self.model!r}. {hint}"
            f"amr encoders {self.family} lists them."
        )

    def read(self, kind: type[Options]) -> Options:
        """The options as a dataclass of that kind; its fields are their names, types and defaults.

        Raises:
            ValueError: an option that the kind does not have, or a value that is not of its type.
        """
        types = get_type_hints(kind)
        for name in self.options:
            if name not in types:
                raise unknown(f"{self.family} option", name, types)
        return kind(**{name: _value(name, text, types[name]) for name, text in self.options.items()})

    def canonical(self, options: Any) -> str:
        """The shortest spec of the same meaning: options in one order, those at their defaults left out."""
        told = {
            each.name: value
            for each in fields(options)
            if (value := getattr(options, each.name)) != each.default and value is not None
        }
        return str(Spec(self.family, self.model, {name: _text(value) for name, value in told.items()}))


def height_and_width(name: str, text: str, example: str) -> tuple[int, int]:
    """What an option `<name>=HxW` means, or `<name>=N` for a square.

    Args:
        name: of the option, for errors.
        text: its value.
        example: a right one, for errors.

    Raises:
        ValueError: it is neither.

    >>> height_and_width("size", "128x96", "224"), height_and_width("size", "64", "224")
    ((128, 96), (64, 64))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{name} must be HxW, got {text!r}. Type {name}={example}.")
    return int(parts[0]), int(parts[-1])


def told(options: Any, unless_default: tuple[str, ...] = ()) -> dict[str, Any]:
    """Options as `preprocessing` tells them: all but those of the weights, which have a checksum of their own.

    Args:
        options: a dataclass of them.
        unless_default: left out at their defaults: options added later, so that older caches keep their fingerprints.
    """
    return {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in ("weights", "seed")
        and not (each.name in unless_default and getattr(options, each.name) == each.default)
    }


def _value(name: str, text: str, kind: Any) -> Any:
    """`text` as a value of a field's type: int, float, str, a Literal of strings, or one of these or None."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise unknown(name, text, get_args(kind))
        return text
    (plain,) = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    try:
        return plain(text)
    except ValueError:
        what = "a whole number" if plain is int else "a number"
        raise ValueError(f"{name} must be {what}, got {text!r}.") from None


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
