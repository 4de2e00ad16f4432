"""What is built and installed: the package's tracked files, as amr.*, and nothing else."""

from __future__ import annotations

import email.message
import email.parser
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

import amr.cli
from amr.common.moved import UNTIL

from .conftest import without

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("common", "console", "data_manifests", "extract", "fusion")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
AT_ROOT = ("__init__.py", "__init__.pyi", "__main__.py", "cli.py", "py.typed")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(code: str, cwd: Path) -> str:
    return run(sys.executable, "-c", code, cwd=cwd)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git tracks and that are there."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout to compare with")
    if shutil.which("git") is None:
        without("git", "apt install git")
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def checkout(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files: what others get, without what lies about here."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from the sdist."""
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, checkout, cwd=dist)
    return dist


def wheel_names(dist: Path) -> set[str]:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package_files(tracked: list[str]) -> set[str]:
    return {f"amr/{name}" for name in tracked if name.split("/")[0] in FOLDERS or name in AT_ROOT}


def test_the_wheel_holds_exactly_the_tracked_files_of_the_package(built: Path, tracked: list[str]) -> None:
    names = wheel_names(built)
    assert {name for name in names if name.startswith("amr/")} == package_files(tracked)
    assert {"amr/py.typed", "amr/data_manifests/crema_d.csv"} <= names


def test_nothing_generic_reaches_site_packages(built: Path) -> None:
    top = {name.split("/")[0] for name in wheel_names(built)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"amr"}
    assert len(top) == 2


def test_a_wheel_built_without_the_sdist_is_the_same(built: Path, checkout: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, checkout, cwd=tmp_path)
    assert wheel_names(tmp_path) == wheel_names(built)


def test_the_sdist_holds_the_package_and_its_tests(built: Path, tracked: list[str]) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name.removeprefix("amr/") for name in package_files(tracked)}
    wanted |= {name for name in tracked if name.startswith(("tests/", "docs/"))}
    wanted |= {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "mkdocs.yml"}
    assert wanted | {"pyproject.toml", "setup.py"} <= names


def test_the_wheel_works_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from pathlib import Path\n"
        "import amr.cli, amr.fusion.fit\n"
        "from amr.data_manifests.datasets import build_manifest\n"
        "print(amr.cli.__file__, amr.fusion.fit.__file__, len(build_manifest('crema-d', Path('.'))[0]), sep='\\n')\n"
    )
    cli, fit, num_clips = python(code, tmp_path).splitlines()
    assert Path(cli).is_relative_to(tmp_path / "site")
    assert Path(fit).is_relative_to(tmp_path / "site")
    assert num_clips == "7442"


def test_the_editable_install_maps_the_folders(tmp_path: Path) -> None:
    if Path(str(amr.cli.__file__)).resolve() != ROOT / "cli.py":
        pytest.skip(f"not an editable install of {ROOT}: amr.cli is {amr.cli.__file__}")
    code = (
        "import amr.cli, amr.extract.encoders, amr.fusion.methods as m; print(amr.cli.__file__, m.__file__, sep='\\n')"
    )
    cli, methods = python(code, tmp_path).split("\n")[:2]
    assert Path(cli).resolve() == ROOT / "cli.py"
    assert Path(methods).resolve() == ROOT / "fusion/methods/__init__.py"
    for name in (*FOLDERS, "cli", "tests"):
        found = python(f"import importlib.util; print(importlib.util.find_spec({name!r}))", tmp_path)
        assert (
            str(ROOT / name) not in found
        )  # packages of others, such as opensmile, install a folder "tests" of their own


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import typer\n"
        "from amr.cli import app, run\n"
        "for name in ['', *typer.main.get_command(app).commands]:\n"
        "    assert run([*name.split(), '--help']) == 0, name\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    assert "--amr-ratio" in python(code, tmp_path)


# --- what the package index shows ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metadata(built: Path) -> email.message.Message:
    """The wheel's metadata; its payload is the description."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.BytesParser().parsebytes(archive.read(name))


def test_the_package_index_would_take_it(built: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)


def test_links_of_the_description_lead_into_the_repository(metadata: email.message.Message) -> None:
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    description = payload.decode()
    assert metadata["Description-Content-Type"] == "text/markdown"
    targets = re.findall(r'(?:\]\(|<img src=")([^)\s"]+)', description)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    into_repository = [t for t in targets if t.startswith(PROJECT["urls"]["Repository"])]
    assert {t.rpartition("/")[2] for t in into_repository} >= {"demo.png", "install.md", "LICENSE"}
    for target in into_repository:
        assert (ROOT / re.split("/(?:blob|raw)/main/", target)[1].partition("#")[0]).exists(), target


def test_the_address_of_the_repository_stands_in_one_place(tracked: list[str]) -> None:
    address = PROJECT["urls"]["Repository"].partition("://")[2].encode()
    assert [name for name in tracked if address in (ROOT / name).read_bytes()] == ["pyproject.toml"]
    assert (ROOT / "pyproject.toml").read_bytes().count(address) == 1


def test_the_version_is_that_of_the_changelog_and_of_what_is_promised(metadata: email.message.Message) -> None:
    version = Version(PROJECT["version"])
    assert metadata["Version"] == str(version)
    released = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == ("Unreleased" if version.is_devrelease else str(version))
    assert all(Version(each) < version for each in released[1:])
    sources = [path.read_text(encoding="utf-8") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    since = {Version(each) for text in sources for each in re.findall(r'since="([0-9.]+)"', text)}
    assert since
    assert max(since) <= Version(version.base_version) < Version(UNTIL)


def test_extras_are_those_that_documents_and_errors_name(tracked: list[str]) -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == set(extras) - {"all", "dev", "docs"}
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in tracked if name.endswith((".py", ".md"))]
    named = {extra for text in texts for extra in re.findall(r"amr-fusion\[([a-z]+)\]", text)}
    assert "ray" in named
    assert named <= set(extras)
    page = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == set(extras)
