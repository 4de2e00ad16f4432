"""Encoders as one line of text, `family[:model][,option=value]...`, with typed options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from amr.common.options import number_text
from amr.common.registry import closest, unknown

Options = TypeVar("Options")


@dataclass(frozen=True)
class Spec:
    """Family, model and options of an encoder.

    Args:
        family: Family of encoders, such as "timm".
        model: Model of the family, if it has several.
        options: Options, as written.

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
            ValueError: The text is not of the form `family[:model][,option=value]...`.
        """
        head, *rest = text.split(",")
        family, colon, model = (part.strip() for part in head.partition(":"))
        family = family.lower()
        if not family or (colon and not model):
            raise ValueError(f"encoder must be family[:model][,option=value]..., got {text!r}. See amr encoders.")
        options: dict[str, str] = {}
        for each in rest:
            name, equals, value = (part.strip() for part in each.partition("="))
            if not name or not equals or not value:
                raise ValueError(f"encoder option must be option=value, got {each!r} in {text!r}. See amr encoders.")
            if name in options:
                raise ValueError(f"encoder option {name} must be given once, got it twice in {text!r}. Leave one out.")
            options[name] = value
        return cls(family, model or None, options)

    def with_option(self, name: str, value: Any) -> Spec:
        """The spec with an option set."""
        return Spec(self.family, self.model, {**self.options, name: _text(value)})

    def __str__(self) -> str:
        head = self.family if self.model is None else f"{self.family}:{self.model}"
        return ",".join([head, *(f"{name}={value}" for name, value in self.options.items())])

    def with_model_among(self, models: Iterable[str]) -> Spec:
        """The spec with its model spelled as among `models`, whatever its case.

        Raises:
            ValueError: The model is missing or unknown. The message does not list all names, as there may be many.
        """
        spellings = {name.casefold(): name for name in models}
        wanted = (self.model or "").casefold()
        if self.model in spellings.values():
            return self
        if wanted in spellings:
            return Spec(self.family, spellings[wanted], self.options)
        close = closest(wanted, spellings)
        hint = "" if close is None else f"Did you mean {self.family}:{spellings[close]}? "
        got = "none" if self.model is None else repr(self.model)
        raise ValueError(
            f"{self.family} must name one of its models, got {got}. {hint}amr encoders {self.family} lists them."
        )

    def read(self, kind: type[Options]) -> Options:
        """Read the options into a dataclass, whose fields give their names, types and defaults.

        Raises:
            ValueError: An option is unknown, or a value is not of its type.
        """
        types = get_type_hints(kind)
        for name in self.options:
            if name not in types:
                raise unknown(f"{self.family} option", name, types)
        return kind(**{name: _value(name, text, types[name]) for name, text in self.options.items()})

    def canonical(self, options: Any) -> str:
        """Shortest spec with the same meaning: options in a fixed order, without those at their defaults."""
        changed = {
            each.name: value
            for each in fields(options)
            if (value := getattr(options, each.name)) != each.default and value is not None
        }
        return str(Spec(self.family, self.model, {name: _text(value) for name, value in changed.items()}))


def height_and_width(name: str, text: str, example: str) -> tuple[int, int]:
    """Height and width from an option `<name>=HxW`, or `<name>=N` for a square.

    Args:
        name: Name of the option, for errors.
        text: Value of the option.
        example: Valid value, for errors.

    Raises:
        ValueError: The value has neither form.

    >>> height_and_width("size", "128x96", "224"), height_and_width("size", "64", "224")
    ((128, 96), (64, 64))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{name} must be HxW, got {text!r}. Type {name}={example}.")
    return int(parts[0]), int(parts[-1])


def as_preprocessing(options: Any, unless_default: tuple[str, ...] = ()) -> dict[str, Any]:
    """Options as saved in `preprocessing`: all but those of the weights, which have their own checksum.

    Args:
        options: Dataclass of options.
        unless_default: Options added later. They are left out at their defaults, so older caches keep their
            fingerprints.
    """
    return {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in ("weights", "seed")
        and not (each.name in unless_default and getattr(options, each.name) == each.default)
    }


def _value(name: str, text: str, kind: Any) -> Any:
    """Convert `text` to a field's type: int, float, str, a Literal of strings, or one of these or None."""
    if get_origin(kind) is not Literal:
        (kind,) = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise unknown(name, text, get_args(kind))
        return text
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what}, got {text!r}. Leave it out for its default.") from None


def _text(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else str(value)
