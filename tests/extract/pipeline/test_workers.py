import gc
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from av import VideoFrame

from amr.extract.pipeline.load import Loaded
from amr.extract.pipeline.workers import _begin_worker


@pytest.mark.parametrize(("parent", "status"), [(os.getpid, 0), (lambda: 1, 1)])
def test_a_worker_without_its_parent_ends(parent, status):
    """Otherwise the worker would wait forever, and so would any reader of its output."""
    worker = multiprocessing.get_context("fork").Process(target=_begin_worker, args=(parent(), 0))
    worker.start()
    worker.join()
    assert worker.exitcode == status


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool])
def test_a_clip_comes_whole_from_another_process(dtype):
    loaded = Loaded({"a": torch.ones(3, 2).to(dtype), "b": torch.zeros(0, dtype=dtype)}, {"c": "broken"})
    back = pickle.loads(pickle.dumps(loaded))
    assert back.failures == {"c": "broken"}
    for name, value in loaded.inputs.items():
        assert back.inputs[name].dtype == dtype
        assert torch.equal(back.inputs[name], value)
        back.inputs[name].add_(0) if dtype != torch.bool else None  # writable


def _interrupt_itself(parent):
    _begin_worker(parent, 0)
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(3)


def test_a_worker_leaves_ctrl_c_to_its_parent():
    worker = multiprocessing.get_context("fork").Process(target=_interrupt_itself, args=(os.getpid(),))
    worker.start()
    worker.join(10)
    assert worker.exitcode == 3


def _collect(parent):
    _begin_worker(parent, 0)
    gc.collect()
    os._exit(3)


def test_what_the_parent_left_is_not_freed_in_a_worker(tmp_path):
    """Scalers of FFmpeg have threads, which a fork does not have: freeing one there would wait for ever."""
    frame = VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    frame.reformat(format="yuv420p", threads=2)  # the frame keeps its scaler
    cycle = [frame]
    cycle.append(cycle)
    del frame, cycle
    worker = multiprocessing.get_context("fork").Process(target=_collect, args=(os.getpid(),))
    worker.start()
    worker.join(20)
    alive = worker.is_alive()
    worker.kill()
    assert not alive
    assert worker.exitcode == 3
