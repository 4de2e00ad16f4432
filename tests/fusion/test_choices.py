"""Names are known without importing what they name."""

import subprocess
import sys

import pytest

from amr.fusion.choices import check_registered, registered_names
from amr.fusion.config import FitConfig
from amr.fusion.heads import heads
from amr.fusion.heads.concat import ConcatHead
from amr.fusion.swept import SweepConfig

REGISTERED = """
from amr.fusion.attribution.attributor import attributions
from amr.fusion.heads import heads
from amr.fusion.methods import methods
print(*sorted(heads), "/", *sorted(methods), "/", *sorted(attributions))
"""


def test_the_names_are_those_of_the_registries():
    done = subprocess.run([sys.executable, "-c", REGISTERED], capture_output=True, text=True, check=True)
    names = (sorted(registered_names(room)) for room in ("heads", "methods", "attribution"))
    assert done.stdout.strip() == " / ".join(" ".join(each) for each in names)


@pytest.mark.parametrize(
    ("option", "name", "hint"),
    [("head", "conc", "concat"), ("method", "niave", "naive"), ("attribution", "shaply", "shapley")],
)
def test_an_unknown_name_is_refused_by_the_config(option, name, hint):
    with pytest.raises(ValueError, match=f"--{option} must be one of .*, got '{name}'. Did you mean {hint}?"):
        FitConfig(**{option: name})


@pytest.mark.parametrize(("option", "names"), [("--method", "umt,ogm"), ("--head", "concat, sum")])
def test_several_names_are_for_sweeps(option, names):
    with pytest.raises(ValueError, match=rf"^{option} must be one name, got {names}\. Use amr sweep {option} "):
        check_registered(option, names)
    with pytest.raises(ValueError, match=r"got 'ogx'\. Did you mean"):
        check_registered("--method", "umt,ogx")


def test_a_sweep_refuses_an_unknown_name_and_offers_no_head_of_a_method():
    with pytest.raises(ValueError, match=r"--head must be one of .*, got 'conc'") as refused:
        SweepConfig.parse(swept={"head": "concat,conc"}, cache="any")
    offered = str(refused.value).split(" be one of ")[1].split(", got ")[0]
    assert offered == ", ".join(sorted(name for name, head in heads.items() if head.listed))


def test_a_head_of_a_user_s_own_is_known_once_it_is_registered():
    with pytest.raises(ValueError, match="--head must be one of"):
        check_registered("--head", "of-a-user")
    heads.register("of-a-user")(ConcatHead)
    try:
        assert FitConfig(head="of-a-user").head == "of-a-user"
    finally:
        del heads._entries["of-a-user"]
