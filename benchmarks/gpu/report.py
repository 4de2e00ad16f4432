"""The report of `python benchmarks/gpu`: the machine, and what each part printed."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from parts import Outcome

PACKAGES = ("torch", "numpy", "h5py", "pandas", "torchvision", "torchaudio", "timm", "av")
MOST_LINES = 60  # of error output


def facts(torch: Any, device: str) -> dict[str, str]:
    """Machine and versions."""
    from rounds import machine

    found = {"machine": machine(torch.device(device)), "Python": platform.python_version()}
    found["name"] = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found["GPU"] = f"{about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
        found["CUDA, cuDNN"] = f"{torch.version.cuda}, {torch.backends.cudnn.version()}"
    return found | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_report(folder: Path, known: dict[str, str], outcomes: Sequence[Outcome], scale: float) -> Path:
    """Write `gpu-NAME.md` and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", known["name"].lower()).strip("-")
    small = "" if scale == 1 else f" at a scale of {scale:g}, which tries the script and measures nothing"
    lines = [
        f"# {known['name']}",
        "",
        f"`make gpu`{small}. Written by `benchmarks/gpu`; each part has its command.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in known.items() if name != "name"]
    lines += ["", "| part | | seconds |", "|---|---|---|"]
    lines += [f"| {each.part.title} | {each.summary.replace('|', ' ')} | {each.seconds:.0f} |" for each in outcomes]
    for each in outcomes:
        lines += ["", f"## {each.part.title}", "", f"`{each.command}`. Aim: {each.part.aim}", ""]
        lines += [each.summary[0].upper() + each.summary[1:] + "."] if each.summary != "done" else []
        for text in (each.output.strip("\n"), "\n".join(each.errors.strip().splitlines()[-MOST_LINES:])):
            lines += ["", "```", *[line.rstrip() for line in text.splitlines()], "```"] if text else []
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"gpu-{slug}.md"
    file.write_text(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n", encoding="utf-8")
    return file
