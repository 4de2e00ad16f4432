import importlib.util
from pathlib import Path

import numpy as np
import pytest

from amr.data_manifests import vggsound
from amr.fusion.data.targets import read_targets
from amr.fusion.evaluate.people.tags import parse_tags

ROOT = Path(__file__).resolve().parents[2]
# From the official test list: the only clip of its video; one whose id begins with -; one with _ in its id.
ONLY, DASH, UNDERSCORE = "glLQrEijrKg_000300", "-1pRmoJIGQc_000010", "6zlMP_kQ_-w_000030"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")


def paths(manifest, clip: str) -> list[str]:
    return manifest.table.set_index("id").loc[clip, ["audio_path", "video_path"]].tolist()


def test_the_list_is_the_official_one():
    clips, classes = vggsound.read_test_list(), vggsound.read_classes()
    assert len(clips) == clips["id"].nunique() == 15446
    assert set(clips["split"]) == {"test"}
    assert len(classes) == classes["class"].nunique() == 309
    assert set(clips["label"]) == set(classes["class"])
    assert clips["id"].str.fullmatch(r"[A-Za-z0-9_-]{11}_\d{6}").all()


def test_compiling_again_gives_the_shipped_lists(test_data):
    spec = importlib.util.spec_from_file_location("compile_vggsound", ROOT / "docs" / "data" / "compile_vggsound.py")
    compiler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiler)
    tables = test_data / "vggsound" / "meta"
    for compiled, shipped in (
        (compiler.compile_test(tables), vggsound.TEST_LIST),
        (compiler.compile_classes(tables), vggsound.CLASS_LIST),
    ):
        assert compiled.to_csv(index=False, lineterminator="\n").encode() == shipped.read_bytes()


def test_vggsounder_tags_are_lossless(test_data):
    rows = (test_data / "vggsound" / "meta" / "vggsounder.csv").read_text().splitlines()[1:]
    clips = vggsound.read_test_list()
    tagged = clips[clips["vggsounder"] != ""]
    tags = [
        (clip, *tag.rsplit(":", 1))
        for clip, cell in zip(tagged["id"], tagged["vggsounder"], strict=True)
        for tag in cell.split(";")
    ]
    assert len(tags) == len(rows)
    assert {modality for *_, modality in tags} == {"A", "V", "AV"}
    own = {(clip, label): modality for clip, label, modality in tags}
    expected = [own.get(pair, "") for pair in zip(clips["id"], clips["label"], strict=True)]
    assert clips["vggsounder_modality"].tolist() == expected


def test_labels_stand_in_one_cell_for_the_label_separator(tmp_path):
    (tmp_path / "vggsound.csv").write_text("-abcdefghij,7,dog barking,train\n")
    table = vggsound.build(tmp_path)[0].table
    cells = table.set_index("id")["vggsounder_labels"]
    assert cells[ONLY] == "male speech, man speaking;playing hammond organ"
    assert cells["cRlp5v9BHeE_000011"] == "absent"
    assert cells["-abcdefghij_000007"] == "dog barking"
    targets = read_targets(table, "vggsounder_labels", "multilabel", ";")
    assert set(targets.classes) <= set(vggsound.read_classes()["class"])
    assert np.isnan(targets.values).all(1).sum() == 3432
    assert np.nansum(targets.values) == 1 + sum(len(parse_tags(cell)) for cell in table["vggsounder"])


@pytest.mark.parametrize("clip", [ONLY, DASH, UNDERSCORE])
@pytest.mark.parametrize(
    "name",
    ["{v}_{s:06d}", "{v}_{s}", "{v}_{s}_{e}", "{v}_{s}000_{e}000", "{v}_{s:06d}_{e:06d}", "{v}_{s}.000_{e}.000", "{v}"],
)
def test_files_are_found_under_the_names_in_use(tmp_path, clip, name):
    start = int(clip[12:])
    file = "deep/down/" + name.format(v=clip[:11], s=start, e=start + 10) + ".mkv"
    touch(tmp_path, file)
    manifest, report = vggsound.build(tmp_path)
    assert paths(manifest, clip) == [file, file]
    assert report.found == {"audio": 1, "video": 1}
    assert any("named by video id only" in note for note in report.notes) == (name == "{v}")


def test_the_surest_name_and_a_sound_file_of_its_own_win(tmp_path):
    video = ONLY[:11]
    touch(tmp_path, f"whole/{video}.mp4", f"cut/{video}_300.mp4", f"wav/{ONLY}.wav", f"wav/{video}.wav")
    manifest, _ = vggsound.build(tmp_path)
    assert paths(manifest, ONLY) == [f"wav/{ONLY}.wav", f"cut/{video}_300.mp4"]


def test_files_of_no_listed_clip_are_named(tmp_path):
    clips = vggsound.read_test_list()
    several = clips["id"].str[:11].value_counts().idxmax()
    touch(tmp_path, f"{ONLY[:11]}_000999.mp4", "ZYc410CE4Rg_000000.mp4", "note.mp4", f"{several}.mp4")
    _, report = vggsound.build(tmp_path)
    assert report.found == {"audio": 0, "video": 0}
    unlisted = next(note for note in report.notes if "clips in no list" in note)
    assert all(name in unlisted for name in (f"{ONLY[:11]}_000999.mp4", "ZYc410CE4Rg_000000.mp4", "note.mp4"))
    assert any(f"left out: {several}.mp4. Name them" in note for note in report.notes)


@pytest.mark.parametrize("place", ["vggsound.csv", "meta/vggsound.csv"])
def test_a_users_list_adds_train_and_never_changes_test(tmp_path, place):
    touch(tmp_path, place, "-abcdefghij_000007.mp4")
    (tmp_path / place).write_text(
        "-abcdefghij,7,dog barking,train\n"
        'AAAAAAAAAAA,30,"bird chirping, tweeting",train\n'
        "AAAAAAAAAAA,30,dog barking,train\n"
        "glLQrEijrKg,300,playing hammond organ,test\n"
        "LDoXsip0BEQ,177,parrot talking,train\n"
        "BBBBBBBBBBB,1,dog barking,test\n"
        "CCCCCCCCCCC,1,walking on the moon,train\n"
    )
    manifest, report = vggsound.build(tmp_path)
    assert manifest.ids[15446:] == ["-abcdefghij_000007", "AAAAAAAAAAA_000030"]
    assert manifest.table["label"].tolist()[15446:] == ["dog barking", "bird chirping, tweeting"]
    assert manifest.table["split"].value_counts().to_dict() == {"test": 15446, "train": 2}
    assert paths(manifest, "-abcdefghij_000007") == ["-abcdefghij_000007.mp4"] * 2
    notes = "\n".join(report.notes)
    assert "contradict the official test list and are left out: LDoXsip0BEQ_000177." in notes
    assert "not in the official test list and are left out: BBBBBBBBBBB_000001." in notes
    assert "none of the 309 classes (walking on the moon) and are left out: CCCCCCCCCCC_000001." in notes
    assert "repeat a clip and are left out: AAAAAAAAAAA_000030." in notes
    assert "train: 1 of 2 clips found (50.0%); test: 0 of 15446" in notes
    assert "not listed" not in notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AAAAAAAAAAA,x,dog barking,train", r"line 2 of vggsound.csv must be video,start,label,split"),
        ("AAAAAAAAAAA,1,bird chirping, tweeting,train", r"line 2 of vggsound.csv must be"),
        ("short,1,dog barking,train", r"line 2 of vggsound.csv must be"),
        ("AAAAAAAAAAA,1,dog barking,dev", r"split must be one of train, val, test, got 'dev' on line 2"),
    ],
)
def test_wrong_rows_of_a_users_list_are_named(tmp_path, line, message):
    (tmp_path / "vggsound.csv").write_text(f"youtube_id,start,label,split\n{line}\n")
    with pytest.raises(ValueError, match=message):
        vggsound.build(tmp_path)


def test_the_real_copy(test_data):
    manifest, report = vggsound.build(test_data / "vggsound")
    assert report.found == {"audio": 13, "video": 13}
    assert len(report.classes) == 309
    assert any("left out: video/ZYc410CE4Rg_000000.mp4." in note for note in report.notes)
    assert paths(manifest, DASH) == [f"video/{DASH}.mp4"] * 2
    assert any("put the official vggsound.csv" in note for note in report.notes)
    known = (test_data / "vggsound" / "labels.csv").read_text().splitlines()[1:]
    labels = manifest.table.set_index("id")["label"]
    for line in known:
        path, label = line.split(",", 1)
        assert labels.get(Path(path).stem, "") == label
