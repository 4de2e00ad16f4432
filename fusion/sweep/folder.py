"""The folder of a sweep: its name, when a sweep continues in it, and when it may be replaced.

A folder holds sweep.json (the request), runs/ (one folder per run) and results.csv (one row per run and split).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amr.common.files import (
    CHECKSUMS,
    NotWhole,
    check_unlinked,
    check_writable,
    checksummed,
    has_checksum,
    partial_path,
    read_json,
    remove_folder,
    removed_name,
    write_json,
)
from amr.common.files.lock import lock
from amr.common.options import saved_settings
from amr.common.progress import Progress
from amr.common.workspace import TRAININGS, find_cache, place, runs_dir
from amr.extract.cache.reader import Cache
from amr.fusion.choices import SCORES, own_weight
from amr.fusion.end_to_end.folder import foreign_path
from amr.fusion.loggers.files import LOGS, foreign_log
from amr.fusion.runs.folder import differences, few_of, foreign_file, may_hold
from amr.fusion.runs.record import RunRecord
from amr.fusion.sweep.results import run_folder
from amr.fusion.swept import LATER_SWEPT, SWEPT, SweepConfig

REQUEST = "sweep.json"
GROUP_SIZE, GROUPS = "group_size", "groups"  # in sweep.json; they do not change what is requested
LOCK_FILE = f"{REQUEST}.lock"
LEFT = (LOCK_FILE, partial_path(Path(REQUEST)).name)  # by a killed sweep
FOLDERS = ("runs", TRAININGS, LOGS)
# files of amr sweep, amr table, amr evaluate and amr frontier
FILES = (
    *(REQUEST, CHECKSUMS, "results.csv", *(f"{score.name}-against-share.png" for score in SCORES.values())),
    *("table.csv", "table.md", "table.tex", "table.json"),
    *("evaluation.json", "evaluation.csv", "evaluation.npz"),
    *("frontier.json", "frontier.csv", "frontier.png"),
)
# hashes in sweep.json, and what differs if they do
CONTENT = {
    "cache_fingerprints": "other embeddings in the cache",
    "manifest_sha256": "other labels or splits in the cache",
    "clips_sha256": "other clips, labels or splits",
}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the files of a sweep as a whole, such as results.csv, for a moment; other processes wait."""
    with lock(folder / REQUEST, work="sweep", owner=folder, on_wait=lambda: None):
        yield


@contextmanager
def new_sweep(
    folder: Path, config: SweepConfig, records: Sequence[RunRecord], progress: Progress, *, overwrite: bool = False
) -> Iterator[None]:
    """Hold the folder that `choose_folder` chose during a sweep of some runs.

    It then has the sweep.json of this sweep, and nothing of another one. A damaged sweep.json is written again, with a
    warning, if the folder holds these runs.

    Raises:
        ValueError: The folder holds something else since it was chosen.
        RuntimeError: Another process sweeps in the folder.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder / REQUEST, work="sweep", owner=folder):
            # another sweep may have begun since then
            _, request = choose_folder(config, overwrite=overwrite, records=records)
            begin(folder, request, lambda: _holds(folder, records), progress)
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it holds the sweep
                folder.rmdir()


def choose_folder(
    config: SweepConfig, *, overwrite: bool = False, records: Sequence[RunRecord] | None = None
) -> tuple[Path, dict[str, Any]]:
    """Choose the folder of a sweep; return it, and the content of its sweep.json.

    Args:
        config: Config of the sweep. Its `out` is a path or a name in runs/: a folder that is new, is empty, or holds
            the same sweep. By default it is named after the settings.
        overwrite: Whether the folder may hold another sweep, which `new_sweep` will replace.
        records: Runs of the sweep; None if they are not known yet.

    Raises:
        ValueError: The folder holds something else, or cannot be written to.
        FileNotFoundError: The cache does not exist.
    """
    cache = find_cache(config.base.cache)
    request = _request(config, cache)
    kind = "frontier" if config.also else "sweep"
    folder = folder_of(config.base.out, request, (kind, cache.stem, config.base.label))
    check_folder(folder, request, lambda: records is None or _holds(folder, records), overwrite=overwrite)
    return folder, request


def folder_of(out: str | None, request: Mapping[str, Any], words: Sequence[str]) -> Path:
    """Folder that --out names; by default one in runs/ that is named after the request.

    Args:
        out: Path, or a name in runs/.
        request: Content of sweep.json.
        words: Words of the default name, which ends with a digest of the request.
    """
    if out is not None:
        return place(out, runs_dir())
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
    return runs_dir() / "_".join([*words, digest])


def check_folder(
    folder: Path, request: Mapping[str, Any], is_same: Callable[[], bool], *, overwrite: bool = False
) -> None:
    """Check that a sweep may be written to a folder.

    Args:
        folder: Folder of the sweep.
        request: Content of its sweep.json.
        is_same: Function that says whether what was fitted in the folder is of this sweep, if sweep.json is damaged.
        overwrite: Whether the folder may hold another sweep, which `begin` will replace.

    Raises:
        ValueError: The folder holds something else, or cannot be written to.
    """
    check_writable(folder, "--out", "Pass --out with another folder.")
    check_unlinked(folder, "--out")
    if not folder.exists():
        return
    saved = _read(folder)
    if saved is None and any(path.name not in LEFT for path in folder.iterdir()):
        raise ValueError(f"--out must be new, empty or an earlier sweep, got {str(folder)!r}. Choose another name.")
    if saved is not None and (changes := _changes(saved, request, is_same)):
        if not overwrite:
            raise ValueError(
                f"--out must be new or of the same sweep, got {str(folder)!r}, a sweep with "
                f"{few_of(changes)}. Choose another name to keep it, or pass --overwrite to delete it with its runs."
            )
        if foreign := _foreign(folder):
            raise ValueError(
                f"--out must be new, empty or an earlier sweep, got {str(folder)!r}, which holds {foreign}. "
                "Choose another name."
            )


def begin(folder: Path, request: Mapping[str, Any], is_same: Callable[[], bool], progress: Progress) -> None:
    """Remove another sweep from the folder, and write sweep.json; a damaged one with a warning.

    Raises:
        Locked: Another process trains encoders in the folder.
    """
    saved = _read(folder) or {}
    if (folder / REQUEST).exists() and _changes(saved, request, is_same):
        with ExitStack() as held:
            for file in (folder / TRAININGS).glob("*.lock"):
                held.enter_context(lock(file.with_suffix(""), work="training", owner=folder))
            _clear(folder)
        saved = {}
    elif (folder / REQUEST).exists() and not saved:
        progress.warn(f"{folder / REQUEST} is damaged: it is written again")
    _write(folder, {**request, **{name: saved[name] for name in (GROUP_SIZE, GROUPS) if name in saved}})


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write sweep.json, if it has another content."""
    if _read(folder) != content or not has_checksum(folder / REQUEST):
        with checksummed(folder, REQUEST):
            write_json(folder / REQUEST, content)


@dataclass(frozen=True)
class Groups:
    """Groups of a sweep's runs.

    Args:
        size: --group-size; None for the default.
        runs: Names of the runs of each group.
    """

    size: int | None
    runs: tuple[tuple[str, ...], ...]


def read_groups(folder: Path) -> Groups | None:
    """Groups with which the sweep of a folder began; None if it does not have them, as those of version 0.1."""
    saved = _read(folder) or {}
    groups = saved.get(GROUPS)
    if not isinstance(groups, list) or not all(isinstance(names, list) and names for names in groups):
        return None
    return Groups(saved.get(GROUP_SIZE), tuple(tuple(map(str, names)) for names in groups))


def write_groups(folder: Path, groups: Groups) -> None:
    """Note in sweep.json how the runs are grouped. The caller holds the folder."""
    _write(folder, {**(_read(folder) or {}), GROUP_SIZE: groups.size, GROUPS: [[*names] for names in groups.runs]})


def _clear(folder: Path) -> None:
    """Remove a sweep's runs and trainings, then its files; sweep.json stays, so that a kill leaves a sweep."""
    for name in FOLDERS:
        remove_folder(folder / name)
    for name in FILES:
        if name != REQUEST:
            (folder / name).unlink(missing_ok=True)


def _request(config: SweepConfig, cache: Path) -> dict[str, Any]:
    with Cache.open(cache) as opened:
        fingerprints = {name: opened.info(name).fingerprint for name in opened.names}
        clips = opened.manifest_sha256  # labels, splits and groups are not in the fingerprints
    swept: dict[str, Any] = {name: list(getattr(config, name)) for name in SWEPT}
    if len(config.attribution) == 1:
        default = own_weight(config.attribution[0])
        swept["amr_weight"] = [default if weight is None else weight for weight in config.amr_weight]
    # as version 0.1 wrote it: a single value of what it could not sweep is in `base`
    fixed = {name: swept.pop(name)[0] for name in LATER_SWEPT if len(swept[name]) == 1}
    # settings that do not change the numbers may differ when a sweep continues
    base = saved_settings(replace(config.base, **fixed, out=None, device="auto", logger=None)) | {"amr_weight": 1.0}
    request = swept | {"base": base, GROUP_SIZE: None}
    if config.also:
        request["also"] = [_changed(saved_settings(each), asdict(config.base)) for each in config.also]
    saved: dict[str, Any] = json.loads(
        json.dumps(request | {"cache_fingerprints": fingerprints, "manifest_sha256": clips})
    )
    return saved


def _changed(settings: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that differ from the base."""
    return {
        name: value
        for name, value in settings.items()
        if value != base[name] and name not in ("out", "device", "logger")
    }


def _read(folder: Path) -> dict[str, Any] | None:
    """Content of sweep.json; None if there is none, {} if it is damaged."""
    try:
        saved = read_json(folder / REQUEST)
    except NotWhole:
        return {}
    return saved if saved is None or isinstance(saved, dict) else {}


def _changes(saved: Mapping[str, Any], request: Mapping[str, Any], is_same: Callable[[], bool]) -> list[str]:
    """Settings for which a sweep must be replaced; none if it can continue as the requested one."""
    continues = _is_part(saved, request) if saved else is_same()
    return [] if continues else _differences(saved, request)


def _holds(folder: Path, records: Sequence[RunRecord]) -> bool:
    """Whether a folder holds some of these runs and no other one."""
    known = {run_folder(record).name: record for record in records}
    found = list((folder / "runs").glob("*"))
    return bool(found) and all(run.name in known and may_hold(run, known[run.name]) for run in found)


def _differences(saved: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """Settings in which two sweeps differ, such as `--seed 0,1 (now 0)`."""
    if not saved:
        return ["a damaged sweep.json"]
    changes = differences(_settings(saved), _settings(request))
    known, requested = (each.get("also", []) for each in (saved, request))
    if any(each not in requested for each in known) or (requested and not known):
        changes.append("other settings of a frontier, such as --against")
    for name, what in CONTENT.items():
        if name in saved and name in request and saved[name] != request[name]:
            changes.append(what)
    return changes


def _is_part(saved: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether a saved sweep of trainings lacks some values of the requested one, and differs in nothing else."""
    if not saved.get("end_to_end") or not request.get("end_to_end"):
        return False
    names = [name for name in SWEPT if name in request]
    return not _differences({**saved, **{name: request[name] for name in names}}, request) and all(
        {*saved[name]} <= {*request[name]} for name in names
    )


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a sweep. Its cache is compared by content."""
    swept = {name: request[name] for name in SWEPT if name in request}
    return {name: value for name, value in request.get("base", {}).items() if name not in ("cache", *swept)} | swept


def _foreign(folder: Path) -> str | None:
    """Name of something in the folder of a sweep that no command wrote; None if there is nothing."""
    ours = (LOCK_FILE, *FILES, *(partial_path(Path(name)).name for name in FILES))
    for path in folder.iterdir():
        if path.name not in (*FOLDERS, *(removed_name(name) for name in FOLDERS)) and not (
            path.is_file() and path.name in ours
        ):
            return path.name
    if (logged := foreign_log(folder)) is not None:
        return str(logged)
    for run in (folder / "runs").glob("*"):
        if not run.is_dir():
            return f"runs/{run.name}"
        if (foreign := foreign_file(run)) is not None:
            return f"runs/{run.name}/{foreign}"
    for training in sorted((folder / TRAININGS).glob("*")):
        if not training.is_dir() and training.suffix != ".lock":
            return f"{TRAININGS}/{training.name}"
        if (of_others := foreign_path(training)) is not None:
            return f"{TRAININGS}/{training.name}/{of_others}"
    return None
