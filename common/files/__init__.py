"""Files: written whole or not at all, checked before work is done and when they are read."""

from amr.common.files.checks import check_ours, check_writable
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
    "check_writable",
    "partial_path",
    "remove_folder",
    "removed_name",
    "replacing",
    "sync",
    "write_csv",
    "write_json",
    "write_text",
]
