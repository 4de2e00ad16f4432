"""Time from the keystroke to the answer: `python benchmarks/startup.py`.

Each case is a process of its own; they take turns, round by round. The training of a fit is in its time: the difference
of the two fits is that of 59 epochs. Aims: a fit 1.5 times `import torch`, a refusal .7 s, `import amr` .1 s more than
an empty Python, help 2 times the imports of typer and rich.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from rounds import machine, medians

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
        cases = {name: partial(run, arguments, Path(folder)) for name, arguments in CASES.items()}
        seconds = {name: timing.wall for name, timing in medians(cases, given.rounds).items()}
    table = Table("case", "seconds", "against", "ratio")
    for name, median in seconds.items():
        other = OF.get(name, "")
        table.add_row(name, f"{median:.2f}", other, f"{median / seconds[other]:.2f}" if other else "")
    console = Console(width=120)
    console.print(machine())
    console.print(table)
    more = seconds["amr fit, 60 epochs"] - seconds["amr fit, 1 epoch"]
    console.print(f"60 epochs instead of 1: {more:.2f} s more; import amr: {seconds['import amr']:.3f} s with Python")


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


def run(arguments: tuple[str, ...], folder: Path) -> None:
    """Run a process to its end, whatever its exit status."""
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"AMR_HOME": str(folder)}, capture_output=True
    )


if __name__ == "__main__":
    main()
