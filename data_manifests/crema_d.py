"""CREMA-D: 7,442 clips of 91 actors speaking 12 sentences in six emotions (Cao et al. 2014).

The list ships as `crema_d.csv`; `SOURCES.md` says where it comes from. Splits: `split` and `split_field-val` are the
field's random split with a validation part (5,954 / 744 / 744), `split_field` the same test without one
(6,698 / 744), `split_actor` keeps each actor on one side (5,972 / 732 / 738).
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from amr.data_manifests.coverage import ManifestReport, named, report_on
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.media_index import AUDIO_ORDER, VIDEO, choose, index_media

HOMEPAGE = "https://github.com/CheyneyComputerScience/CREMA-D"
LIST = Path(__file__).with_name("crema_d.csv")


def read_list() -> pd.DataFrame:
    """The shipped list: (7442, columns), every value str."""
    return pd.read_csv(LIST, dtype=str, keep_default_na=False)


def build(root: Path) -> tuple[Manifest, ManifestReport]:
    """All clips, with the files that are below a folder, in whatever arrangement.

    Audio is taken from the wav, else the flv's own sound track, else the mp3, else any other file of the clip; video
    from the flv, else any other video file. Column `group` is the actor.

    Raises:
        FileNotFoundError: there is no such folder.
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
        notes.append(f"{len(blank)} official mp3 files hold no voice and are not used: {named(blank)}.")
    known = set(clips["id"])
    strangers = [path for stem, paths in index.files.items() if stem not in known for path in paths]
    if strangers:
        notes.append(f"{len(strangers)} files are no clip of CREMA-D and are left out: {named(strangers)}.")
    manifest = Manifest("crema-d", Path(os.path.abspath(root)), clips)
    return manifest, report_on(manifest, modalities=("audio", "video"), notes=notes)
