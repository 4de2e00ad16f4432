"""Whatever the reading of a file raises is one sentence with its name and the way out."""

from __future__ import annotations

import json

import pytest

from amr.common.files import NotWhole, add_checksums, read_json, read_table, read_whole, whole_file


@pytest.mark.parametrize(
    "error", [KeyError("val"), IndexError("x"), ValueError("a\nb"), OSError("short"), RecursionError(), EOFError()]
)
def test_errors_of_libraries_become_one_sentence(tmp_path, error):
    file = tmp_path / "a.json"
    with pytest.raises(NotWhole) as raised, whole_file(file, "RUN", "Fit again."):
        raise error
    text = str(raised.value)
    assert text.startswith(f"RUN must hold whole files, got a damaged {str(file)!r} (")
    assert text.endswith("). Fit again.")
    assert "\n" not in text
    assert raised.value.file == file


def test_refusals_of_the_system_stay(tmp_path):
    for error in (PermissionError(13, "Permission denied", "a"), MemoryError()):
        with pytest.raises(type(error)), whole_file(tmp_path, "RUN"):
            raise error
    with pytest.raises(NotWhole, match=r"RUN must hold whole files, got no '.*gone'"):
        read_whole(tmp_path / "gone", "RUN")


def test_another_file_that_is_missing_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError, match="No usable temporary"), whole_file(tmp_path, "RUN"):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"\x00{", b'{"a": \x01}'])
def test_json_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(NotWhole, match=r"got a damaged '.*a\.json'"):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "b.json") is None


def test_json_of_other_bytes_is_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"a": 1}))
    add_checksums(tmp_path, [file.name])
    assert read_json(file) == {"a": 1}
    file.write_text(json.dumps({"a": 3}))
    with pytest.raises(NotWhole, match="SHA256SUMS"):
        read_json(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "No columns"),
        ("epoch,chosen\n", "no row"),
        ("epoch\n1\n", "lacks the column chosen"),
        ("epoch,chosen\n1,x\n", "chosen is not of numbers"),
        ("epoch,chosen,loss\n1,1,x\n", "loss is not of numbers"),
        ('epoch,chosen\n"1,1\n', "EOF"),
    ],
)
def test_tables_without_their_columns_are_refused(tmp_path, text, reason):
    file = tmp_path / "history.csv"
    file.write_text(text)
    with pytest.raises(NotWhole, match=reason):
        read_table(file, ("epoch", "chosen"))


def test_texts_of_a_table_stay_texts(tmp_path):
    file = tmp_path / "predictions.csv"
    file.write_text("id,p\n007,0.5\nNA,1\n")
    assert read_table(file, ("p",), ("id",))["id"].tolist() == ["007", "NA"]
