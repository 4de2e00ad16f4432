"""Index of the media files in a folder, by the stem of their names."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from amr.data_manifests.coverage import named
from amr.data_manifests.schema import counted

# In order of preference. A wav is what its makers processed; an flv is an original with sound; a lossy audio file is
# more likely to hold the sound than a re-encoded video file.
LOSSLESS = (".wav", ".flac")
LOSSY = (".mp3", ".m4a", ".aac", ".ogg", ".opus")
VIDEO = (".flv", ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
AUDIO_ORDER = (*LOSSLESS, ".flv", *LOSSY, *VIDEO[1:])

_POINTER_START = b"version https://git-lfs"
_POINTER_MAX_BYTES = 1024


@dataclass(frozen=True)
class MediaIndex:
    """The media files below a root.

    Args:
        files: Stem -> paths relative to the root, posix, sorted.
        pointers: Paths of git-lfs pointer files: text in place of media that are not fetched yet.
        no_files: Paths with the name of a media file that are none: pipes, and links to nothing.
    """

    files: dict[str, list[str]]
    pointers: list[str]
    no_files: list[str]

    def notes(self) -> list[str]:
        """Messages for the user about what is left out."""
        lines = []
        if self.pointers:
            one, many = (
                "file is a git-lfs pointer, not media, and counts",
                "files are git-lfs pointers, not media, and count",
            )
            lines.append(
                f"{counted(len(self.pointers), one, many)} as absent ({named(self.pointers)}). "
                "Fetch media with: git lfs pull"
            )
        if self.no_files:
            one, many = "name belongs to a pipe or a broken link", "names belong to pipes or broken links"
            lines.append(f"{counted(len(self.no_files), one, many)}: absent ({named(self.no_files)})")
        return lines


def index_media(root: str | os.PathLike[str], homepage: str, suffixes: tuple[str, ...] = AUDIO_ORDER) -> MediaIndex:
    """Index a folder and all its subfolders. Hidden files are left out, links to folders are followed.

    Args:
        root: Folder of the media.
        homepage: Address of the media, for the error.
        suffixes: Ends of the names that are indexed, in lower case.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"--root must be the folder of the media, got {str(root)!r}, which "
            f"{'is no folder' if root.exists() else 'does not exist'}. Get them from {homepage}, or pass --root."
        )
    paths: list[str] = []
    pointers: list[str] = []
    no_files: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder seen before
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes:
                continue
            kind = no_files if not os.path.isfile(path) else pointers if _is_pointer(path) else paths
            kind.append(path.relative_to(root).as_posix())
    files: dict[str, list[str]] = {}
    for relative in sorted(paths):
        files.setdefault(Path(relative).stem, []).append(relative)
    return MediaIndex(files, sorted(pointers), sorted(no_files))


def choose(paths: Collection[str], order: tuple[str, ...]) -> str:
    """Path whose extension comes first in an order: the first of equals, "" if no extension is in it."""
    suitable = [path for path in paths if Path(path).suffix.lower() in order]
    return min(suitable, key=lambda path: order.index(Path(path).suffix.lower()), default="")


def _is_pointer(path: Path) -> bool:
    try:
        if path.stat().st_size > _POINTER_MAX_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(_POINTER_START)) == _POINTER_START
    except OSError:  # it may not be read, as the extraction of its clip says
        return False
