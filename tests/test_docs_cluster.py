"""The examples of docs/cluster.md run, as far as they do without a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from amr.data_manifests.synthetic import SyntheticConfig, render

PAGE = (Path(__file__).resolve().parent.parent / "docs/cluster.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (.+)$", PAGE, re.MULTILINE)
NUM_CLIPS = 12


@pytest.fixture
def shell(tmp_path):
    """A function that runs a script in a workspace with `clips.csv`, where `amr` is this package."""
    config = SyntheticConfig(
        num_classes=2, num_clips=NUM_CLIPS, train_share=1 / 2, val_share=1 / 4, duration_seconds=0.2, size=32
    )
    render(config, tmp_path / "media")
    rows = (tmp_path / "media/manifest.csv").read_text().replace("clips/", "media/clips/")
    (tmp_path / "clips.csv").write_text(rows)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/amr"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m amr "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def run(script: str, **env: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "AMR_HOME": str(tmp_path)} | env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_shards_by_xargs_are_joined_and_fitted(shell):
    extract, merge, fit = (next(c for c in COMMANDS if word in c) for word in ("xargs", "amr merge", "amr fit"))
    shell(extract)
    assert f"clips: {NUM_CLIPS}" in shell(merge)
    shell("rm caches/*shard*")
    shell(f"{fit} --epochs 1 --device cpu")


def test_the_slurm_script_embeds_the_shard_of_its_task(shell, tmp_path):
    script = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1].replace("--preset pretrained", "--preset weightless")
    (number,) = re.findall(r"--array=1-(\d+)", script)
    shell(script, SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT=number, SLURM_CPUS_PER_TASK="1")
    assert [path.name for path in (tmp_path / "caches").iterdir()] == [f"clips.shard-02-of-{number}.h5"]
    (wrapped,) = re.findall(r"--wrap '(.*)'", PAGE)
    assert wrapped.startswith('amr merge "$AMR_HOME"/caches/clips.shard-*-of-16.h5')
