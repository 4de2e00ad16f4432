"""AVE: 4,143 audio-visual events of 28 classes in 4,097 YouTube clips of 10 s (Tian et al. 2018).

The official lists have no stated license and do not ship. The official download (`AVE_Dataset`) holds trainSet.txt
(3,339 rows), valSet.txt (402), testSet.txt (402) and the media, `AVE/<video>.mp4`. A row of a list is
`Category&VideoID&Quality&StartTime&EndTime`, with or without such a header; the event lasts from StartTime to EndTime
(seconds; 0 and 0 in one official row). A clip is the whole file, as in the field's work on classification.

45 videos have two or three rows, one for each of their categories, and 18 of them are in more than one of the official
lists. Every row is a clip of its own here, so that the official counts hold; public code keeps the first or the last of
such rows instead. `split_video` is free of that leak.

Format, counts and classes were checked against github.com/YapengTian/AVE-ECCV18 (`data/Annotations.txt`, the
`*_order.h5` of the splits; issues 11 and 14) and the copy of the lists in github.com/kkontras/MLB (`datasets/AVE`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from amr.data_manifests.coverage import ManifestReport, report_on
from amr.data_manifests.dataset import ANY_CONTENT, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.media_index import index_media
from amr.data_manifests.user_lists.lists import (
    each_once,
    leave_out,
    list_folder,
    notes_on_counts,
    read_lines,
    refuse_empty,
)
from amr.data_manifests.user_lists.media import VIDEO_ID, match_names

HOMEPAGE = "https://github.com/YapengTian/AVE-ECCV18"
# Test first: a row in two lists belongs to the first of them.
LISTS = {"test": "testSet.txt", "val": "valSet.txt", "train": "trainSet.txt"}
OFFICIAL_COUNTS = {"testSet.txt": 402, "valSet.txt": 402, "trainSet.txt": 3339}
CLASSES = (
    "Accordion",
    "Acoustic guitar",
    "Baby cry, infant cry",
    "Banjo",
    "Bark",
    "Bus",
    "Cat",
    "Chainsaw",
    "Church bell",
    "Clock",
    "Female speech, woman speaking",
    "Fixed-wing aircraft, airplane",
    "Flute",
    "Frying (food)",
    "Goat",
    "Helicopter",
    "Horse",
    "Male speech, man speaking",
    "Mandolin",
    "Motorcycle",
    "Race car, auto racing",
    "Rodents, rats, mice",
    "Shofar",
    "Toilet flush",
    "Train horn",
    "Truck",
    "Ukulele",
    "Violin, fiddle",
)

_HEADER = "Category&VideoID&Quality&StartTime&EndTime"
_SECONDS = re.compile(r"\d+(?:\.\d+)?")


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of the clips in the user's lists, with the files `<video>.mp4` below the root.

    The lists are in the root or in a folder in it. Columns: `group` is the video; `labels` joins all categories of the
    video with ";"; `split_video` is `split` without the train rows of videos that val or test has, and without the val
    rows of videos that test has; `event_start_seconds` and `event_end_seconds` are those of the list.

    Raises:
        FileNotFoundError: The folder or a list does not exist.
        ValueError: A row of a list is wrong; the message names its line.
    """
    index = index_media(root, HOMEPAGE)
    clips, list_notes = read_lists(list_folder(root, list(LISTS.values()), f"AVE_Dataset, linked at {HOMEPAGE}"))
    clips["audio_path"], clips["video_path"], file_notes = match_names(index, list(clips["group"]))
    manifest = Manifest("ave", Path(os.path.abspath(root)), clips, tuple(list_notes))
    notes = [*index.notes(), *file_notes]
    return manifest, report_on(manifest, modalities=("audio", "video"), classes=CLASSES, notes=notes)


def read_lists(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the three lists into a table of clips `(rows, columns)`, every value str, and notes.

    The id is the video; where a video has several rows, the second and third have `<video>_2` and `<video>_3`.

    Raises:
        ValueError: A row is wrong, or a list has no row of a known class.
    """
    parts = {split: read_list(folder / name) for split, name in LISTS.items()}
    rows = pd.concat([part.assign(list=LISTS[split], split=split) for split, part in parts.items()], ignore_index=True)
    notes: list[str] = []
    unknown = ~rows["label"].isin(CLASSES)
    rows = leave_out(rows, unknown, "of none of AVE's 28 classes", notes)
    rows = each_once(rows, ["id", "label"], notes)
    refuse_empty(rows, list(LISTS.values()), "clips of AVE's 28 classes", notes)
    notes += notes_on_counts(rows, OFFICIAL_COUNTS)
    videos = rows["id"]
    nth = rows.groupby("id").cumcount() + 1
    splits = rows["split"].groupby(videos)
    first = videos.map(splits.first())  # lists are in order: the strictest split of the video
    clips = pd.DataFrame(
        {
            "id": videos.where(nth == 1, videos + "_" + nth.astype(str)),
            "label": rows["label"],
            "split": rows["split"],
            "group": videos,
            "labels": videos.map(rows["label"].groupby(videos).agg(";".join)),
            "split_video": rows["split"].where(rows["split"] == first, ""),
            "event_start_seconds": rows["start"],
            "event_end_seconds": rows["end"],
        },
        dtype=str,
    )
    return clips.reset_index(drop=True), notes


def read_list(path: Path) -> pd.DataFrame:
    """Read a list into `(rows, 4)`: id (the video), label, start and end of the event in seconds.

    Raises:
        ValueError: A row does not have a category, a video, a quality and two times.
    """
    rows: list[tuple[str, str, str, str]] = []
    for number, line in read_lines(path):
        values = [value.strip() for value in line.split("&")]
        if number == 1 and values[0].casefold() == "category":
            continue
        label, video, _, start, end = values if len(values) == 5 else ("",) * 5
        if not label or not VIDEO_ID.fullmatch(video) or not (_SECONDS.fullmatch(start) and _SECONDS.fullmatch(end)):
            raise ValueError(
                f"line {number} of {path.name} must be {_HEADER}, got {line[:80]!r}. Take the official list."
            )
        rows.append((video, label, start, end))
    return pd.DataFrame(rows, columns=["id", "label", "start", "end"], dtype=str)


datasets.register("ave")(
    Dataset(
        name="ave",
        summary="4,143 YouTube clips of 10 s, 28 classes of events heard and seen; reads your copy of its lists",
        licence="none stated for the lists, which do not ship; media belong to their uploaders",
        homepage=HOMEPAGE,
        modalities=("audio", "video"),
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": ANY_CONTENT,
        },
    )
)
