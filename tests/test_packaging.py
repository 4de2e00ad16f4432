"""What is built and installed: the package's tracked files, as amr.*, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import amr.cli

from .conftest import without

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("common", "console", "data_manifests", "extract", "fusion")
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
    assert wanted | {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "pyproject.toml"} <= names


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
        python(f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)", tmp_path)


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
