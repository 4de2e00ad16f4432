"""Read files that may be damaged, or made by others: whole, or refused in one sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amr.common.files.checksums import read_checked

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "Run the command that made it again."
MAX_REASON = 150  # characters


class NotWhole(ValueError):
    """A file was refused; the message says which, why, and the way out."""

    def __init__(self, message: str, file: Path) -> None:
        super().__init__(message)
        self.file = file


@contextmanager
def whole_file(file: Path, option: str, advice: str = AGAIN) -> Iterator[None]:
    """Turn whatever the reading of a file raises in the block into one sentence.

    Args:
        file: File that is read.
        option: Name of the argument that chose it, for the error.
        advice: What to do about a damaged file, for the error.

    Raises:
        NotWhole: The file is missing or damaged, or is not what it should be.
        OSError: The system refuses to read it.
    """
    try:
        yield
    except (NotWhole, MemoryError):
        raise
    except FileNotFoundError as error:
        if file.exists():  # it is another file that is missing, such as a temporary folder
            raise
        raise NotWhole(f"{option} must hold whole files, got no {str(file)!r}. {advice}", file) from error
    except Exception as error:  # each library has its own errors for the same thing
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NotWhole(
            f"{option} must hold whole files, got a damaged {str(file)!r} ({reason_of(error)}). {advice}",
            file,
        ) from error


def read_whole(file: Path, option: str, advice: str = AGAIN) -> bytes:
    """Read a file whose bytes must be those of its checksum, if it has one.

    Raises:
        NotWhole: The file is missing or damaged.
        OSError: The system refuses to read it.
    """
    with whole_file(file, option, advice):
        return read_checked(file)


def read_json(file: Path, option: str = "RUN", advice: str = AGAIN) -> Any:
    """Read a JSON file; None if it does not exist.

    Raises:
        NotWhole: The file is damaged.
        OSError: The system refuses to read it.
    """
    if not file.is_file():
        return None
    with whole_file(file, option, advice):
        return json.loads(read_checked(file))


def read_table(file: Path, numbers: Sequence[str] = (), texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV file.

    Args:
        file: File to read.
        numbers: Columns that must be there, of numbers.
        texts: Columns that must be there, of texts. Without any, all columns must be numbers.

    Raises:
        NotWhole: The file is damaged, or lacks a column.
    """
    import pandas as pd

    content = read_whole(file, "RUN")
    with whole_file(file, "RUN"):
        if texts:
            types = dict.fromkeys(texts, str)
            table = pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values=[""])
        else:
            table = pd.read_csv(io.BytesIO(content))
        lacking = [name for name in (*numbers, *texts) if name not in table]
        if lacking:
            raise ValueError(f"it lacks the column {lacking[0]}")
        if len(table) == 0:
            raise ValueError("it has no row")
        wrong = [name for name in (numbers if texts else table) if not pd.api.types.is_numeric_dtype(table[name])]
        if wrong:
            raise ValueError(f"{wrong[0]} is not of numbers")
        return table


def reason_of(error: Exception) -> str:
    """Reason of an error in a few printable words.

    >>> reason_of(KeyError("val")), reason_of(ValueError("too short\\nat byte 3")), reason_of(TypeError())
    ("it lacks 'val'", 'too short', 'TypeError')
    """
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    line = (text.strip() or type(error).__name__).splitlines()[0].rstrip(".")
    short = line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in short)
