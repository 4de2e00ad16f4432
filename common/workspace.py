"""Folders of the workspace: data/, caches/, encoders/ and runs/ (results), in $AMR_HOME or the current folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from amr.common.files import NotWhole, has_checksum, read_whole
from amr.common.registry import closest

MAX_NAMES = 8  # names that an error lists
JOINT_RUN = "run"  # folder of the run in that of a joint training of encoders, or of one of its encoders
EMBEDDINGS = "embeddings.h5"  # cache of the z of a training of encoders, beside the run
TRAININGS = "trainings"  # folder of the trainings of encoders in that of a sweep of them


def home() -> Path:
    """The workspace: $AMR_HOME, else the current folder."""
    return Path(os.environ.get("AMR_HOME") or ".")


def media_dir(dataset: str) -> Path:
    """Default folder of the media of a dataset."""
    return home() / "data" / dataset


def caches_dir() -> Path:
    """Folder in which caches are written and found by name."""
    return home() / "caches"


def encoders_dir() -> Path:
    """Folder in which your own encoders are written and found by name."""
    return home() / "encoders"


def runs_dir() -> Path:
    """Folder in which results are written."""
    return home() / "runs"


def place(out: str | os.PathLike[str], folder: Path, suffix: str = "") -> Path:
    """Path that an --out names: a path with a slash as it is, a name in a folder of the workspace.

    Args:
        out: Path, or a name without a slash.
        folder: Folder of the workspace that holds the names.
        suffix: Suffix that a name gets if it lacks it.

    >>> place("mine", Path("runs")).as_posix(), place("other/mine", Path("runs")).as_posix()
    ('runs/mine', 'other/mine')
    """
    text = os.fspath(out)
    if _is_path(text):
        return Path(text)
    return folder / (text if text.endswith(suffix) else f"{text}{suffix}")


def _is_path(text: str) -> bool:
    """Whether a text is a path rather than a name."""
    return "/" in text or os.sep in text or text in ("", ".", "..")


def find_cache(name: str | None, option: str = "--cache") -> Path:
    """Find a cache: by path, by name in caches/, or the only one in caches/.

    Args:
        name: Path of an .h5 file, name of one in caches/, or None.
        option: Name of the option, for errors.

    Raises:
        FileNotFoundError: No cache has that path or name, or caches/ is empty.
        ValueError: No name is given and caches/ holds several.
    """
    caches = sorted(path for path in caches_dir().glob("*.h5") if path.is_file())
    names = ", ".join(path.stem for path in caches) or "none"
    if name is not None:
        for path in (Path(name), caches_dir() / name, caches_dir() / f"{name}.h5"):
            if path.is_file():
                return path
        close = closest(Path(name).stem, [path.stem for path in caches])
        advice = f"Did you mean {close}?" if close else "Make one with amr extract or amr import."
        raise FileNotFoundError(
            f"{option} must be a cache file or the name of one in {caches_dir()} ({names}), got {name!r}. {advice}"
        )
    if not caches:
        raise FileNotFoundError(
            f"--cache must be given if {caches_dir()} has no cache, got none. Make one with amr extract or amr import."
        )
    if len(caches) > 1:
        raise ValueError(f"--cache must be given if {caches_dir()} has several ({names}), got none. Pass --cache NAME.")
    return caches[0]


def find_run(name: str | os.PathLike[str], option: str = "RUN") -> Path:
    """Find the folder of a run, a sweep or a table: by path, or by name in runs/; of a joint training, its run.

    A unimodal training has several runs, one per modality: its folder is that of all of them.

    Args:
        name: Path of a folder, or the name of one in runs/ or encoders/; of a run of a sweep, as `amr runs` lists it.
        option: Name of the argument, for errors.

    Raises:
        FileNotFoundError: No folder has that path or name.
        ValueError: It is a training of encoders that is not finished, or that has no run.
    """
    folder = find_folder(name, option)
    run = folder / JOINT_RUN
    if is_training(folder):
        _check_finished(folder, option)
    elif not (folder / "encoder.json").is_file():
        return folder
    return run if (run / "config.json").is_file() else folder


def find_folder(name: str | os.PathLike[str], option: str = "RUN") -> Path:
    """Find the folder of a run, a sweep, a table or a training of encoders, as `find_run`, but as it is.

    Raises:
        FileNotFoundError: No folder has that path or name.
    """
    text = os.fspath(name)
    places = [Path(text), runs_dir() / text, encoders_dir() / text]
    # a folder of another kind in the current folder must not hide a run of the same name
    for is_found in (holds_runs, Path.is_dir):
        for folder in places:
            if is_found(folder):
                return folder
    known = [*runs_dir().glob("*"), *encoders_dir().glob("*")]
    names = sorted(folder.name for folder in known if holds_runs(folder))
    close = closest(Path(text).name, names)
    hint = f"Did you mean {close}?" if close else "Make one with amr fit, amr sweep or amr train-encoders."
    listed = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
    raise FileNotFoundError(
        f"{option} must be the folder of a run or of a sweep, or the name of one in {runs_dir()} or {encoders_dir()} "
        f"({listed or 'none'}), got {text!r}. {hint}"
    )


def check_new_name(out: str | None, other: Path) -> None:
    """Refuse the name of a result that another folder of the workspace has: commands find both by it.

    Args:
        out: Value of --out; a path is no name.
        other: The other folder, runs/ or encoders/.

    Raises:
        ValueError: The name is taken.
    """
    if out is not None and not _is_path(out) and holds_runs(other / out):
        raise ValueError(f"--out must be a name that {other} does not have, got {out!r}. Choose another name.")


def holds_runs(folder: Path) -> bool:
    """Whether a folder is one of amr fit, amr sweep, amr table or amr train-encoders."""
    return (folder / "config.json").is_file() or (folder / "sweep.json").is_file()


def is_training(folder: Path) -> bool:
    """Whether a folder is that of one training of encoders, by its config.json.

    Raises:
        ValueError: The file has other bytes than were written.
    """
    file = folder / "config.json"
    try:
        content = read_whole(file, "RUN") if has_checksum(file) else file.read_bytes()
        saved = json.loads(content)
    except NotWhole:
        raise
    except (OSError, ValueError):
        return False
    return isinstance(saved, dict) and "clips_sha256" in saved  # the config.json of a run has none


def training_of(path: Path) -> Path | None:
    """Training of encoders that a run, or a cache of its z, is part of: perhaps a modality's, or a teacher's."""
    return next((folder for folder in list(path.resolve().parents)[:3] if is_training(folder)), None)


def training_runs(folder: Path) -> list[Path]:
    """Folders of the runs of a training of encoders: that of a joint one, or one per modality."""
    joint = folder / JOINT_RUN
    runs = [joint] if joint.is_dir() else sorted(folder.glob(f"*/{JOINT_RUN}"))
    return [run for run in runs if (run / "config.json").is_file()]


def run_name(folder: Path) -> str:
    """Name of the folder of a run or a sweep; of the run of a training, that of the training, and its modality if any.

    The run of the joint training encoders/even is `even`, and a run of the unimodal training encoders/alone is
    `alone/audio`.
    """
    folder = folder.resolve()
    training = training_of(folder) if folder.name == JOINT_RUN else None
    return folder.name if training is None else folder.parent.relative_to(training.parent).as_posix()


def _check_finished(folder: Path, option: str) -> None:
    """Refuse a training of encoders that has no run yet, or that was made before trainings had any."""
    if not (folder / "metrics.json").is_file():
        raise ValueError(
            f"{option} must be a finished training, got {str(folder)!r}, which was interrupted. "
            "Finish it: run the same amr train-encoders again."
        )
    sweep = folder.parent.parent
    if folder.parent.name == TRAININGS and (sweep / "sweep.json").is_file():
        raise ValueError(
            f"{option} must be a run, got {str(folder)!r}, a training whose runs are in {sweep / 'runs'}. "
            f"Name one of them: amr runs {sweep}."
        )
    if not training_runs(folder):
        encoders = sorted(file.parent for file in folder.glob("*/encoder.json"))
        extraction = " ".join(f"--encoder {encoder.name}=trained:{encoder}" for encoder in encoders)
        raise ValueError(
            f"{option} must be a training with a run, got {str(folder)!r}, which an earlier version made. "
            f"Train again with --overwrite, or fit a head: amr extract {extraction}, then amr fit."
        )
