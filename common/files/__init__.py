"""Files: written whole or not at all, checked before work is done and when they are read."""

from amr.common.files.checks import check_ours, check_unlinked, check_writable
from amr.common.files.checksums import (
    CHECKSUMS,
    Damaged,
    add_checksums,
    check_file,
    checksummed,
    damaged_names,
    has_checksum,
    read_checked,
    remove_checksums,
    write_last,
)
from amr.common.files.reading import NotWhole, read_json, read_table, read_whole, whole_file
from amr.common.files.space import check_space, in_units
from amr.common.files.writing import (
    finish_removal,
    json_text,
    partial_path,
    remove_folder,
    removed_name,
    replacing,
    sync,
    write_csv,
    write_json,
    write_text,
)

__all__ = [
    "CHECKSUMS",
    "Damaged",
    "NotWhole",
    "add_checksums",
    "check_file",
    "check_ours",
    "check_space",
    "check_unlinked",
    "check_writable",
    "checksummed",
    "damaged_names",
    "finish_removal",
    "has_checksum",
    "in_units",
    "json_text",
    "partial_path",
    "read_checked",
    "read_json",
    "read_table",
    "read_whole",
    "remove_checksums",
    "remove_folder",
    "removed_name",
    "replacing",
    "sync",
    "whole_file",
    "write_csv",
    "write_json",
    "write_last",
    "write_text",
]
