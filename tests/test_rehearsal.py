"""A small rehearsal of the whole way: commands end well, a merged cache equals a single one, memory stays flat."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_small_rehearsal_ends_well():
    command = [sys.executable, ROOT / "benchmarks/rehearsal.py", "--clips=2000", "--shards=2", "--runs=6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2,000 clips" in done.stdout
