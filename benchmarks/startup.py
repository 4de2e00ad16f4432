"""Time from the keystroke to the answer: `python benchmarks/startup.py`.

Each case is a process of its own; they take turns, round by round. The training of a fit is in its time:
the difference of the two fits is that of 59 epochs. Aims: a fit 1.5 times `import torch`, a refusal .7 s,
`import amr` .1 s more than an empty Python, help 2 times the imports of typer and rich.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from rounds import machine

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings

NUM_CLIPS = 240
FIT = ("fit", "--cache=c.h5", "--device=cpu", "--overwrite", "--out=run")
CASES = {
    "python -c pass": ("-c", "pass"),
    "import amr": ("-c", "import amr"),
    "import typer, rich": ("-c", "import typer, rich.console, rich.table, rich.panel"),
    "amr --help": ("-m", "amr", "--help"),
    "import torch": ("-c", "import torch"),
    "amr fit, 1 epoch": ("-m", "amr", *FIT, "--epochs=1"),
    "amr fit, 60 epochs": ("-m", "amr", *FIT, "--epochs=60"),
    "refused: amr fit --head nope": ("-m", "amr", "fit", "--head", "nope"),
    "refused: amr train-encoders --manifest nope.csv": ("-m", "amr", "train-encoders", "--manifest", "nope.csv"),
    "refused: amr extract --dataset nope": ("-m", "amr", "extract", "--dataset", "nope"),
    "refused: amr predict nope clip": ("-m", "amr", "predict", "nope", "clip"),
}
OF = {"import amr": "python -c pass", "amr --help": "import typer, rich"} | dict.fromkeys(
    ("amr fit, 1 epoch", "amr fit, 60 epochs"), "import torch"
)


def main() -> None:
    """Time the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_cache(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in CASES}
        for number in range(1 + given.rounds):
            for name, arguments in CASES.items():
                took = timed(arguments, Path(folder))
                seconds[name] += [took] if number else []  # the first round fills the page cache
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    table = Table("case", "seconds", "against", "ratio")
    for name, median in medians.items():
        other = OF.get(name, "")
        table.add_row(name, f"{median:.2f}", other, f"{median / medians[other]:.2f}" if other else "")
    console = Console(width=120)
    console.print(machine())
    console.print(table)
    more = medians["amr fit, 60 epochs"] - medians["amr fit, 1 epoch"]
    console.print(f"60 epochs instead of 1: {more:.2f} s more; import amr: {medians['import amr']:.3f} s with Python")


def write_cache(folder: Path) -> None:
    """Write a cache of 240 clips with splits."""
    rng, target = np.random.default_rng(0), np.arange(NUM_CLIPS) % 6
    for name in ("audio", "video"):
        rows = rng.normal(size=(NUM_CLIPS, 64)) + np.eye(6, 64)[target]
        np.save(folder / f"{name}.npy", rows.astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"{each}\n" for each in target))
    (folder / "splits.txt").write_text("train\ntrain\ntrain\nval\ntest\n" * (NUM_CLIPS // 5))
    files = tuple(f"{name}={folder / name}.npy" for name in ("audio", "video"))
    more = {name: str(folder / f"{name}.txt") for name in ("labels", "splits")}
    import_embeddings(ImportConfig(files, out=str(folder / "c.h5"), **more))


def timed(arguments: tuple[str, ...], folder: Path) -> float:
    """Seconds that a process takes."""
    env = os.environ | {"AMR_HOME": str(folder)}
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
