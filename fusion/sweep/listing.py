"""List runs, sweeps, tables and trainings with their settings and results: `amr runs`. Nothing here imports torch."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from amr.common.files import NotWhole, read_json
from amr.common.workspace import TRAININGS, encoders_dir, find_folder, is_training, runs_dir, training_runs
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.choices import least_is_best
from amr.fusion.runs.folder import UNFINISHED
from amr.fusion.runs.read import flat, read_run
from amr.fusion.runs.record import RUN_FILES, RunRecord

# of config.json; other programs write a file of that name, too
KEYS = {"config", "classes", "modalities"}
FINISHED, NOT_FINISHED, DAMAGED = STATES = ("finished", "unfinished", "damaged")
# names that a column may also be typed by; any other measure is that of test
ALIASES = {"val": "val.accuracy", "test": "test.accuracy", "ratio": "amr_ratio", "weight": "amr_weight"}
USE = re.compile(r"^(val\.|test\.|)use\.")  # files call it perceptual


@dataclass(frozen=True)
class Entry:
    """One row of the list.

    Args:
        folder: Folder of the run, sweep or table.
        run: Path of the folder from the listed folder on.
        kind: `fit`, `sweep`, `table`, `frontier`, or `training` of encoders; `member` for one of several runs of those;
            `audit` of a model; `unknown` for an unreadable folder.
        state: One of `STATES`; a sweep is finished if all its runs are.
        note: Reason of damage, or number of runs of a sweep.
        settings: Settings of a run, as in config.json, with a list of modalities; empty for sweeps and damaged folders.
        val, test: Measures of a finished run; None if the split has no clips.
    """

    folder: Path
    run: str
    kind: str
    state: str
    note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Row of `amr runs --json`."""
        return asdict(self) | {"folder": str(self.folder)}

    def row(self) -> dict[str, Any]:
        """Column to its value; measures are named as `test.share.audio`."""
        measured = {f"{split}.{name}": v for split in ("val", "test") for name, v in flat(self._of(split)).items()}
        counts = {name: int(value) for name, value in measured.items() if ".num_" in name}
        first = {"run": self.run, "kind": self.kind, "state": self.state, "note": self.note}
        return {**first, **self.settings, **measured, **counts, "folder": str(self.folder)}

    def _of(self, split: str) -> Mapping[str, Any]:
        return (self.val if split == "val" else self.test) or {}


def list_runs(
    folder: Path | str | None = None, *, where: Sequence[str] = (), sort: str | None = None, reverse: bool = False
) -> list[Entry]:
    """List the runs, sweeps, tables and trainings of encoders in a folder and the folders below it.

    Args:
        folder: Folder to search, a run or a sweep, by path or by name in runs/ or encoders/; None for both of these.
        where: Conditions COLUMN=VALUE, of which all must hold; `none` is a setting that is not set.
        sort: Column to sort by: the best first for measures (high to low, but errors such as mae low to high), others
            from low to high, rows without a value last. By default the order of names.
        reverse: Whether to sort the other way around.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A condition is not COLUMN=VALUE, or a column is unknown.
    """
    homes = [runs_dir(), encoders_dir()]
    roots = homes if folder is None else [find_folder(folder, "DIR")]
    entries = [entry for root in roots if root.is_dir() for entry in _entries(root, _names_from(root, homes))]
    columns = list(dict.fromkeys(name for entry in entries for name in entry.row()))
    for condition in where:
        holds = _condition(condition, columns)
        entries = [entry for entry in entries if holds(entry)]
    if sort is None:
        return entries[::-1] if reverse else entries
    name = column_name("--sort", sort, columns)
    return _sorted(entries, name, descending=descends(name) != reverse)


def _names_from(folder: Path, homes: Sequence[Path]) -> Path:
    """Folder that names begin from, so that other commands take them: runs/ or encoders/, else the folder itself."""
    above = [home for home in homes if folder.resolve().is_relative_to(home.resolve())]
    return above[0] if above else folder


def _entries(folder: Path, root: Path, above: tuple[Path, ...] = ()) -> Iterator[Entry]:
    """Entries of a folder and of those below it, in the order of their names.

    Args:
        folder: Folder to search.
        root: Folder that names begin from.
        above: Real paths of the folders that led to this one.
    """
    name = folder.resolve().name if folder == root else os.path.relpath(folder, root)
    try:
        is_sweep, is_run = (folder / "sweep.json").is_file(), _is_run(folder)
        trains_encoders = _is_training(folder)
        below = _folders(folder / "runs" if is_sweep else folder, above)
        kinds = [kind for kind in ("table", "frontier") if (folder / f"{kind}.json").is_file()]
    except OSError as error:
        yield Entry(folder, name, "unknown", DAMAGED, _reason(error, "the folder"))
        return
    if is_sweep:
        members = [_run(each, os.path.relpath(each, root), "member") for each in below]
        members += _unfinished(folder / TRAININGS, root)
        finished = sum(member.state == FINISHED for member in members)
        state = FINISHED if finished == len(members) > 0 else NOT_FINISHED
        count = f"{finished} of {len(members)}" if finished < len(members) else str(finished)
        runs = "run" if len(members) == 1 else "runs"
        yield Entry(folder, name, next(iter(kinds), "sweep"), state, f"{count} {runs}")
        yield from members
    elif trains_encoders:
        yield from _training(folder, name)
    elif is_run:
        yield _run(folder, name, "fit")
    else:
        for each in below:
            yield from _entries(each, root, (*above, folder.resolve()))


def _is_run(folder: Path) -> bool:
    """Whether a folder is one of amr fit, perhaps a damaged one."""
    if (folder / UNFINISHED).is_dir():
        return True
    file = folder / "config.json"
    if not file.is_file():
        return False
    try:
        saved = read_json(file)
    except (ValueError, OSError):
        saved = None
    if not saved:  # the other files tell
        return any((folder / name).is_file() for name in RUN_FILES if name != file.name)
    return isinstance(saved, dict) and saved.keys() >= KEYS


def _is_training(folder: Path) -> bool:
    """Whether a folder is that of a training, perhaps with a damaged config.json."""
    try:
        return is_training(folder)
    except NotWhole:
        return not any((folder / name).exists() for name in ("weights.safetensors", "fold-0"))


def _training(folder: Path, name: str) -> Iterator[Entry]:
    """Entries of a training of encoders: its run if it is joint, else one per modality."""
    for file in ("config.json", "metrics.json"):
        try:
            read_json(folder / file)
        except (ValueError, OSError) as error:
            yield Entry(folder, name, "training", DAMAGED, _reason(error, file))
            return
    state = FINISHED if (folder / "metrics.json").is_file() else NOT_FINISHED
    runs = training_runs(folder) if state == FINISHED else []
    if len(runs) == 1 and runs[0].parent == folder:
        yield replace(_run(runs[0], name, "training"), folder=folder)
        return
    count = "no run" if state == FINISHED and not runs else ", ".join(run.parent.name for run in runs)
    yield Entry(folder, name, "training", state, count)
    yield from (replace(_run(run, f"{name}/{run.parent.name}", "member"), folder=run.parent) for run in runs)


def _unfinished(folder: Path, root: Path) -> list[Entry]:
    """Entries of the trainings of a sweep that are not finished: they have no run yet."""
    started = sorted(file.parent for file in folder.glob("*/config.json"))
    return [
        Entry(each, os.path.relpath(each, root), "member", NOT_FINISHED)
        for each in started
        if not (each / "metrics.json").is_file()
    ]


def _folders(folder: Path, above: tuple[Path, ...]) -> list[Path]:
    """Folders in a folder, without links to it or to a folder above it."""
    if not folder.is_dir():
        return []
    ancestors = (*above, folder.resolve())
    found = sorted(path for path in folder.iterdir() if _is_folder(path) and not path.name.startswith("."))
    return [path for path in found if not (path.is_symlink() and _leads_up(path, ancestors))]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its entry says why
        return True


def _leads_up(link: Path, ancestors: Sequence[Path]) -> bool:
    target = link.resolve()
    return any(ancestor.is_relative_to(target) for ancestor in ancestors)


def _run(folder: Path, name: str, kind: str) -> Entry:
    file = "config.json"
    try:
        measured = (folder / "metrics.json").is_file()
        place = folder if measured or (folder / file).is_file() else folder / UNFINISHED
        settings = {}
        if measured or (place / file).is_file():
            record = RunRecord.read(place)
            settings, kind = _settings(record), kind if record.model is None else "audit"
        if not measured:
            return Entry(folder, name, kind, NOT_FINISHED, "", settings)
        file = "metrics.json"
        run = read_run(folder)
    except (ValueError, OSError) as error:
        return Entry(folder, name, kind, DAMAGED, _reason(error, file))
    return Entry(folder, name, kind, FINISHED, "", settings, run.val, run.test)


def _reason(error: Exception, what: str) -> str:
    """Reason of damage in a few words."""
    if isinstance(error, FileNotFoundError):
        return f"{what} is missing"
    why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{what} cannot be read{why}"


def _settings(record: RunRecord) -> dict[str, Any]:
    settings = asdict(record.config)
    del settings["logger"]  # it is not saved
    del settings["out"]  # where the run was first written to; it may have been moved
    if record.config.amr_ratio is None:
        settings["amr_weight"] = None
    if record.model is not None:  # its settings are its own
        own = {"method": record.model, "task": record.config.task, "seed": record.config.seed}
        settings = dict.fromkeys(settings) | own
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return listed | {"modalities": list(record.modalities), "cache": record.cache}


def descends(name: str) -> bool:
    """Whether a column is sorted from high to low: measures whose highest value is the best."""
    return name.startswith(("val.", "test.")) and not least_is_best(name.partition(".")[2])


def column_name(option: str, text: str, columns: Sequence[str]) -> str:
    """Column that a text names."""
    typed = text.strip()
    measure = USE.sub(r"\1perceptual.", typed)
    for name in (typed, ALIASES.get(typed), typed.replace("-", "_"), measure, f"test.{measure}"):
        if name in columns:
            return str(name)
    name = ALIASES.get(typed, typed)
    if name in ALIASES.values() or not columns:  # nothing is measured yet
        return name
    shorter = {name.removeprefix("test."): name for name in columns}
    close = difflib.get_close_matches(typed, [*columns, *shorter, *ALIASES], n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else "The first line of amr runs --format csv has them all."
    raise ValueError(f"{option} must name a setting or a measure, got {typed!r}. {hint}")


def _condition(text: str, columns: Sequence[str]) -> Callable[[Entry], bool]:
    name, equals, wanted = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError(f"--where must be COLUMN=VALUE, got {text!r}. Pass for example --where method=ogm-ge.")
    column = column_name("--where", name, columns)
    return lambda entry: _equals(entry, column, wanted)


def _equals(entry: Entry, column: str, wanted: str) -> bool:
    row = entry.row()
    if column not in row:
        return False
    value = row[column]
    if value is None or value == []:
        return wanted.lower() in ("none", "")
    if column == "amr_ratio":
        target = _target(wanted, entry)
        return target is not None and target == _target(str(value), entry)
    if isinstance(value, list):
        return ",".join(map(str, value)) == wanted.replace(" ", "")
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, int | float):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return str(value) == wanted or (column == "cache" and Path(str(value)).stem == wanted)


def _target(ratio: str, entry: Entry) -> list[float] | None:
    """Target shares of a ratio, however it is typed; None if it is not one of the run's modalities."""
    try:
        return [round(share, 9) for share in parse_ratio(ratio, entry.settings["modalities"])]
    except ValueError:
        return None


def _sorted(entries: Sequence[Entry], name: str, *, descending: bool) -> list[Entry]:
    """Sort by a column: numbers before texts, rows without a value last in both directions."""
    values = [(entry, entry.row().get(name)) for entry in entries]
    present = [(entry, value) for entry, value in values if value is not None and value != ""]
    absent = [entry for entry, value in values if value is None or value == ""]

    def key(pair: tuple[Entry, Any]) -> tuple[bool, Any]:
        is_text = not isinstance(pair[1], int | float)
        return is_text, str(pair[1]) if is_text else pair[1]

    return [entry for entry, _ in sorted(present, key=key, reverse=descending)] + absent
