"""Kinetics-Sounds: the clips of Kinetics-400 in 31 classes that can be heard as well as seen.

Arandjelovic & Zisserman 2017 (Look, Listen and Learn) chose 34 classes of the first version of Kinetics. The lists of
Kinetics-400 that came out have 32 of them under their own name; the field's work on modality balance, from OGM-GE on,
takes 31, without "strumming guitar". The 31 names are those of github.com/IBM/AdaMML (issue 3). They agree with the
class numbers of the clip lists of github.com/GeWu-Lab/OGM-GE_CVPR2022 (`data/KineticSound`), and with
github.com/pritamqu/CrissCross (issue 4), which has "strumming guitar" besides.

The lists do not ship: users put Kinetics-400's own train.csv, val.csv and test.csv into the root (columns label,
youtube_id, time_start, time_end, split and sometimes is_cc; CC BY 4.0, Google). Two divisions are usual:

    split               official train, val and test parts, as in AV-SUPERB. The test clips of OGM-GE's lists are no
                        clips of val, either: 84 per class, where val has at most 50 and test at most 100
    split_test-on-val   official train and, as test, official val, as most work on Kinetics reports it. A part of train
                        is split off to choose the epoch, as for VGGSound
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from amr.common.csv_rows import read_csv_rows
from amr.data_manifests.coverage import ManifestReport, named, report_on, with_coverage
from amr.data_manifests.dataset import ANY_CONTENT, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.media_index import index_media
from amr.data_manifests.schema import counted
from amr.data_manifests.user_lists.lists import each_once, list_folder, refuse_empty
from amr.data_manifests.user_lists.media import VIDEO_ID, match_intervals

HOMEPAGE = "https://github.com/cvdfoundation/kinetics-dataset"
LISTS_AT = "https://s3.amazonaws.com/kinetics/400/annotations/"
# Test first: a clip in two lists belongs to the first of them.
LISTS = {"test": "test.csv", "val": "val.csv", "train": "train.csv"}
CLASSES = (
    "blowing nose",
    "blowing out candles",
    "bowling",
    "chopping wood",
    "dribbling basketball",
    "laughing",
    "mowing lawn",
    "playing accordion",
    "playing bagpipes",
    "playing bass guitar",
    "playing clarinet",
    "playing drums",
    "playing guitar",
    "playing harmonica",
    "playing keyboard",
    "playing organ",
    "playing piano",
    "playing saxophone",
    "playing trombone",
    "playing trumpet",
    "playing violin",
    "playing xylophone",
    "ripping paper",
    "shoveling snow",
    "shuffling cards",
    "singing",
    "stomping grapes",
    "tap dancing",
    "tapping guitar",
    "tapping pen",
    "tickling",
)

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_SECONDS = re.compile(r"(\d{1,6})(?:\.0*)?")
# Words for a split in the lists of the versions of Kinetics.
_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of the clips of the 31 classes in the user's lists, with their files.

    The lists are in the root or in a folder in it, such as `annotations`. A file is named
    `<video>_<start, 6 digits>_<end, 6 digits>`, as in the official download, or as `match_intervals` has it, in any
    subfolder; of equal names the first path by the alphabet counts, so that the official `replacement` of corrupted
    files does. Column `group` is the video.

    Raises:
        FileNotFoundError: The folder, train.csv or val.csv does not exist.
        ValueError: A row of a list is wrong; the message names its line.
    """
    index = index_media(root, HOMEPAGE)
    folder = list_folder(root, [LISTS["train"], LISTS["val"]], LISTS_AT)
    clips, list_notes = read_lists(folder)
    clips["audio_path"], clips["video_path"], file_notes = match_intervals(index, list(clips["id"]))
    manifest = Manifest("kinetics-sounds", Path(os.path.abspath(root)), clips, tuple(list_notes))
    notes = [*index.notes(), *file_notes]
    report = report_on(manifest, modalities=("audio", "video"), classes=CLASSES, notes=notes)
    return manifest, with_coverage(report, "Some of the videos are gone from YouTube.")


def read_lists(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the lists in a folder into a table of clips `(rows, columns)`, every value str, and notes.

    Raises:
        ValueError: A row is wrong, or train.csv or val.csv has no clip of the 31 classes.
    """
    notes: list[str] = []
    parts = []
    for split, name in LISTS.items():
        part = read_list(folder / name, split)
        if part is not None:
            parts.append(part.assign(list=name, split=split))
        else:
            notes.append(
                f"no test clips: {name} with labels is not in {str(folder)!r} (get it from {LISTS_AT}). "
                "amr fit --split-policy test-on-val tests on the official val clips."
            )
    rows = each_once(pd.concat(parts, ignore_index=True), ["id"], notes)
    refuse_empty(rows, [LISTS["train"], LISTS["val"]], "clips of the 31 classes of Kinetics-Sounds", notes)
    lacking = sorted(set(CLASSES) - set(rows["label"]))
    if lacking:
        classes = counted(len(lacking), "class has", "classes have")
        notes.append(f"{classes} no clip in the lists ({named(lacking)}): take those of Kinetics-400.")
    clips = pd.DataFrame(
        {
            "id": rows["id"],
            "label": rows["label"],
            "split": rows["split"],
            "group": rows["id"].str[:11],
            "split_test-on-val": rows["split"].map({"train": "train", "val": "test", "test": ""}),
        },
        dtype=str,
    )
    return clips.reset_index(drop=True), notes


def read_list(path: Path, split: str) -> pd.DataFrame | None:
    """Read the clips of the 31 classes of a list into `(rows, 2)`: id, label.

    Args:
        path: CSV of Kinetics.
        split: Split that the list must be of.

    Returns:
        The table; for test, None if there is no list, or one without labels, as in the first release.

    Raises:
        ValueError: A column is missing or a row is wrong; the message names its line.
    """
    if split == "test" and not path.is_file():
        return None
    found = [(values, line) for values, line in zip(*read_csv_rows(path), strict=True) if values]
    header = [name.strip().casefold() for name in found[0][0]] if found else []
    if split == "test" and "label" not in header and {*_COLUMNS[1:]} <= {*header}:
        return None
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ValueError(
            f"{path.name} must have the columns {', '.join(_COLUMNS)}, got {', '.join(header) or 'an empty file'} "
            f"without {', '.join(missing)}. Take the list of Kinetics-400: {LISTS_AT}{path.name}"
        )
    rows = []
    for values, line in found[1:]:
        place = f"line {line} of {path.name}"
        if len(values) != len(header):
            raise ValueError(f"{place} must have {len(header)} values, got {len(values)}. Take the official list.")
        row = dict(zip(header, values, strict=True))
        label = row["label"].replace("_", " ")
        if label in CLASSES:
            rows.append((_clip_id(row, place), label))
            _check_split(row.get("split", ""), split, place)
    return pd.DataFrame(rows, columns=["id", "label"], dtype=str)


def _clip_id(row: dict[str, str], place: str) -> str:
    """Id of a clip, as the files of the official download are named."""
    start, end = (_SECONDS.fullmatch(row[name]) for name in ("time_start", "time_end"))
    if not VIDEO_ID.fullmatch(row["youtube_id"]) or start is None or end is None:
        got = ", ".join(f"{name}={row[name]!r}" for name in _COLUMNS[1:])
        raise ValueError(f"{place} must have a video id and two times in seconds, got {got}. Take the official list.")
    return f"{row['youtube_id']}_{int(start[1]):06d}_{int(end[1]):06d}"


def _check_split(found: str, split: str, place: str) -> None:
    if _SPLITS.get(found.strip().casefold(), split) != split:
        raise ValueError(f"split must be {split}, got {found!r} on {place}. Give each list its official name.")


datasets.register("kinetics-sounds")(
    Dataset(
        name="kinetics-sounds",
        summary="YouTube clips of 10 s, 31 classes of Kinetics-400 heard and seen; reads your copy of its lists",
        licence="lists CC BY 4.0, which do not ship; media belong to their uploaders",
        homepage=HOMEPAGE,
        modalities=("audio", "video"),
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            # not ACTIONS: its model of movement was trained on these very clips and labels
            "pretrained": ANY_CONTENT,
        },
    )
)
