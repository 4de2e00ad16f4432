"""Versions of the packages that the tests run with.

python tests/versions.py lowest     # constraints for pip: the lowest versions that pyproject.toml allows
python tests/versions.py installed  # the installed versions, as constraints.txt
python tests/versions.py check      # exit status 1 if they differ from those of constraints.txt
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOWEST = re.compile(r"([A-Za-z0-9._-]+)(?:>=|==)([0-9.]+)")
# ours, what installs it, and what torch brings for GPUs, whose versions torch fixes
LEFT_OUT = ("amr-fusion", "pip", "nvidia", "cuda", "triton")
HEAD = """# Versions that the tests run with: make installs these, and .ci/run checks that they are what is installed.
# To move on: make test-newest, then .venv-newest/bin/python tests/versions.py installed > constraints.txt
"""


def lowest() -> dict[str, str]:
    """Lowest version of each dependency that names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    return {match[1]: match[2] for each in requirements if (match := LOWEST.match(each))}


def installed() -> dict[str, str]:
    """Version of each installed package, without the name of a build such as +cpu."""
    found = {each.metadata["Name"]: each.version.partition("+")[0] for each in metadata.distributions()}
    return {name: found[name] for name in sorted(found, key=str.lower) if not name.startswith(LEFT_OUT)}


def tested() -> dict[str, str]:
    """Version of each package in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))


def differences() -> list[str]:
    """Packages that are installed in another version than the tested one, or without one."""
    found, wanted = installed(), tested()
    return [
        f"{name} is {found.get(name, 'absent')}, not {wanted.get(name, 'named')}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]


def text(versions: dict[str, str]) -> str:
    """Constraints as pip reads them."""
    return "".join(f"{name}=={version}\n" for name, version in versions.items())


if __name__ == "__main__":
    (request,) = sys.argv[1:]
    if request == "check":
        wrong = differences()
        sys.exit(f"installed versions must be those of constraints.txt: {'; '.join(wrong)}" if wrong else 0)
    sys.stdout.write(text(lowest()) if request == "lowest" else HEAD + text(installed()))
