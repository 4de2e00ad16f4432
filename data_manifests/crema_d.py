"""CREMA-D: 7,442 clips of 91 actors speaking 12 sentences in six emotions (Cao et al. 2014).

The list ships as `crema_d.csv`; `SOURCES.md` names its sources. Splits: `split` and `split_field-val` are the field's
random split with a validation set (5,954 / 744 / 744). `split_field` has the same test set and no validation set
(6,698 / 744). `split_actor` keeps each actor in one split (5,972 / 732 / 738).
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from amr.data_manifests.coverage import ManifestReport, named, report_on
from amr.data_manifests.dataset import EMOTION, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.media_index import AUDIO_ORDER, VIDEO, choose, index_media
from amr.data_manifests.schema import counted

HOMEPAGE = "https://github.com/CheyneyComputerScience/CREMA-D"
LIST = Path(__file__).with_name("crema_d.csv")


def read_list() -> pd.DataFrame:
    """Read the shipped list: `(7442, columns)`, every value str."""
    return pd.read_csv(LIST, dtype=str, keep_default_na=False)


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Make the manifest of all clips, with the files below a folder in any arrangement.

    Audio comes from the wav, else the flv's own sound track, else the mp3, else any other file of the clip. Video comes
    from the flv, else any other video file. Column `group` is the actor.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    index = index_media(root, HOMEPAGE)
    clips = read_list()
    clips.insert(3, "group", clips["actor"])
    blank: list[str] = []
    audio_paths, video_paths = [], []
    for clip, blank_mp3 in zip(clips["id"], clips["blank_mp3"], strict=True):
        paths = index.files.get(clip, [])
        video_paths.append(choose(paths, VIDEO))
        audio_path = choose(paths, AUDIO_ORDER)
        if blank_mp3 and audio_path.lower().endswith(".mp3"):
            blank.append(audio_path)
            audio_path = choose([path for path in paths if not path.lower().endswith(".mp3")], AUDIO_ORDER)
        audio_paths.append(audio_path)
    clips["audio_path"], clips["video_path"] = audio_paths, video_paths
    notes = index.notes()
    if blank:
        files = counted(len(blank), "official mp3 file holds", "official mp3 files hold")
        notes.append(f"{files} no voice, not used: {named(blank)}.")
    known = set(clips["id"])
    unlisted = [path for stem, paths in index.files.items() if stem not in known for path in paths]
    if unlisted:
        files = counted(len(unlisted), "file is no clip", "files are no clips")
        notes.append(f"{files} of CREMA-D, left out: {named(unlisted)}.")
    manifest = Manifest("crema-d", Path(os.path.abspath(root)), clips)
    return manifest, report_on(manifest, modalities=("audio", "video"), notes=notes)


datasets.register("crema-d")(
    Dataset(
        name="crema-d",
        summary="7,442 clips of 91 actors, six emotions, with people's votes on voice, face and both",
        licence="ODbL 1.0 / DbCL 1.0",
        homepage=HOMEPAGE,
        modalities=("audio", "video"),
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": EMOTION,
        },
    )
)
