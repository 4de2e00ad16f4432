"""Predictions as a CSV."""

from __future__ import annotations

import pandas as pd
import pytest

from amr.fusion.prediction import Prediction, check_csv, write_predictions


def test_the_csv_has_one_row_per_clip_and_may_be_written_again(tmp_path):
    file = tmp_path / "new/p.csv"
    check_csv(file)
    made = Prediction("007,x", "1", 0.75, {"1": 0.75, "2": 0.25}, {"audio": 0.6, "video": 0.4}, "no video")
    write_predictions(file, [made, Prediction("gone", None, None, {}, {"audio": None, "video": None}, "no such file")])
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert list(table) == ["clip", "pred", "probability", "share_audio", "share_video", "note"]
    assert table.to_numpy().tolist() == [
        ["007,x", "1", "0.75", "0.6", "0.4", "no video"],
        ["gone", "", "", "", "", "no such file"],
    ]
    check_csv(file)


def test_each_label_has_a_column_of_probabilities(tmp_path):
    file = tmp_path / "p.csv"
    shares = {"audio": 0.6, "video": 0.4}
    gone = Prediction("gone", None, None, {}, dict.fromkeys(shares), "no such file")
    write_predictions(file, [gone, Prediction("a", "dog", None, {"cat": 0.25, "dog": 0.75}, shares)])
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    columns = ["clip", "pred", "probability", "probability_cat", "probability_dog", "share_audio", "share_video"]
    assert list(table) == [*columns, "note"]
    assert table.to_numpy().tolist() == [
        ["gone", *[""] * 6, "no such file"],
        ["a", "dog", "", "0.25", "0.75", "0.6", "0.4", ""],
    ]
    check_csv(file)


def test_no_other_file_is_replaced(tmp_path):
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,label\na.mp4,x\n")
    with pytest.raises(ValueError, match=r"--out must be new or a table of amr predict, got .*clips.csv' with other"):
        check_csv(manifest)
    with pytest.raises(ValueError, match=r"--out must be a \.csv file, got 'p\.txt'\. Pass --out p\.csv\."):
        check_csv(type(manifest)("p.txt"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--out must be a place that can be written to"):
        check_csv(tmp_path / "file" / "p.csv")


def test_a_name_with_a_byte_that_is_no_utf8_is_escaped(tmp_path):
    name = b"b\xff.mp4".decode("utf-8", "surrogateescape")
    write_predictions(tmp_path / "p.csv", [Prediction(name, None, None, {}, {"audio": None}, f"{name}: no sound")])
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[1] == "b\\udcff.mp4,,,,b\\udcff.mp4: no sound"
