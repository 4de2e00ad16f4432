"""The folder of a run: its name, when an old run may be replaced, and how a fit leaves all of its files or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from amr.common.files import NotWhole, check_unlinked, check_writable, has_checksum, partial_path, read_whole
from amr.common.files.lock import is_left, lock
from amr.common.options import flag, number_text
from amr.common.workspace import place, runs_dir
from amr.fusion.loggers.files import LOGS, foreign_log
from amr.fusion.runs.record import RUN_FILES, RunRecord

LATER_FILES = (  # of amr evaluate and amr explain
    *("evaluation.json", "evaluation.csv", "evaluation.npz"),
    *("explain_*.png", "explain_*.svg", "explain_*.pdf"),
)
UNFINISHED = ".unfinished"  # folder in the folder of a run that a fit writes to
MAX_DIFFERENCES = 3  # settings that an error lists


@contextmanager
def new_run(record: RunRecord, *, overwrite: bool = False) -> Iterator[tuple[RunRecord, Path]]:
    """Yield the record with `out` set to the run's folder, and a folder to write the run's files to.

    The files replace those of an earlier run at the end of the block. If the block raises, they are deleted, and the
    earlier run stays as it is.

    Args:
        record: Record of the run. Its `out` is a path or a name in runs/: a folder that is new, is empty, or holds an
            earlier run. By default a new folder in runs/ is named after the settings.
        overwrite: Whether a run of other settings may be replaced.

    Raises:
        ValueError: `out` holds something else or a run of other settings, or cannot be written to.
        RuntimeError: Another process writes to `out`.
    """
    if record.config.out is None:
        folder = _free_folder(record)
    else:
        folder = place(record.config.out, runs_dir())
        _check_replaceable(folder, record, overwrite)
    check_writable(folder, "--out", "Pass --out with another folder.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / UNFINISHED
    try:
        with lock(unfinished, work="fit", owner=folder):
            _check_replaceable(folder, record, overwrite)  # another fit may have ended since the folder was chosen
            shutil.rmtree(unfinished, ignore_errors=True)  # of a fit that was killed
            unfinished.mkdir()
            try:
                yield replace(record, config=replace(record.config, out=str(folder))), unfinished
                _finish(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    finally:
        if is_new:
            with suppress(OSError):  # it holds the run
                folder.rmdir()


def _free_folder(record: RunRecord) -> Path:
    """First folder of the settings' name, numbered if necessary, that holds no run and is not being written to."""
    name, number = _name(record), 1
    while True:
        folder = runs_dir() / (name if number == 1 else f"{name}_{number}")
        if _is_free(folder, record):
            return folder
        number += 1


def _is_free(folder: Path, record: RunRecord) -> bool:
    """Whether a folder may take a run: it holds none, or what a killed fit of the same settings left."""
    if not folder.exists():
        return True
    if not _is_replaceable(folder):
        return False
    if is_finished(folder):
        return is_left(folder / UNFINISHED) and not _differences(RunRecord.read(folder), record)
    return not _is_in_work(folder)


def _name(record: RunRecord) -> str:
    config = record.config
    ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else "plain"
    head = config.head if config.hidden == 0 else f"{config.head}{config.hidden}"
    head = f"{head}+experts" if config.experts else head
    modalities = config.modalities and config.modalities.replace(",", "+")
    parts = [Path(record.cache).stem, config.label, modalities, head, config.method]
    name = "_".join([part for part in parts if part is not None] + [ratio, f"seed{config.seed}"])
    return "".join(c if c.isalnum() or c in "-_.+" else "-" for c in name)


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run that is fitted and measured."""
    return (folder / "metrics.json").is_file()


def _is_in_work(folder: Path) -> bool:
    """Whether another process writes to the folder."""
    try:
        with lock(folder / UNFINISHED):
            return False
    except RuntimeError:
        return True


def _check_replaceable(folder: Path, record: RunRecord, overwrite: bool) -> None:
    """Raise ValueError if a fit must not replace what a folder holds."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(folder)!r}. Choose another name.")
    if not folder.exists():
        return
    check_unlinked(folder, "--out")
    if foreign := foreign_file(folder):
        raise ValueError(
            f"--out must be new, empty or an earlier run, got {str(folder)!r}, which holds {foreign}. "
            "Choose another name."
        )
    if has_checksum(folder / RUN_FILES[0]):
        try:
            read_whole(folder / RUN_FILES[0], "--out", "Pass --overwrite to replace the run, or choose another name.")
        except NotWhole:
            if overwrite:  # of a run, whatever became of it; a whole config.json says of what it is
                return
            raise
    if not _is_replaceable(folder):
        raise ValueError(f"--out must be new, empty or an earlier run, got {str(folder)!r}. Choose another name.")
    if not overwrite and is_finished(folder) and (differences := _differences(RunRecord.read(folder), record)):
        raise ValueError(
            f"--out must be new or a run of the same settings, got {str(folder)!r}, a run with "
            f"{few_of(differences)}. Pass --overwrite to replace it, or choose another name."
        )


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder holds a run or what is left of one, and nothing else."""
    return foreign_file(folder) is None and (_is_run(folder) or not _files(folder))


def _is_run(folder: Path) -> bool:
    try:
        RunRecord.read(folder)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _files(folder: Path) -> list[Path]:
    """Everything in the folder of a run and its folds, besides the folds, logs, and what a killed fit left."""
    folds = [path for path in folder.glob("fold-*") if path.is_dir()]
    found = [path for place in (folder, *folds) for path in place.iterdir()]
    logs = [path for path in (folder / LOGS,) if path.is_dir()]
    return [path for path in found if path not in (*folds, *logs) and not path.name.startswith(UNFINISHED)]


def foreign_file(folder: Path) -> str | None:
    """Name of something in the folder of a run that no command wrote; None if there is nothing."""
    names = [*RUN_FILES, *LATER_FILES]
    names += [partial_path(Path(name)).name for name in names]  # of a killed command
    for path in _files(folder):
        if path.is_dir() or not any(fnmatch(path.name, name) for name in names):
            return str(path.relative_to(folder))
    logged = foreign_log(folder)
    return None if logged is None else str(logged)


def _differences(saved: RunRecord, record: RunRecord) -> list[str]:
    then, now = _settings(saved), _settings(record)
    same_ratio = _target(saved) == _target(record)
    return differences(then, now | ({"amr_ratio": then["amr_ratio"]} if same_ratio else {}))


def may_hold(folder: Path, record: RunRecord) -> bool:
    """Whether a folder may hold the run of a record, wherever its cache lies; an unfinished or damaged one may, too."""
    if not is_finished(folder):
        return True
    try:
        saved = RunRecord.read(folder)
    except (FileNotFoundError, ValueError):
        return True
    same = saved.classes == record.classes and _fingerprints(saved) == _fingerprints(record)
    return same and not _differences(replace(saved, cache=record.cache), record)


def _fingerprints(record: RunRecord) -> dict[str, Any]:
    return {m: info["fingerprint"] for m, info in record.modalities.items()}


def _settings(record: RunRecord) -> dict[str, Any]:
    """Settings that decide what a run is."""
    modalities = ",".join(record.modalities)
    return asdict(
        replace(record.config, cache=record.cache, modalities=modalities, out=None, device="auto", logger=None)
    )


def _target(record: RunRecord) -> list[float] | None:
    """Target shares, which do not depend on how the ratio was typed."""
    shares = record.target_share
    return None if shares is None else [round(share, 9) for share in shares.values()]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options in which two requests differ.

    >>> differences({"seed": 0, "amr_ratio": "1:1", "lr": 0.1}, {"seed": 1, "amr_ratio": None, "lr": 0.1})
    ['--seed 0 (now 1)', '--amr-ratio 1:1 (now none)']
    """
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return [f"{flag(name)} {_text(then.get(name))} (now {_text(now.get(name))})" for name in names]


def few_of(texts: Sequence[str]) -> str:
    """The first few of many texts, and the number of the others."""
    more = len(texts) - MAX_DIFFERENCES
    return ", ".join(texts[:MAX_DIFFERENCES]) + (f" and {more} more" if more > 0 else "")


def _text(value: object) -> str:
    if value is None or value in ((), []):
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return number_text(value) if isinstance(value, float) else str(value)


def _finish(folder: Path) -> None:
    """Replace an earlier run by the files of the unfinished one.

    A kill in between leaves a config.json without metrics.json, a run that is not finished.
    """
    old = [path for path in _files(folder) if path.name != RUN_FILES[0]]
    for path in sorted(old, key=_order, reverse=True):
        path.unlink()
    for path in folder.glob("fold-*"):
        path.rmdir()
    if (folder / LOGS).exists():
        shutil.rmtree(folder / LOGS)
    for path in sorted((folder / UNFINISHED).iterdir(), key=_order):
        os.replace(path, folder / path.name)


def _order(path: Path) -> int:
    """Place of a file of a run in the order in which they appear; folds are in the middle."""
    return RUN_FILES.index(path.name) if path.name in RUN_FILES else 2
