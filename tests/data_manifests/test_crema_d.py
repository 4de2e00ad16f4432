import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from amr.data_manifests import crema_d

ROOT = Path(__file__).resolve().parents[2]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")


def row(manifest, clip: str) -> pd.Series:
    return manifest.table.set_index("id").loc[clip]


def read_compiler(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "data" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_is_the_official_one_with_the_fields_splits():
    clips = crema_d.read_list()
    assert len(clips) == clips["id"].nunique() == 7442
    assert clips["actor"].nunique() == 91
    assert clips["sentence"].nunique() == 12
    assert sorted(clips["label"].unique()) == ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
    assert clips["split"].value_counts().to_dict() == {"train": 5954, "val": 744, "test": 744}
    assert clips["split_field"].value_counts().to_dict() == {"train": 6698, "test": 744}
    assert (clips["split"] == clips["split_field-val"]).all()
    assert ((clips["split"] == "test") == (clips["split_field"] == "test")).all()
    assert (clips["id"].str.split("_").str[2] == clips["label"]).all()


def test_the_actor_split_keeps_actors_apart_and_classes_alike():
    clips = crema_d.read_list()
    assert (clips.groupby("actor")["split_actor"].nunique() == 1).all()
    shares = pd.crosstab(clips["split_actor"], clips["label"], normalize="index")
    assert (shares.max() - shares.min()).max() < 0.01
    sizes = clips["split_actor"].value_counts(normalize=True)
    assert sizes.round(1).to_dict() == {"train": 0.8, "val": 0.1, "test": 0.1}


def test_votes_are_counts_of_some_raters():
    clips = crema_d.read_list()
    votes = clips[[column for column in clips if column.startswith("votes_")]].astype(int)
    assert votes.shape == (7442, 18)
    for query in ("voice", "face", "both"):
        assert votes.filter(like=f"_{query}_").sum(axis="columns").between(4, 12).all()
    # People see happiness better than they hear it: the columns are not swapped.
    happy = clips["label"] == "HAP"
    assert votes.loc[happy, "votes_face_HAP"].sum() > 2 * votes.loc[happy, "votes_voice_HAP"].sum()


def test_known_bad_clips_are_flagged():
    clips = crema_d.read_list().set_index("id")
    kinds = clips["flag"].str.split(":").str[0].value_counts().to_dict()
    assert kinds == {"": 7432, "bad": 4, "duplicate": 6}
    assert clips.loc["1006_TIE_HAP_XX", "flag"] == "duplicate: same wav as 1006_TIE_NEU_XX"


def test_compiling_again_gives_the_shipped_list(test_data):
    compiled = read_compiler("compile_crema_d").compile_list(test_data / "cremad" / "labels")
    assert compiled.to_csv(index=False, lineterminator="\n").encode() == crema_d.LIST.read_bytes()


def test_identical_media_of_different_clips_are_all_accounted_for(test_data):
    compiler = read_compiler("compile_crema_d")
    media = compiler.media_hashes(test_data / "cremad" / "labels")
    clips = crema_d.read_list().set_index("id")
    shared = media[media.duplicated(["folder", "sha256"], keep=False)]
    assert set(shared["folder"]) == {"AudioWAV", "AudioMP3"}
    flags, blank = clips["flag"].loc[shared["id"]], clips["blank_mp3"].loc[shared["id"]]
    assert ((flags != "").to_numpy() | (blank != "").to_numpy()).all()
    wavs = shared[shared["folder"] == "AudioWAV"]["id"]
    assert set(wavs) == set(clips.index[clips["flag"].str.startswith("duplicate")])


@pytest.mark.parametrize(
    ("wav", "mp3", "flv"),
    [
        ("AudioWAV/{}.wav", "AudioMP3/{}.mp3", "VideoFlash/{}.flv"),
        ("CREMA-D/AudioWAV/{}.wav", "CREMA-D/AudioMP3/{}.mp3", "CREMA-D/VideoFlash/{}.flv"),
        ("{}.wav", "{}.mp3", "{}.flv"),
        ("sound/{}.wav", "sound/{}.mp3", "re-encoded/{}.mp4"),
    ],
)
def test_media_are_found_in_any_arrangement(tmp_path, wav, mp3, flv):
    both, seen, heard = "1001_IEO_NEU_XX", "1001_IEO_HAP_LO", "1001_IEO_HAP_MD"
    touch(tmp_path, *(name.format(both) for name in (wav, mp3, flv)), flv.format(seen), mp3.format(heard))
    manifest, report = crema_d.build(tmp_path)
    assert row(manifest, both)[["audio_path", "video_path"]].tolist() == [wav.format(both), flv.format(both)]
    assert row(manifest, seen)[["audio_path", "video_path"]].tolist() == [flv.format(seen), flv.format(seen)]
    assert row(manifest, heard)[["audio_path", "video_path"]].tolist() == [mp3.format(heard), ""]
    assert report.found == {"audio": 3, "video": 2}
    assert len(report.missing["video"]) == 7440
    assert (manifest.table["group"] == manifest.table["actor"]).all()


def test_blank_mp3s_are_not_used_as_sound(tmp_path):
    touch(tmp_path, "1037_DFA_ANG_XX.mp3", "1063_IEO_DIS_HI.mp3", "1063_IEO_DIS_HI.mp4", "1001_IEO_NEU_XX.mp3")
    manifest, report = crema_d.build(tmp_path)
    assert row(manifest, "1037_DFA_ANG_XX")["audio_path"] == ""
    assert row(manifest, "1063_IEO_DIS_HI")["audio_path"] == "1063_IEO_DIS_HI.mp4"
    assert row(manifest, "1001_IEO_NEU_XX")["audio_path"] == "1001_IEO_NEU_XX.mp3"
    assert any("2 official mp3 files hold no voice" in note for note in report.notes)


def test_pointers_and_unlisted_files_are_reported(tmp_path):
    touch(tmp_path, "VideoFlash/1001_IEO_NEU_XX.flv", "holiday.mp4")
    (tmp_path / "1001_IEO_NEU_XX.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    manifest, report = crema_d.build(tmp_path)
    assert row(manifest, "1001_IEO_NEU_XX")["audio_path"] == "VideoFlash/1001_IEO_NEU_XX.flv"
    assert any("git lfs pull" in note for note in report.notes)
    assert any("left out: holiday.mp4" in note for note in report.notes)


def test_the_list_does_not_depend_on_the_disk(tmp_path):
    touch(tmp_path / "some", "1001_IEO_NEU_XX.flv")
    (tmp_path / "none").mkdir()
    some, none = (crema_d.build(tmp_path / name)[0].table for name in ("some", "none"))
    paths = ["audio_path", "video_path"]
    pd.testing.assert_frame_equal(some.drop(columns=paths), none.drop(columns=paths))


def test_the_real_copy(test_data):
    manifest, report = crema_d.build(test_data / "cremad")
    found = manifest.table[(manifest.table["audio_path"] != "") | (manifest.table["video_path"] != "")]
    assert report.found == {"audio": 18, "video": 6}
    flv = found[found["video_path"] != ""].set_index("id")
    assert len(flv) == 6
    own_sound = flv[flv["audio_path"] == flv["video_path"]]
    assert set(flv.index) - set(own_sound.index) == {"1001_DFA_ANG_XX"}
    heard = found[found["video_path"] == ""]["audio_path"].str[-3:].value_counts().to_dict()
    assert heard == {"wav": 6, "mp3": 6}
    assert all(clip in report.to_text() for clip in found[found["video_path"] == ""]["id"])
    assert [note.partition(" have")[0] for note in report.notes] == ["split: 91 of 91 groups"]
    assert "amr fit --split-policy actor" in report.notes[0]
