"""Compile data_manifests/crema_d.csv from the official CREMA-D tables and the field's split.

    python docs/data/compile_crema_d.py TABLES data_manifests/crema_d.csv

TABLES holds, from github.com/CheyneyComputerScience/CREMA-D: SentenceFilenames.csv, tabulatedVotes.csv,
VideoDemographics.csv, CREMA-D_README.md, official_media_sha256.csv (path,size,sha256 of all media); from
github.com/GeWu-Lab/OGM-GE_CVPR2022: ogm_ge_train.csv, ogm_ge_test.csv; and from
github.com/GeWu-Lab/Diagnosing_Relearning_ECCV2024: gewu_diag_my_train.csv, gewu_diag_val.csv.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pandas as pd

LABELS = {"A": "ANG", "D": "DIS", "F": "FEA", "H": "HAP", "N": "NEU", "S": "SAD"}
QUERIES = {"1": "voice", "2": "face", "3": "both"}  # first digit of a row id in tabulatedVotes.csv
TEST_ACTORS, VAL_ACTORS = 9, 9
NUM_DRAWS = 500

# From the official README: under these names, raters were shown something other than the clip.
BAD = {
    "1064_IEO_DIS_MD": "bad: flv and mp3 a minute long, with every emotion",
    "1064_TIE_SAD_XX": "bad: flv and mp3 without duration",
    "1076_MTI_NEU_XX": "bad: flv and mp3 very short, without audio",
    "1076_MTI_SAD_XX": "bad: silent, no face",
}


def compile_list(tables: Path) -> pd.DataFrame:
    """The list: `(7442, columns)`, every value str."""
    ids = _read(tables / "SentenceFilenames.csv")["Filename"]
    parts = ids.str.split("_", expand=True)
    clips = pd.DataFrame({"id": ids, "label": parts[2], "actor": parts[0], "sentence": parts[1], "level": parts[3]})
    clips["flag"] = clips["id"].map(BAD | _identical_recordings(tables)).fillna("")
    clips["blank_mp3"] = clips["id"].isin(_blank_mp3s(tables)).map({True: "1", False: ""})
    clips["split_field"] = _field_split(tables, clips["id"], {"ogm_ge_train": "train", "ogm_ge_test": "test"})
    clips["split_field-val"] = _field_split(
        tables, clips["id"], {"gewu_diag_my_train": "train", "gewu_diag_val": "val", "ogm_ge_test": "test"}
    )
    clips["split_actor"] = clips["actor"].map(_actor_split(tables, clips))
    clips.insert(7, "split", clips["split_field-val"])
    votes = _read(tables / "tabulatedVotes.csv")
    query = votes.iloc[:, 0].str[0].map(QUERIES)
    for name in QUERIES.values():
        counts = votes[query == name].set_index("fileName").loc[clips["id"]]
        for letter, label in LABELS.items():
            clips[f"votes_{name}_{label}"] = counts[letter].to_numpy()
    return clips


def _read(csv: Path, **options: object) -> pd.DataFrame:
    return pd.read_csv(csv, dtype=str, keep_default_na=False, **options)


def media_hashes(tables: Path) -> pd.DataFrame:
    """`(media, 3)`: clip id, folder of the official release, SHA-256."""
    media = _read(tables / "official_media_sha256.csv")
    parts = media["path"].str.extract(r"^(?P<folder>\w+)/(?P<id>\w+)\.\w+$")
    return parts.assign(sha256=media["sha256"])


def _identical_recordings(tables: Path) -> dict[str, str]:
    """Map id to flag for clips whose wav is byte for byte that of a clip with another label."""
    media = media_hashes(tables)
    flags = {}
    for _, group in media[media["folder"] == "AudioWAV"].groupby("sha256"):
        ids = sorted(group["id"])
        if len({clip.split("_")[2] for clip in ids}) > 1:
            flags |= {clip: f"duplicate: same wav as {' '.join(i for i in ids if i != clip)}" for clip in ids}
    return flags


def _blank_mp3s(tables: Path) -> list[str]:
    """Ids of clips whose mp3 has no voice.

    Their flv lacked sound until 2020-12-16 (official README) and got it back from the wav; the mp3 did not (issue 13
    of the official repository). 20 of the 28 mp3s are byte for byte that of another actor's clip, though all 28
    wavs differ.
    """
    readme = (tables / "CREMA-D_README.md").read_text()
    return re.findall(r"^(\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{2})\.flv\s*$", readme, re.MULTILINE)


def _field_split(tables: Path, ids: pd.Series, lists: dict[str, str]) -> pd.Series:
    """`(clips,)`: the split whose list names the clip; lists must not overlap."""
    named = pd.concat(
        _read(tables / f"{name}.csv", header=None, names=["id", "label"]).assign(split=split)
        for name, split in lists.items()
    )
    if named["id"].duplicated().any():
        raise ValueError(f"lists must not overlap, got clips in two of {', '.join(lists)}. Check the tables.")
    return ids.map(named.set_index("id")["split"])


def _actor_split(tables: Path, clips: pd.DataFrame) -> dict[str, str]:
    """Map actor to split, 73 / 9 / 9 actors: of many draws, the one whose splits are most alike in label and sex.

    A draw orders the actors by a hash, so no change of a random generator can change it.
    """
    sex = _read(tables / "VideoDemographics.csv").set_index("ActorID")["Sex"].loc[clips["actor"]]
    is_male = (sex == "Male").set_axis(clips.index)
    # (actors, labels + 1): clips of each label, then clips of men
    profile = pd.crosstab(clips["actor"], clips["label"]).assign(male=is_male.groupby(clips["actor"]).sum())
    counts = profile.to_numpy(float)
    fractions = counts.sum(axis=0) / len(clips)
    row = {actor: index for index, actor in enumerate(profile.index)}

    def draw(seed: int) -> list[str]:
        return sorted(row, key=lambda actor: hashlib.sha256(f"{seed}:{actor}".encode()).hexdigest())

    def unlikeness(seed: int) -> float:
        order = [row[actor] for actor in draw(seed)]
        held_out = (order[:TEST_ACTORS], order[TEST_ACTORS : TEST_ACTORS + VAL_ACTORS])
        sums = [counts[split].sum(axis=0) for split in held_out]
        # the last column counts men, not another label
        return sum(abs(each / each[:-1].sum() - fractions).sum() for each in sums)

    order = draw(min(range(NUM_DRAWS), key=unlikeness))
    splits = ["test"] * TEST_ACTORS + ["val"] * VAL_ACTORS + ["train"] * (len(order) - TEST_ACTORS - VAL_ACTORS)
    return dict(zip(order, splits, strict=True))


def main() -> None:
    """Write the list."""
    tables, out = Path(sys.argv[1]), Path(sys.argv[2])
    compile_list(tables).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
