import multiprocessing
import os

import pytest

from amr.extract.pipeline.workers import _leave_if_orphaned


@pytest.mark.parametrize(("parent", "status"), [(os.getpid, 0), (lambda: 1, 1)])
def test_a_worker_without_its_parent_ends(parent, status):
    """Else it would wait for ever, and whoever reads what it might print with it."""
    worker = multiprocessing.get_context("fork").Process(target=_leave_if_orphaned, args=(parent(), 0))
    worker.start()
    worker.join()
    assert worker.exitcode == status
