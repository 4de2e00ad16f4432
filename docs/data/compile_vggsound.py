"""Compile data_manifests/vggsound_test.csv and vggsound_classes.csv from the official lists and VGGSounder.

    python docs/data/compile_vggsound.py TABLES data_manifests

TABLES holds, from github.com/hche11/VGGSound: test.csv (file,label) and stat.csv (class,count,group), neither with a
header; and vggsounder.csv (video_id,label,modality,background_music,static_image,voice_over) from
github.com/Bizilizi/VGGSounder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

FLAGS = ("background_music", "static_image", "voice_over")


def compile_test(tables: Path) -> pd.DataFrame:
    """The test list: `(15446, columns)`, every value str.

    `vggsounder` holds all of a clip's tags as `label:modality` joined by `;` (no label contains either character).
    The modality is A (heard), V (seen) or AV. `vggsounder_modality` is that of the clip's own label, "" if VGGSounder
    does not confirm the label. The flags are 1 or 0. All are "" for clips that VGGSounder left out.
    """
    clips = _read(tables / "test.csv", header=None, names=["file", "label"])
    clips.insert(0, "id", clips.pop("file").str.removesuffix(".mp4"))
    clips["split"] = "test"
    tags = _read(tables / "vggsounder.csv")
    pairs = (tags["label"] + ":" + tags["modality"]).groupby(tags["video_id"]).agg(";".join)
    own = tags.set_index(["video_id", "label"])["modality"]
    clips["vggsounder"] = clips["id"].map(pairs).fillna("")
    clips["vggsounder_modality"] = own.reindex(pd.MultiIndex.from_frame(clips[["id", "label"]])).fillna("").to_numpy()
    flags = tags.groupby("video_id")[list(FLAGS)]
    if (flags.nunique() > 1).any(axis=None):
        raise ValueError("flags must be the same on every row of a clip, got several. Keep them per tag.")
    for name, values in flags.first().items():
        clips[str(name)] = clips["id"].map(values.map({"True": "1", "False": "0"})).fillna("")
    return clips


def compile_classes(tables: Path) -> pd.DataFrame:
    """The classes: `(309, 3)`, sorted by name."""
    classes = _read(tables / "stat.csv", header=None, names=["class", "count", "group"])
    return classes[["class", "group", "count"]].sort_values("class", ignore_index=True)


def _read(csv: Path, **options: object) -> pd.DataFrame:
    return pd.read_csv(csv, dtype=str, keep_default_na=False, **options)


def main() -> None:
    """Write both lists."""
    tables, out = Path(sys.argv[1]), Path(sys.argv[2])
    compile_test(tables).to_csv(out / "vggsound_test.csv", index=False, lineterminator="\n")
    compile_classes(tables).to_csv(out / "vggsound_classes.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
