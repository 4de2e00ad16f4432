"""Encoding of prepared clips: pageable against pinned memory, and float32 against autocast to float16.

A clip is some random frames of 224 x 224; nothing is decoded.

    python benchmarks/gpu/encoding.py [--device cuda] [--clips 256] [--frames 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians
from torch import Tensor
from torch.nn.functional import cosine_similarity

from amr.extract.encoders import Encoder, build_encoder

BATCH = 32


def embed(encoder: Encoder, inputs: list[Tensor], *, autocast: bool) -> Tensor:
    """Embed all clips in batches, `(clips, dim)`."""
    with nullcontext() if autocast else patch.object(torch, "autocast", lambda *args, **options: nullcontext()):
        batches = [encoder.embed(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
    return torch.stack([each for batch in batches for each in batch])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device, console = torch.device(arguments.device), Console(width=120)
    spec = f"timm:resnet18,frames={arguments.frames},weights=random"
    encoder = build_encoder(spec, "video").to(device)
    frames = np.random.default_rng(0).integers(256, size=(arguments.frames, 224, 224, 3), dtype=np.uint8)
    inputs = [encoder.prepare(frames).clone() for _ in range(arguments.clips)]
    pinned = [x.pin_memory() for x in inputs] if device.type == "cuda" else inputs
    cases: dict[str, Callable[[], Tensor]] = {
        "pageable, float32": partial(embed, encoder, inputs, autocast=False),
        "pinned, float32": partial(embed, encoder, pinned, autocast=False),
        "pageable, autocast": partial(embed, encoder, inputs, autocast=True),
        "pinned, autocast, as amr extract": partial(embed, encoder, pinned, autocast=True),
    }
    times = medians(cases, arguments.rounds, device)
    slowest = times["pageable, float32"].wall
    table = Table(spec, "clips/s", "ratio")
    for name, time in times.items():
        table.add_row(name, f"{arguments.clips / time.wall:.1f}", f"{slowest / time.wall:.2f}")
    console.print(machine(device))
    console.print(table)
    near = cosine_similarity(cases["pageable, float32"](), cases["pageable, autocast"](), dim=-1).min()
    console.print(f"smallest cosine between embeddings in float32 and with autocast: {near:.5f}")


if __name__ == "__main__":
    main()
