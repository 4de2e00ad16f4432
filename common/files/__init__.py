"""Files: written whole or not at all, checked before work is done and when they are read."""

from amr.common.files.checks import check_ours, check_writable
from amr.common.files.space import check_space, in_units
from amr.common.files.writing import (
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
    "check_ours",
    "check_space",
    "check_writable",
    "in_units",
    "partial_path",
    "remove_folder",
    "removed_name",
    "replacing",
    "sync",
    "write_csv",
    "write_json",
    "write_text",
]
