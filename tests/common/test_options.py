"""Values that Python code passes to configs, against the types that their fields declare."""

import os
import shutil
import subprocess
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from amr.common.options import CONTROLS, coerce_fields, in_shell, number_text, option


@dataclass(frozen=True)
class Config:
    folder: Path
    name: str | None = option(None, "Name.")
    epochs: int = option(3, "Epochs.")
    lr: float | None = option(None, "Learning rate.")
    fast: bool = option(False, "Whether to be fast.")
    options: tuple[str, ...] = option((), "KEY=VALUE.")
    parts: str | None = option(None, "Parts.", separator=":")

    def __post_init__(self) -> None:
        coerce_fields(self)


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        ("folder", "runs/a", Path("runs/a")),
        ("name", Path("runs/a"), str(Path("runs/a"))),
        ("name", None, None),
        ("epochs", np.int64(5), 5),
        ("lr", np.float32(0.1), 0.1),
        ("lr", 1, 1.0),
        ("lr", None, None),
        ("fast", np.bool_(True), True),
        ("options", "p=0.5", ("p=0.5",)),
        ("options", ["p=0.5", "q=1"], ("p=0.5", "q=1")),
        ("options", OrderedDict(p=0.5, q=np.int64(12), own=True), ("p=0.5", "q=12", "own=true")),
        ("options", {"folder": Path("a")}, ("folder=a",)),
        ("parts", "3:1", "3:1"),
        ("parts", (3, 1), "3:1"),
        ("parts", np.array([0.25, 0.75]), "0.25:0.75"),
        ("parts", {"audio": 3, "video": 0.5}, "audio=3:video=0.5"),
    ],
)
def test_values_become_what_is_declared(field, given, wanted):
    value = getattr(Config(**{"folder": Path("here"), field: given}), field)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("epochs", "3", "--epochs must be a whole number, got '3'. The default is 3."),
        ("epochs", 2.5, "--epochs must be a whole number, got 2.5. The default is 3."),
        ("epochs", True, "--epochs must be a whole number, got True. The default is 3."),
        ("epochs", None, "--epochs must be a whole number, got None. The default is 3."),
        ("lr", "fast", "--lr must be a number, got 'fast'. Pass one."),
        ("lr", True, "--lr must be a number, got True. Pass one."),
        ("name", 3, "--name must be a text, got 3. Pass one."),
        ("fast", 1, "--fast must be True or False, got 1. The default is False."),
        ("parts", 3, "--parts must be a text, got 3. Pass one."),
    ],
)
def test_other_types_are_refused(field, given, message):
    with pytest.raises(ValueError, match="must be") as error:
        Config(**{"folder": Path("here"), field: given})
    assert str(error.value) == message


@pytest.mark.parametrize("value", [0.5, 1e-5, 0.1234567, 1e300, 3.0])
def test_the_text_of_a_number_reads_back_as_the_same(value):
    assert float(number_text(value)) == value


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    "text", ["it's", "a b", "\x1b[31m'\\x", "\r\n1", "ä\u202e\x9b1", "\udcff0", "$(ls) `ls` \t", "\x7fa"]
)
def test_a_shell_reads_the_text_back(text):
    done = subprocess.run(["bash", "-c", f"printf %s {in_shell(text)}"], stdout=subprocess.PIPE, check=True)
    assert os.fsdecode(done.stdout) == text
    assert CONTROLS.search(in_shell(text)) is None
