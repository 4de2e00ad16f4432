"""Extraction end to end against its stages, only decoding and only encoding, timed together.

If both stages share the cores, the rate is bounded by 1 / (1/decode + 1/encode). If the encoders are on a GPU, it is
bounded by the slower stage. The target is 0.9 of that bound. Clips: the GRID clips in $AMR_TEST_DATA (by default
../shared/data), real video of 3 seconds; if there are none, rendered clips.

    python benchmarks/extraction.py [--clips 64] [--rounds 3] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from rounds import machine, medians

from amr.common.options import available_cores
from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Encoder, build_encoder
from amr.extract.pipeline.encode import describe, encode
from amr.extract.pipeline.load import ClipFiles, Loaded
from amr.extract.pipeline.workers import ClipLoader, Task
from amr.extract.run import extract_embeddings

PAIRS = {
    "weightless": {"audio": "logmel", "video": "frames"},
    "resnet18": {"audio": "logmel", "video": "timm:resnet18,weights=random"},
}
BATCH = 32


def find_clips(num_clips: int, folder: Path) -> tuple[str, list[Path]]:
    """Description of the clips, and their files."""
    data = Path(os.environ.get("AMR_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    real = sorted((data / "grid" / "clips").glob("*.mp4"))[:num_clips]
    if real:
        return "GRID clips", real
    enough = max(num_clips, 48)  # the renderer wants a clip of every class in every split
    render(SyntheticConfig(num_clips=enough, duration_seconds=3.0, frame_rate_hz=25, size=256), folder / "rendered")
    rendered = sorted((folder / "rendered").rglob("*.mp4"))[:num_clips]
    return f"rendered clips (no GRID clips in {data})", rendered


def load_all(paths: list[Path], encoders: dict[str, Encoder], on_gpu: bool) -> list[Loaded]:
    """Decode and prepare every clip, with as many processes as an extraction has."""
    clips = [ClipFiles(dict.fromkeys(("audio", "video"), path)) for path in paths]
    loader = ClipLoader(clips, encoders, num_workers=available_cores(), batch_size=BATCH, pin_memory=on_gpu)
    return list(loader.load([Task(row, tuple(encoders)) for row in range(len(clips))]))


def encode_all(loaded: list[Loaded], encoders: dict[str, Encoder]) -> None:
    """Run every encoder over every clip, in batches."""
    for name, encoder in encoders.items():
        info = describe(name, encoder, "float32")
        for start in range(0, len(loaded), BATCH):
            batch = loaded[start : start + BATCH]
            encode(encoder, info, batch, start, [str(start + i) for i in range(len(batch))])


def stages(paths: list[Path], specs: dict[str, str], folder: Path, device: torch.device) -> dict[str, Callable]:
    """Name to function: only decoding, only encoding, and `amr extract`."""
    encoders = {name: build_encoder(spec, name).to(device) for name, spec in specs.items()}
    on_gpu = device.type == "cuda"
    manifest = folder / "clips.csv"
    ids = [f"{i:04d}" for i in range(len(paths))]
    pd.DataFrame({"id": ids, "path": [path.name for path in paths], "label": "none"}).to_csv(manifest, index=False)
    config = ExtractConfig(
        manifest=str(manifest),
        root=str(paths[0].parent),
        encoder=tuple(f"{name}={spec}" for name, spec in specs.items()),
        out=str(folder / "cache.h5"),
        batch_size=BATCH,
        overwrite=True,
        device=device.type,
    )
    loaded = load_all(paths, encoders, on_gpu)
    return {
        "decode": partial(load_all, paths, encoders, on_gpu),
        "encode": partial(encode_all, loaded, encoders),
        "extract": partial(extract_embeddings, config),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    table = Table("encoders", "decode, clips/s", "encode", "extract", "bound", "extract / bound")
    with TemporaryDirectory() as name:
        folder = Path(name)
        description, paths = find_clips(arguments.clips, folder)
        for pair, specs in PAIRS.items():
            times = medians(stages(paths, specs, folder, device), arguments.rounds, device)
            decode, encode_, whole = (len(paths) / t.wall for t in times.values())
            bound = min(decode, encode_) if device.type == "cuda" else 1 / (1 / decode + 1 / encode_)
            rates = (f"{rate:.1f}" for rate in (decode, encode_, whole, bound))
            table.add_row(pair, *rates, f"{whole / bound:.2f}")
    console = Console(width=110)
    console.print(f"{len(paths)} {description}; {machine(device)}")
    console.print(table)


if __name__ == "__main__":
    main()
