"""Tiny models, each saved once, and no network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.extract.encoders import Encoder, build_encoder

from .tiny import make


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """Function from a model_type to the folder of a tiny model."""
    root = tmp_path_factory.mktemp("models")
    return lambda name: make(name, root / name)


@pytest.fixture
def built(saved) -> Callable[..., Encoder]:
    """Function from a model_type, the embedding's name and options to its encoder."""
    return lambda name, embedding, options="": build_encoder(f"hf:{saved(name)}{options}", embedding)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A folder is read without any attempt to reach a network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def frames(number: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, 40, 60, 3), np.uint8)


def sound(num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples).cumsum() / 10 + 0.05 * rng.standard_normal(num_samples)).astype(
        np.float32
    )


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
