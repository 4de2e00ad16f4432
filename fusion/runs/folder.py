"""The folder of a run: its name, and when an old folder may be replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from amr.common.workspace import place
from amr.fusion.config import FitConfig
from amr.fusion.runs.record import RunRecord

RUN_FILES = ("config.json", "weights.safetensors", "history.csv", "predictions.csv", "metrics.json")


def new_folder(config: FitConfig, cache: Path, runs_dir: Path) -> tuple[FitConfig, Path]:
    """Make the folder of a run, and return the config with `out` set, and the folder.

    `--out` is a path, or a name in `runs_dir`: a folder that is new, is empty, or holds an earlier run, which is
    replaced. By default a new folder in `runs_dir` is named after the settings.

    Raises:
        ValueError: `--out` is something else.
    """
    if config.out is not None:
        folder = place(config.out, runs_dir)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out must be a folder, got the file {config.out!r}. Choose another name.")
        if folder.is_dir() and any(folder.iterdir()):
            _clear_run(folder, config.out)
        folder.mkdir(parents=True, exist_ok=True)
        return replace(config, out=str(folder)), folder
    ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else "plain"
    head = config.head if config.hidden == 0 else f"{config.head}{config.hidden}"
    parts = [
        cache.stem,
        config.label,
        config.modalities and config.modalities.replace(",", "+"),
        head,
        config.method,
    ]
    name = "_".join([part for part in parts if part is not None] + [ratio, f"seed{config.seed}"])
    name = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)
    number = 1
    while (folder := runs_dir / (name if number == 1 else f"{name}_{number}")).exists():
        number += 1
    folder.mkdir(parents=True)
    return replace(config, out=str(folder)), folder


def _clear_run(folder: Path, out: str) -> None:
    """Delete the files of an earlier run, and nothing else.

    Raises:
        ValueError: The folder is not a run, or holds other files.
    """
    refused = ValueError(f"--out must be new, empty or an earlier run, got {out!r}. Choose another name.")
    try:
        RunRecord.read(folder)
    except (FileNotFoundError, ValueError) as error:
        raise refused from error
    folds = [path for path in folder.glob("fold-*") if path.is_dir()]
    files = [place / name for place in (folder, *folds) for name in RUN_FILES if (place / name).exists()]
    if set(folder.rglob("*")) - {*files, *folds}:
        raise refused
    for path in files:
        path.unlink()
    for path in folds:
        path.rmdir()
