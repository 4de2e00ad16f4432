"""Hostile names through every output: as ids, labels, columns, folders and titles."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from amr.cli import run as amr

from .report import Outcome, scaled

PAYLOADS = (
    "[laughter]",
    "x[/b]",
    "[bold red]x[/bold red]",
    "[link=https://example.org]x[/link]",
    ":smile:",
    "\x1b[2J\x1b[31mx",
    "\x1b]0;title\x07x",
    "\x9b31mx",
    "a\rb",
    "a\nb: fake line",
    "a\tb",
    "\x7fx\x08y",
    "\u202egnp.exe",
    "=1+1",
    "@SUM(A1)",
    "+x,-y",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "$(touch ran); `touch ran` 'x' a --b",
    "{{7*7}}{% raw %}%s%n</script>",
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NUM_CLIPS = 24


def run(seed: int, scale: float, folder: Path) -> list[Outcome]:
    """Give each name to each command, and read all that comes out."""
    lost: list[str] = []
    tries = 0
    payloads = PAYLOADS[: scaled(len(PAYLOADS), scale)]
    for number, payload in enumerate(payloads):
        place = folder / f"{number:02}"
        place.mkdir()
        with chdir(place):
            tried, found = _tried(payload, seed)
        tries += tried
        lost += [f"{payload!r}: {each}" for each in found]
        shutil.rmtree(place)
    return [Outcome("hostile names in every output", tries, tuple(lost))]


class _Page(HTMLParser):
    """Names of the elements of a page, and of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what would run."""
        self.found += [f"<{tag} {name}>" for name, _ in attrs if name.startswith("on")]
        self.found += [f"<{tag} src={value}>" for name, value in attrs if name == "src" and value == "x"]

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text.append(data)


def _call(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = amr(arguments)
    return status, out.getvalue(), err.getvalue()


def _tried(payload: str, seed: int) -> tuple[int, list[str]]:
    """Number of commands, and what was wrong with them, in the current folder."""
    rng = np.random.default_rng(seed)
    target = np.arange(NUM_CLIPS) % 2
    for name in ("audio", "video"):
        np.save(f"{name}.npy", (rng.normal(size=(NUM_CLIPS, 3)) + target[:, None]).astype(np.float32))
    classes, ids = (payload, f"{payload} b"), [f"{payload} {i}" for i in range(NUM_CLIPS)]
    np.save("labels.npy", np.array([classes[each] for each in target]))
    np.save("ids.npy", np.array(ids))
    pd.DataFrame({"id": ids, f"c {payload}": ids}).to_csv("columns.csv", index=False, quoting=csv.QUOTE_ALL)
    wrong: list[str] = []
    commands: list[tuple[str, ...]] = []

    def call(*arguments: str, statuses: tuple[int, ...] = (0,)) -> str:
        commands.append(arguments)
        status, out, err = _call(*arguments)
        shown = " ".join(arguments[:1])
        if status not in statuses:
            wrong.append(f"{shown}: exit status {status}: {err[-300:]!r}")
        wrong.extend(
            f"{shown}: {found[0]!r} on {name}"
            for name, text in (("stdout", out), ("stderr", err))
            if (found := CONTROLS.search(text))
        )
        if status and len(err.splitlines()) != 1:
            wrong.append(f"{shown}: {len(err.splitlines())} lines of error")
        return out if status == 0 else ""

    made = ["import", "--embeddings=audio=audio.npy", "--embeddings=video=video.npy", "--labels=labels.npy"]
    made += ["--ids=ids.npy", "--splits=train=12,val=6,test=6"]
    call(*made, "--columns=columns.csv", "--out=caches/columns.h5", statuses=(0, 2))
    call(*made, "--out=caches/c.h5")
    call("inspect", "c")
    call("verify", "c")
    named = payload.replace("/", "_")  # of a folder
    call("fit", "--cache=c", "--epochs=1", "--device=cpu", f"--out=./{named}", statuses=(0, 2))
    call("fit", "--cache=c", "--epochs=1", "--device=cpu", "--out=./plain")
    call("sweep", "--cache=c", "--epochs=1", "--device=cpu", "--seeds=2", f"--out=./s {named}", statuses=(0, 2))
    folder = named if Path(named, "metrics.json").is_file() else "plain"
    shown = call("predict", f"./{folder}", f"--clip={ids[0]}", "--device=cpu")
    if (visible := _visible(payload)) not in shown.replace("\n", "") and len(payload) < 40:
        wrong.append(f"predict: {visible!r} is not in its table")
    document = json.loads(call("predict", f"./{folder}", f"--clip={ids[0]}", "--device=cpu", "--json") or "[]")
    if [row["clip"] for row in document] != ids[:1] or {row["pred"] for row in document} - {*classes}:
        wrong.append("predict --json: other names")
    call("predict", f"./{folder}", *(f"--clip={each}" for each in ids[:3]), "--device=cpu", "--out=predicted.csv")
    if [*pd.read_csv("predicted.csv", dtype=str, keep_default_na=False)["clip"]] != ids[:3]:
        wrong.append("predict --out: other ids")
    call("explain", f"./{folder}", f"--clip={ids[0]}", "--device=cpu")
    call("evaluate", f"./{folder}", "--bootstrap=0", "--noise-draws=1", "--device=cpu")
    json.loads(call("runs", ".", "--json") or "null")
    call("runs", ".")
    call("runs", ".", "--format=csv")
    call("report", f"./{folder}", f"--title={payload}", "--out=page.html")
    written = Path("page.html").read_text(encoding="utf-8")
    if set(CONTROLS.findall(written.partition("<script")[0])) - {"\n", "\t"}:
        wrong.append("report: control characters in the page")
    page = _Page(written)
    wrong += [f"report: {each}" for each in page.found]
    if payload.isprintable() and payload not in " ".join(page.text):
        wrong.append("report: the title is not as given")
    command = next((text for text in page.text if text.startswith("amr fit ")), "").partition("\namr ")[0]
    named_there = Path(_words(command)[-1]) if command else Path("absent")
    if named_there.resolve() != Path(folder).resolve():
        wrong.append(f"report: a command that does not name the folder: {command!r}")
    for name, before in (("page.html", "page"), ("plain", "run")):
        call("predict", f"missing {payload}", "x", statuses=(2,))
        if not Path(name).exists():
            wrong.append(f"{before} is gone")
    call("fit", "--cache=c", f"--head={payload}", statuses=(2,))
    call("inspect", f"./{named}.h5", statuses=(2,))
    if Path("ran").exists() or os.listdir("caches") == []:
        wrong.append("code of the name ran")
    return len(commands), wrong


def _words(command: str) -> list[str]:
    """Arguments of a command, as a shell takes it."""
    if (bash := shutil.which("bash")) is None:
        return shlex.split(command.replace("\\\n", " "))
    done = subprocess.run([bash, "-c", f"printf '%s\\0' {command}"], stdout=subprocess.PIPE, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def _visible(text: str) -> str:
    """A name as a terminal shows it."""
    return CONTROLS.sub(lambda c: c[0].encode("unicode_escape").decode(), text.replace("\n", "\\n"))
