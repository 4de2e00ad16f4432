import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from amr.common.devices import choose_device, thread_pool


def test_auto_is_the_gpu_if_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_unknown_devices_are_refused_in_words():
    with pytest.raises(ValueError, match=r"must be one of auto, cpu, cuda, cuda:N, got 'cup'\. Did you mean cpu"):
        choose_device("cup")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="--device must be available, got cuda without a GPU"):
        choose_device("cuda")


def test_the_gpu_of_an_apple_machine_runs_encoders_only(monkeypatch):
    with pytest.raises(ValueError, match=r"must be auto, cpu or cuda for heads, got mps, which runs encoders"):
        choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="must be available, got mps without the GPU of an Apple machine"):
        choose_device("mps", encodes=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps", encodes=True) == torch.device("mps")


MANY_STEPS = """
import resource, torch
from amr.common.devices import keep_freed_memory
keep_freed_memory()
faults = []
for _ in range(60):
    torch.ones(2**21)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[19])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_step():
    """In a process of its own: what other tests left in this one's memory decides where a tensor goes."""
    done = subprocess.run([sys.executable, "-c", MANY_STEPS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2048  # 40 tensors of 2048 pages each; the first few go to one place after another


MANY_HOLES = """
import sys, torch
from amr.common.devices import return_freed_memory
if sys.argv[1] == "return":
    return_freed_memory()
torch.ones(2**22)
large, small = zip(*[(torch.ones(2**22), torch.ones(2**10)) for _ in range(10)])
before = int(open("/proc/self/statm").read().split()[1])
del large
print(before - int(open("/proc/self/statm").read().split()[1]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_returned_from_between_small_ones():
    command = [sys.executable, "-c", MANY_HOLES]
    returned, kept = (
        int(subprocess.run([*command, how], capture_output=True, text=True, check=True).stdout)
        for how in ("return", "keep")
    )
    assert returned >= 10 * 4096 > kept  # pages: 10 tensors of 16 MiB


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_the_threads_of_a_pool_compute_with_one_and_are_gone_after_it():
    before = torch.get_num_threads()
    for _ in range(50):  # without waiting, some of them are left
        barrier = threading.Barrier(3)

        def number_of(_: int, barrier: threading.Barrier = barrier) -> tuple[int, int]:
            barrier.wait()  # so that each thread gets one
            torch.randn(100, 100) @ torch.randn(100, 100)
            return threading.get_native_id(), torch.get_num_threads()

        with thread_pool(3) as pool:
            numbers = dict(pool.map(number_of, range(3)))
        assert [*numbers.values()] == [1, 1, 1]
        assert not [each for each in numbers if Path(f"/proc/self/task/{each}").exists()]
    assert torch.get_num_threads() == before


def test_a_pool_of_one_thread_computes_with_all():
    with thread_pool(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads()
