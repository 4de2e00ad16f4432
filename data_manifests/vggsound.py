"""VGGSound: YouTube clips of 10 s in 309 classes whose sound source is in the picture (Chen et al. 2020).

The test list ships as `vggsound_test.csv`, with the re-annotation of VGGSounder, and the classes as
`vggsound_classes.csv`; `SOURCES.md` names their sources. The train list does not ship: users put the official
`vggsound.csv` into the root.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from amr.common.csv_rows import read_csv_rows
from amr.data_manifests.coverage import ManifestReport, named, report_on, with_coverage
from amr.data_manifests.dataset import ANY_CONTENT, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import SPLITS, Manifest
from amr.data_manifests.media_index import index_media
from amr.data_manifests.user_lists.media import VIDEO_ID, match_intervals

HOMEPAGE = "https://www.robots.ox.ac.uk/~vgg/data/vggsound"
TEST_LIST = Path(__file__).with_name("vggsound_test.csv")
CLASS_LIST = Path(__file__).with_name("vggsound_classes.csv")
# Column of labels without their modality, for --label-separator ';'.
LABELS = "vggsounder_labels"

_START = re.compile(r"[0-9]{1,6}")  # seconds


def read_test_list() -> pd.DataFrame:
    """Read the shipped test list: `(15446, columns)`, every value str."""
    return pd.read_csv(TEST_LIST, dtype=str, keep_default_na=False)


def read_classes() -> pd.DataFrame:
    """Read the 309 classes with their group and original number of clips: `(309, 3)`, every value str."""
    return pd.read_csv(CLASS_LIST, dtype=str, keep_default_na=False)


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of the test clips and of a `vggsound.csv` in the root or a folder of it, with their files.

    A file is named `<video>_<start, 6 digits>`, as in the official list, or `<video>_<start>`,
    `<video>_<start>_<end>` (seconds or milliseconds), or `<video>` if only one clip of that video is listed. It may be
    in any subfolder. Column `group` is the video, so that a carved split keeps the clips of a video together. Column
    `vggsounder_labels` is as `joined_labels` has it.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: A row of vggsound.csv is wrong; the message names its line.
    """
    root = Path(root)
    index = index_media(root, HOMEPAGE)
    clips = read_test_list()
    classes = list(read_classes()["class"])
    user_list = next(iter(sorted([*root.glob("vggsound.csv"), *root.glob("*/vggsound.csv")])), None)
    notes = index.notes()
    if user_list is None:
        notes.append(
            "train clips are not listed: put the official vggsound.csv "
            "(https://github.com/hche11/VGGSound/tree/master/data) into the root."
        )
    else:
        clips, more = add_user_list(clips, read_user_list(user_list), classes)
        notes += more
    clips.insert(3, "group", clips["id"].str[:11])
    clips.insert(list(clips).index("vggsounder") + 1, LABELS, joined_labels(clips))
    clips["audio_path"], clips["video_path"], more = match_intervals(index, list(clips["id"]))
    manifest = Manifest("vggsound", Path(os.path.abspath(root)), clips)
    report = report_on(manifest, modalities=("audio", "video"), classes=classes, notes=[*notes, *more])
    return manifest, with_coverage(report, "About a fifth of the videos are gone from YouTube for everyone.")


def joined_labels(clips: pd.DataFrame) -> list[str]:
    """Labels of each clip joined by ";": VGGSounder's, `absent` for a test clip that it did not annotate.

    Clips of other splits, which it does not cover, have their one label of VGGSound: models are trained on these.

    Args:
        clips: Table with columns label, split and vggsounder.
    """
    labels = []
    for label, split, tags in zip(clips["label"], clips["split"], clips["vggsounder"], strict=True):
        names = [tag.rpartition(":")[0] for tag in tags.split(";") if tag]
        labels.append(";".join(dict.fromkeys(names)) or ("absent" if split == "test" else label))
    return labels


def read_user_list(csv: Path) -> pd.DataFrame:
    """Read a `vggsound.csv` (video, start in seconds, label, split; no header) into `(rows, 3)`: id, label, split.

    Raises:
        ValueError: A row does not have a video, a start, a label and a split.
    """
    rows: list[tuple[str, str, str]] = []
    for values, line in zip(*read_csv_rows(csv), strict=True):
        if not values or (line == 1 and values[1:2] and not _START.fullmatch(values[1])):
            continue  # a blank line, or a header that someone added
        place = f"line {line} of {csv.name}"
        video, start, label, split = values if len(values) == 4 else ("",) * 4
        if not VIDEO_ID.fullmatch(video) or not _START.fullmatch(start) or not label:
            raise ValueError(f"{place} must be video,start,label,split, got {values}. Take the official list.")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r} on {place}. Correct it.")
        rows.append((f"{video}_{int(start):06d}", label, split))
    return pd.DataFrame(rows, columns=["id", "label", "split"], dtype=str)


def add_user_list(clips: pd.DataFrame, rows: pd.DataFrame, classes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Append a user's train (and val) clips to the test list; also return notes on the rows that are left out.

    The test split is always the shipped one, so that results are comparable; a user's test rows are only checked. The
    official vggsound.csv has 50 test and 241 train rows more than the official lists of the two splits.
    """
    notes = []

    def leave_out(rows: pd.DataFrame, wrong: pd.Series, why: str) -> pd.DataFrame:
        if wrong.any():
            notes.append(f"{int(wrong.sum())} rows of vggsound.csv {why}: {named(list(rows['id'][wrong]))}.")
        return rows[~wrong]

    unknown = sorted(set(rows["label"]) - set(classes))
    rows = leave_out(
        rows, rows["label"].isin(unknown), f"have none of the 309 classes ({named(unknown)}) and are left out"
    )
    rows = leave_out(rows, rows["id"].duplicated(), "repeat a clip and are left out")
    official = clips.set_index("id")["label"]
    expected = rows["id"].map(official)
    is_official = expected.notna()
    differs = is_official & ((rows["split"] != "test") | (rows["label"] != expected))
    rows = leave_out(rows, differs, "contradict the official test list and are left out")
    is_unlisted = ~rows["id"].isin(official.index) & (rows["split"] == "test")
    rows = leave_out(rows, is_unlisted, "have split test but are not in the official test list and are left out")
    return pd.concat([clips, rows[rows["split"] != "test"]], ignore_index=True).fillna(""), notes


datasets.register("vggsound")(
    Dataset(
        name="vggsound",
        summary="YouTube clips of 10 s, 309 classes of sound sources in the picture; test list with VGGSounder's tags",
        licence="lists CC BY 4.0 and Apache-2.0; media belong to their uploaders",
        homepage=HOMEPAGE,
        modalities=("audio", "video"),
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": ANY_CONTENT,
        },
    )
)
