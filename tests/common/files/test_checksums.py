"""Lines of SHA256SUMS agree with coreutils, and never stand for bytes that are gone."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.common.files import (
    CHECKSUMS,
    Damaged,
    add_checksums,
    check_file,
    checksummed,
    checksums,
    damaged_names,
    has_checksum,
    read_checked,
    remove_checksums,
    write_last,
)

needs_coreutils = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")


def coreutils(folder: Path) -> int:
    """Exit status of coreutils' own check."""
    return subprocess.run(["sha256sum", "--strict", "-c", CHECKSUMS], cwd=folder, capture_output=True).returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "weights.safetensors", "with space.csv", "ü.npy"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    add_checksums(tmp_path, [*(path.name for path in tmp_path.iterdir()), "absent.csv"])
    return tmp_path


@needs_coreutils
def test_coreutils_check_them_and_write_the_same(folder):
    assert coreutils(folder) == 0
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS)
    theirs = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True).stdout
    assert (folder / CHECKSUMS).read_bytes() == theirs
    (folder / "ü.npy").write_bytes(b"other")
    assert coreutils(folder) == 1
    assert damaged_names(folder) == ["ü.npy"]
    remove_checksums(folder, ["ü.npy"])
    assert coreutils(folder) == 0


@given(st.data())
def test_a_changed_byte_is_seen_wherever_it_is(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("folder")
    content = bytearray(data.draw(st.binary(min_size=1, max_size=50)))
    file = folder / "a"
    with checksummed(folder, "a"):
        file.write_bytes(content)
    assert read_checked(file) == content
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    for read in (read_checked, check_file):
        with pytest.raises(Damaged, match=CHECKSUMS):
            read(file)


@needs_coreutils
@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\\", "a\\nb", "\\n\n\\"])
def test_names_with_line_breaks_are_escaped_as_coreutils_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    add_checksums(tmp_path, [name])
    theirs = subprocess.run(["sha256sum", "--", name], cwd=tmp_path, capture_output=True).stdout
    assert (tmp_path / CHECKSUMS).read_bytes() == theirs
    assert coreutils(tmp_path) == 0
    (tmp_path / name).write_bytes(b"y")
    assert damaged_names(tmp_path) == [name]
    remove_checksums(tmp_path, [name])
    assert not (tmp_path / CHECKSUMS).exists()


@pytest.mark.parametrize("read", [read_checked, check_file, lambda file: damaged_names(file.parent)])
def test_a_file_that_is_replaced_while_it_is_read_is_not_damaged(folder, monkeypatch, read):
    file, real, num_reads = folder / "config.json", checksums.read_checksums, []

    def replaced_after(place):
        lines = real(place)
        if not num_reads:
            with checksummed(folder, file.name):
                file.write_bytes(b"new")
        num_reads.append(1)
        return lines

    monkeypatch.setattr(checksums, "read_checksums", replaced_after)
    assert read(file) in (b"new", None, [])
    file.write_bytes(b"damage")
    assert damaged_names(folder) == [file.name]


def test_a_folder_in_the_place_of_the_lines_is_said(tmp_path):
    (tmp_path / CHECKSUMS).mkdir()
    (tmp_path / "a").write_bytes(b"a")
    assert read_checked(tmp_path / "a") == b"a"
    assert damaged_names(tmp_path) == []
    remove_checksums(tmp_path, ["a"])
    with pytest.raises(ValueError, match=r"^SHA256SUMS must be a file, got the folder '.*'\. Move it away\.$"):
        add_checksums(tmp_path, ["a"])
    assert (tmp_path / CHECKSUMS).is_dir()


def test_files_without_a_line_pass(folder):
    (folder / "new").write_bytes(b"x")
    assert read_checked(folder / "new") == b"x"
    assert not has_checksum(folder / "new")
    remove_checksums(folder, ["config.json"])
    (folder / "config.json").write_bytes(b"other")
    check_file(folder / "config.json")


def test_lines_of_others_stay_and_the_last_one_takes_the_file_with_it(tmp_path):
    others = f"{'0' * 64} *theirs.iso\nno line\n"
    (tmp_path / CHECKSUMS).write_text(others)
    with checksummed(tmp_path, "a", "b"):
        (tmp_path / "a").write_bytes(b"")
    lines = (tmp_path / CHECKSUMS).read_text().splitlines()
    assert sorted(lines) == sorted([*others.splitlines(), f"{hashlib.sha256(b'').hexdigest()}  a"])
    remove_checksums(tmp_path, ["a", "theirs.iso"])
    assert (tmp_path / CHECKSUMS).read_text() == "no line\n"
    (tmp_path / CHECKSUMS).unlink()
    with checksummed(tmp_path, "a"):
        pass
    remove_checksums(tmp_path, ["a"])
    assert not (tmp_path / CHECKSUMS).exists()


def test_a_kill_while_files_are_written_leaves_no_wrong_line(folder):
    with suppress(KeyboardInterrupt), checksummed(folder, "config.json", "new"):
        (folder / "config.json").write_bytes(b"half")
        raise KeyboardInterrupt
    assert damaged_names(folder) == []
    assert not has_checksum(folder / "config.json")


def test_the_last_file_appears_after_its_line(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "last").write_text("old")

    def killed(file, text):
        assert not file.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("amr.common.files.checksums.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write_last(tmp_path / "last", "new", ["a", "absent"])
    monkeypatch.undo()
    assert (has_checksum(tmp_path / "a"), has_checksum(tmp_path / "last")) == (True, True)
    write_last(tmp_path / "last", "new", ["a"])
    assert damaged_names(tmp_path) == []
