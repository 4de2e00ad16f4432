"""Options of methods on the command line: what is refused, and what the error says to type."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import pytest

from amr.common.options import parse_options
from amr.fusion.choices import OTHER_NAMES, check_registered
from amr.fusion.methods import methods
from amr.fusion.methods.pmr import PMROptions
from amr.fusion.methods.smv import SMVOptions
from amr.fusion.methods.umt import UMTOptions

OPTIONS = [(name, each.name, each.default) for name, method in methods.items() for each in fields(method.Options)]


def parsed(name: str, *texts: str):
    return parse_options(methods[name].Options, texts, "--method-option", name)


@pytest.mark.parametrize(("name", "key", "default"), [each for each in OPTIONS if isinstance(each[2], float)])
@pytest.mark.parametrize("value", ["inf", "1e400", "nan"])
def test_numbers_are_finite_and_the_error_says_so(name, key, default, value):
    with pytest.raises(ValueError, match=f"^--method-option {key} must be ") as refused:
        parsed(name, f"{key}={value}")
    rule, _, advice = str(refused.value).partition(", got ")
    assert "a finite number" in rule or re.search(r"from 0 to|below 1|at most 1", rule)
    example = advice.rpartition("Pass ")[2].removesuffix(".").split()[0]
    parsed(name, example)


@pytest.mark.parametrize(("name", "key", "default"), OPTIONS)
def test_an_option_without_a_value_is_named_with_its_default(name, key, default):
    with pytest.raises(ValueError, match="must be KEY=VALUE") as refused:
        parsed(name, key)
    example = str(refused.value).rpartition("Pass for example ")[2].removesuffix(".")
    assert example.startswith(f"{key}=")
    if default is not None:
        assert getattr(parsed(name, example), key) == pytest.approx(default)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, key, default in OPTIONS if isinstance(default, bool)])
@pytest.mark.parametrize("word", ["1", "yes"])
def test_what_is_on_or_off_takes_two_words(name, key, word):
    with pytest.raises(ValueError, match=f"{key} must be true or false, got {word!r}. Pass {key}=true or {key}=false"):
        parsed(name, f"{key}={word}")


@pytest.mark.parametrize(
    ("options", "changed", "switch"),
    [
        (UMTOptions, {"temperature": 3.0}, {"logits": 1.0}),
        (PMROptions, {"entropy_epochs": 3}, {"entropy": 0.1}),
        (SMVOptions, {"growth": "tanh"}, {"level": "modality"}),
        (SMVOptions, {"strength": 2.0}, {"level": "modality"}),
    ],
)
def test_options_of_a_part_that_is_off_are_refused(options, changed, switch):
    (key,), (on,) = changed, switch
    with pytest.raises(ValueError, match=f"{key} must be used with {on}=.* or leave {key} out"):
        options(**changed)
    options(**changed, **switch)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_of_publications_say_what_to_pass(name):
    with pytest.raises(ValueError, match="must be a name that amr methods lists") as refused:
        check_registered("--method", name.upper())
    passed = str(refused.value).rpartition("It is ")[2].partition(";")[0].partition(", N ")[0]
    method, *texts = shlex.split(passed.replace("--method-option", "").replace("--method", "").replace("=N", "=5"))
    parsed(method, *texts)
