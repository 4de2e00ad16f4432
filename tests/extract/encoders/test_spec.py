from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.encoders import Spec

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-/", min_size=1)


@dataclass(frozen=True)
class Options:
    frames: int = 8
    rate: float | None = None
    keep: Literal["mean", "steps"] = "mean"


@given(family=words, model=st.none() | words, options=st.dictionaries(words, words))
def test_text_and_back(family, model, options):
    spec = Spec(family, model, options)
    assert Spec.parse(str(spec)) == spec


def test_a_value_may_hold_colons_and_equals():
    assert Spec.parse("frames,crop=0:0:1:1,weights=a=b").options == {"crop": "0:0:1:1", "weights": "a=b"}
    assert Spec.parse("hub:org:model").model == "org:model"


@pytest.mark.parametrize("text", ["", ":model", "timm:", ",frames=2"])
def test_wrong_specs(text):
    with pytest.raises(ValueError, match=r"encoder must be family\[:model\]"):
        Spec.parse(text)


@pytest.mark.parametrize("text", ["timm:x,frames", "timm:x,=2", "timm:x,frames=", "timm:x,"])
def test_options_without_name_or_value(text):
    with pytest.raises(ValueError, match="encoder option must be option=value"):
        Spec.parse(text)


def test_an_option_given_twice():
    with pytest.raises(ValueError, match=r"frames must be given once, got it twice .* Leave one out"):
        Spec.parse("timm:x,frames=1,frames=2")


def test_options_have_types():
    spec = Spec.parse("timm:x,rate=2,frames=4,keep=steps")
    assert spec.read(Options) == Options(frames=4, rate=2.0, keep="steps")
    assert Spec.parse("timm:x").read(Options) == Options()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm,frame=2", "timm option must be one of frames, rate, keep, got 'frame'. Did you mean frames?"),
        ("timm,frames=two", "frames must be a whole number, got 'two'. Leave it out"),
        ("timm,rate=fast", "rate must be a number, got 'fast'"),
        ("timm,keep=step", "keep must be one of mean, steps, got 'step'. Did you mean steps?"),
    ],
)
def test_wrong_options(text, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        Spec.parse(text).read(Options)


def test_the_canonical_spec_leaves_out_defaults_and_has_one_order():
    first = Spec.parse("timm:x,keep=steps,frames=4,rate=2.5")
    second = Spec.parse("timm:x,rate=2.50,frames=4,keep=steps")
    assert first.canonical(first.read(Options)) == "timm:x,frames=4,rate=2.5,keep=steps"
    assert first.canonical(first.read(Options)) == second.canonical(second.read(Options))
    assert Spec.parse("timm:x,frames=8").canonical(Options()) == "timm:x"


@pytest.mark.parametrize("written", ["resnt18", "ResNt18", "RESNT18"])
def test_unknown_models(written):
    with pytest.raises(ValueError, match=rf"got '{written}'. Did you mean timm:ResNet18\? amr encoders timm lists"):
        Spec.parse(f"timm:{written}").with_model_among(["ResNet18", "vit"])
    with pytest.raises(ValueError, match="timm must name one of its models, got none"):
        Spec.parse("timm").with_model_among(["resnet18"])


@pytest.mark.parametrize("written", ["timm:resnet18", "timm:ResNet18", "TIMM:RESNET18"])
def test_a_model_is_found_whatever_its_case(written):
    spec = Spec.parse(f"{written},frames=4").with_model_among(["vit", "ResNet18"])
    assert str(spec) == "timm:ResNet18,frames=4"
    both = Spec.parse("timm:VIT").with_model_among(["vit", "VIT"])
    assert both.model == "VIT"
