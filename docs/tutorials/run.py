"""Run the executed pages: what a page shows is what its commands and its Python print.

python docs/tutorials/run.py            # check every page; exit status 1 where one shows something else
python docs/tutorials/run.py --write    # put what is printed now into the pages (make tutorials)

A page runs from top to bottom in a workspace of its own. `console` blocks have commands after `$ ` and what these print
on stdout; a `python` block may be followed by a `text` block with what it prints. Blocks of other languages are shown
as they are.
"""

from __future__ import annotations

import argparse
import glob
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^```(?P<kind>console|python)\n(?P<body>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w])\*?")  # * marks p < .05
OF_THE_MACHINE = re.compile(r"^(?:seconds|clips_per_second): .*\n", re.MULTILINE)
TOLERANCE = 0.1  # of a fraction of 1 or of a larger number's size: another processor rounds differently
ENVIRONMENT = {"AMR_HOME": ".", "COLUMNS": "100", "TERM": "dumb"}


@dataclass(frozen=True)
class Difference:
    """A place where a page does not show what is printed."""

    page: str
    source: str
    shown: str
    printed: str

    def __str__(self) -> str:
        return f"{self.page}: {self.source}\n--- shown\n{self.shown}--- printed\n{self.printed}"


def executed_pages() -> list[Path]:
    """Pages with blocks that run: the quickstart, and all in the folders of tutorials, how-to and explanation."""
    found = [DOCS / "quickstart.md", *(each for name in FOLDERS for each in sorted((DOCS / name).glob("*.md")))]
    return [page for page in found if BLOCK.search(page.read_text(encoding="utf-8"))]


FOLDERS = ("tutorials", "how-to", "explanation")


def run_page(page: Path) -> tuple[str, list[Difference]]:
    """Run a page.

    Returns:
        The page with what was printed, and where it differs from what the page shows.

    Raises:
        RuntimeError: A command or a block of Python failed.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    differences: list[Difference] = []

    def replace(block: re.Match[str]) -> str:
        if block["kind"] == "python":
            new, shown, printed = _run_python(block, names)
            differences.extend(_compare(page, block["body"], shown, printed))
            return new
        commands = _commands(block["body"])
        outputs = [_run_command(command) for command, _ in commands]
        for (command, shown), printed in zip(commands, outputs, strict=True):
            differences.extend(_compare(page, command, shown, printed))
        body = "\n".join(f"$ {c}\n{out}" for (c, _), out in zip(commands, outputs, strict=True))
        return f"```console\n{body}```\n"

    with _workspace():
        written = BLOCK.sub(replace, page.read_text(encoding="utf-8"))
    return written, differences


def agree(shown: str, printed: str) -> bool:
    """Whether two outputs are the same but for spaces, lines about the machine, and the rounding of numbers.

    Rows may change places: tables are sorted by numbers that may be near each other.

    >>> agree("accuracy 0.861", "accuracy  0.858"), agree("accuracy 0.861", "accuracy 0.661")
    (True, False)
    """
    texts, numbers = zip(*(_lines(text) for text in (shown, printed)), strict=True)
    return texts[0] == texts[1] and all(_near(a, b) for a, b in zip(*numbers, strict=True))


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Sorted lines with numbers replaced, and these numbers."""
    lines = [(" ".join(NUMBER.sub("#", line).split()), line) for line in OF_THE_MACHINE.sub("", text).splitlines()]
    lines.sort(key=lambda each: each[0])
    return [words for words, _ in lines], [number for _, line in lines for number in NUMBER.findall(line)]


def _near(shown: str, printed: str) -> bool:
    shown, printed = shown.rstrip("*"), printed.rstrip("*")
    if "." not in shown:
        return shown == printed
    a, b = float(shown), float(printed)
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a))


def _compare(page: Path, source: str, shown: str, printed: str) -> list[Difference]:
    return [] if agree(shown, printed) else [Difference(page.name, source, shown, printed)]


def _commands(body: str) -> list[tuple[str, str]]:
    """Commands of a block, each with the output below it."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    found = [re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL) for part in parts]
    return [(each[1], each[2].rstrip("\n") + "\n" if each[2].strip() else "") for each in found if each]


def _run_command(command: str) -> str:
    """Stdout of a command: of `amr` in this process, which has torch already, of others in bash."""
    if not re.match(r"amr (?!.*[|;&>])", command):
        as_amr = f'amr() {{ {shlex.quote(sys.executable)} -m amr "$@"; }}'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{as_amr}\n{command}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command}\n{done.stderr}")
        return done.stdout
    from amr.cli import run

    words = shlex.split(command.replace("\\\n", " "), comments=True)[1:]
    printed = io.StringIO()
    with redirect_stdout(printed):
        status = run([name for word in words for name in sorted(glob.glob(word)) or [word]])
    if status:
        raise RuntimeError(f"{command}\nexit status {status}")
    return _stripped(printed.getvalue())


def _run_python(block: re.Match[str], names: dict[str, Any]) -> tuple[str, str, str]:
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block["body"], "<page>", "exec"), names)  # noqa: S102
    output = _stripped(printed.getvalue())
    below = f"\n```text\n{output}```\n" if output else ""
    return f"```python\n{block['body']}```\n{below}", block["printed"] or "", output


def _stripped(text: str) -> str:
    """Text without spaces at the ends of lines, where tables pad their last column."""
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


@contextmanager
def _workspace() -> Iterator[None]:
    """An empty current folder, which is also the workspace; everything is restored at the end."""
    before, folder = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(ENVIRONMENT)
        os.chdir(empty)
        try:
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)


def main() -> int:
    """Check or write the pages; 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put what is printed into the pages")
    parser.add_argument("pages", nargs="*", type=Path, help="pages; by default all")
    arguments = parser.parse_args()
    wrong = False
    for page in arguments.pages or executed_pages():
        start = time.perf_counter()
        written, differences = run_page(page.resolve())
        sys.stdout.write(f"{page.name}: {time.perf_counter() - start:.1f} s, {len(differences)} differences\n")
        if arguments.write:
            page.write_text(written, encoding="utf-8")
        else:
            sys.stdout.writelines(f"{each}\n" for each in differences)
            wrong = wrong or bool(differences)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
