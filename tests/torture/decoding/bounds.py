"""Memory and time of one worker over long files, and over small files that claim very much.

Each file is written by this script, and loaded in a process of its own by every kind of encoder: logmel, frames, an
image model at `rate=2` and on the sound, a video model at `rate=2`, a speech model. `clip` is the memory that came with
the clip. Then a speech model with small random weights embeds the two hours, in this process.

    python -m tests.torture.decoding.bounds [--only 2_hours.flac ...]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torchaudio import pipelines

from amr.extract.encoders import build_encoder
from benchmarks.rounds import machine

from .bombs import BOMBS, write_folder, write_sound, write_video
from .media_bombs import Prepares, both, measure

LONG: dict[str, Callable[[Path], None]] = {
    "2_hours.flac": lambda path: write_sound(path, "flac", 7200),
    "2_hours.opus": lambda path: write_sound(path, "libopus", 7200),
    "10_minutes_720p.mp4": lambda path: write_video(path, 600, (1280, 720)),
}
CASES = LONG | {name: write for name, write in BOMBS.items() if name not in LONG}
CASES |= {"200001_images": lambda path: write_folder(path, 200_001)}
TINY = {"encoder_embed_dim": 24, "encoder_num_layers": 2, "encoder_num_heads": 2, "encoder_ff_interm_features": 16}
TINY |= {
    "encoder_pos_conv_groups": 2,
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
}


def written(name: str, folder: Path) -> Path:
    """The file of a case, written in a process of its own, so that this one stays small."""
    path = folder / name
    writer = multiprocessing.get_context("fork").Process(target=CASES[name], args=(path,))
    writer.start()
    writer.join()
    return path


def peak_mib() -> float:
    """Largest memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prepares = Prepares.every_kind()
    table = Table("file", "worker, MiB", "clip, MiB", "seconds", "result")
    console = Console(width=200)
    embedded = ""
    with TemporaryDirectory() as folder:
        for name in arguments.only:
            measured = measure(both(written(name, Path(folder))), prepares)
            memory = (f"{measured.peak_bytes >> 20:,}", f"{measured.clip_bytes >> 20:,}")
            table.add_row(name, *memory, f"{measured.seconds:.0f}", measured.result)
            if name == "2_hours.flac" and measured.loaded is not None:
                bundle = pipelines.WAV2VEC2_BASE
                bundle._params = {**bundle._params, **TINY}
                encoder = build_encoder("torchaudio:WAV2VEC2_BASE,weights=random", "audio")
                before, began = peak_mib(), time.monotonic()
                (embedding,) = encoder.embed([measured.loaded.inputs["waveform"]])
                embedded = f"Two hours embedded by a small speech model: {tuple(embedding.shape)}, "
                embedded += f"{time.monotonic() - began:.0f} s, {peak_mib() - before:.0f} MiB more than before."
    console.print(machine())
    console.print(table)
    console.print(embedded)


if __name__ == "__main__":
    main()
