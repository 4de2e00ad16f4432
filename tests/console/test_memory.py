"""Memory that does not suffice is an error in plain words, with what to lower."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import typer

from amr.console.refusals import LOWERED, run_app

LIBRARIES = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"), "GPU", "2.00 GiB"),
    (MemoryError(), "CPU", "more"),
]


def said(error, capsys: pytest.CaptureFixture[str], command: str = "fit") -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    def work(command: str) -> None:
        raise error

    status = run_app(app, [command])
    return status, capsys.readouterr().err


def raised(work) -> BaseException:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        work()
    return caught.value


def test_too_large_a_tensor_is_said_in_plain_words(capsys):
    status, error = said(raised(lambda: torch.empty(2**60)), capsys)
    assert status == 1
    assert error == (
        "amr: memory of the CPU must hold what is computed at once, got too little for 4.29e+09 GiB. "
        "Lower --hidden, --adapter-dim or --batch-size.\n"
    )


def test_so_is_too_large_an_array(capsys):
    status, error = said(raised(lambda: np.empty(2**58)), capsys, "extract")
    assert status == 1
    assert error.startswith("amr: memory of the CPU must hold what is computed at once, got too little for 2.00 EiB. ")
    assert error.endswith(f"Lower {LOWERED['extract']}.\n")


@pytest.mark.parametrize(("error", "device", "size"), LIBRARIES)
def test_the_device_is_named(capsys, error, device, size):
    status, text = said(error, capsys, "sweep")
    assert status == 1
    assert f"memory of the {device} must hold what is computed at once, got too little for {size}. Lower" in text
    assert ("or pass --device cpu" in text) == (device == "GPU")


def test_other_errors_keep_their_words(capsys):
    words = "--batch-size must be small, got much. Pass 1."
    assert said(MemoryError(words), capsys) == (1, f"amr: {words}\n")
    assert said(RuntimeError(words), capsys) == (1, f"amr: {words}\n")
