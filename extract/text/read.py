"""Read the text of a clip from a file. Whatever a file holds, its text is returned whole or refused with a reason."""

from __future__ import annotations

from pathlib import Path

from amr.extract.text.subtitles import lines_between

MAX_FILE_BYTES = 16 << 20
MAX_CHARACTERS = 1_000_000  # more than 12 hours of speech
SUBTITLES = (".srt", ".vtt")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path, start_seconds: float | None = None, end_seconds: float | None = None) -> str:
    """Read a file of text, or the lines of a file of subtitles without their times and markup.

    Args:
        path: File: `.srt` and `.vtt` are subtitles, any other name is plain text, without times.
        start_seconds: Start of the clip: subtitles that have vanished by then are left out.
        end_seconds: End of the clip: subtitles that appear later are left out.

    Returns:
        Text; "" if there is none, or none in the interval.

    Raises:
        ValueError: The file is not UTF-8, is too large, or has no subtitles.
        OSError: The file cannot be read.
    """
    if not path.is_file():  # a pipe would block
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"a text file must have at most {MAX_FILE_BYTES >> 20} MiB, got more. Split it into clips.")
    text = _decoded(content)
    if path.suffix.lower() in SUBTITLES:
        is_vtt = path.suffix.lower() == ".vtt"
        text = "\n".join(lines_between(text, start_seconds, end_seconds, is_vtt=is_vtt))
    return checked(text.strip())


def checked(text: str) -> str:
    """Text of a clip, unless it is too long.

    Raises:
        ValueError: It has more than `MAX_CHARACTERS`.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"a text must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}. Split it into clips."
        )
    return text


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if content.startswith(_UTF_16) else f"byte 0x{content[error.start]:02x} at {error.start:,}"
        raise ValueError(f"a text file must be UTF-8, got {found}. Save it as UTF-8.") from error
    if "\0" in text:
        raise ValueError("a text file must be text without NUL, got it. Save it as UTF-8.")
    return text
