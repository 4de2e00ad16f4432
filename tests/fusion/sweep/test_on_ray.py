"""Run groups as tasks of Ray: the files of a sweep here, to the bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from amr.common.cluster.options import ClusterOptions
from amr.common.progress import Progress
from amr.fusion.frontier import settings
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.frontier import frontier
from amr.fusion.sweep import on_ray
from amr.fusion.sweep.sweep import sweep

from ...conftest import without
from ...torture.damage import differences
from ..loggers.read_logs import of_csv
from .test_sweep import config

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def ray() -> Iterator[ClusterOptions]:
    """Options of a cluster that this process is connected to."""
    if importlib.util.find_spec("ray") is None:
        without("ray", "pip install 'amr-fusion[ray]'")
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ClusterOptions(engine="ray")
    ray.shutdown()


class Counted(Progress):
    """The amount of the work that was counted."""

    amount = 0.0

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        self.amount = done

    def advance(self, amount: float, failures: int = 0) -> None:
        self.amount += amount


def test_a_sweep_on_workers_writes_the_files_of_one_here(small_cache, ray):
    request = config(small_cache, amr_ratio="none,1:1", method="naive,umt", seeds=2, fixed={"adapter": "linear"})
    folder = sweep(request).folder
    whole = folder.rename(folder.with_name("whole"))
    counted = Counted()
    assert len(sweep(request, counted, cluster=ray).rows) == 16
    assert differences(whole, folder) == []
    assert counted.amount == pytest.approx(8)
    (folder / "runs" / next((folder / "runs").iterdir()).name / "metrics.json").unlink()
    sweep(request, cluster=ray)  # the groups with unfinished runs alone
    assert differences(whole, folder) == []


def test_workers_send_what_is_logged(small_cache, ray):
    request = config(small_cache, amr_ratio="none,1:1", seeds=2, fixed={"logger": "csv"})
    folder = sweep(request).folder
    whole = folder.rename(folder.with_name("whole"))
    sweep(request, cluster=ray)
    here, there = (of_csv(each / "logs" / "history.csv") for each in (whole, folder))
    assert len(here) == 4
    assert there == here


def test_a_frontier_fits_on_workers(small_cache, ray, monkeypatch):
    for name in ("WEIGHTS", "NOISES", "DECAYS"):
        monkeypatch.setattr(settings, name, getattr(settings, name)[:1])
    request = FrontierConfig(cache=str(small_cache), folds=0, seeds=1, epochs=1, device="cpu")
    here = frontier(request)
    whole = here.folder.rename(here.folder.with_name("whole"))
    there = frontier(request, cluster=ray)
    assert there.document == here.document
    assert differences(whole, there.folder) == []


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--out must be on a disk that all nodes share, got .*Pass --out"):
        on_ray._check_shared([tmp_path / "runs" / "none"])
