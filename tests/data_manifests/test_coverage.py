import json

from amr.data_manifests.coverage import Counts, named, report_on
from amr.data_manifests.manifest import read_manifest


def test_counts_with_and_without_flags_and_files(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "c.mp4").touch()
    (tmp_path / "clips.csv").write_text(
        "path,label,split,flag\na.mp4,x,train,\nb.mp4,x,train,bad: blank\nc.mp4,y,test,bad: blank\n,y,,\n".replace(
            "\n,y", "\nd.mp4,y"
        )
    )
    report = report_on(read_manifest(tmp_path / "clips.csv"), classes=["z"], notes=["look"])
    assert report.found == {"audio": 2, "video": 2}
    assert report.missing["audio"] == ["b", "d"]
    assert report.flagged == {"b": "bad: blank", "c": "bad: blank"}
    assert report.splits == {"split": {"train": Counts(2, 1, 1, 1), "test": Counts(1, 0, 1, 0), "": Counts(1, 1, 0, 0)}}
    assert report.classes == {"x": Counts(2, 1, 1, 1), "y": Counts(2, 1, 1, 0), "z": Counts(0, 0, 0, 0)}
    as_json = json.loads(json.dumps(report.to_json()))
    assert as_json["splits"]["split"]["train"] == {"clips": 2, "unflagged": 1, "found": 1, "usable": 1}
    assert as_json["root"] == str(tmp_path)
    assert as_json["notes"] == ["look"]
    text = report.to_text()
    assert "audio: 2 found, 2 missing" in text
    assert "flagged b: bad: blank" in text
    assert text.endswith("look")


def test_clips_that_lack_one_modality_are_named(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "clips.csv").write_text("id,label,audio_path,video_path\na,x,a.wav,a.mp4\nb,x,b.wav,b.mp4\n")
    report = report_on(read_manifest(tmp_path / "clips.csv"))
    assert report.found == {"audio": 1, "video": 0}
    assert "video: 0 found, 2 missing; found without it: a\n" in report.to_text()


def test_long_lists_of_names_end_in_a_count():
    assert named(["a", "b"]) == "a, b"
    assert named([str(n) for n in range(25)]).endswith("18, 19 and 5 more")
