from amr.fusion.config import SweepConfig
from amr.fusion.demo import RATIOS, _sweep
from amr.fusion.sweep.sweep import sweep


def test_a_sweep_that_another_version_left_is_replaced(small_cache, tmp_path):
    fixed = {"cache": str(small_cache), "out": str(tmp_path / "sweep"), "device": "cpu", "epochs": 1}
    sweep(SweepConfig.parse(seeds=1, swept={}, **fixed))
    rows = _sweep(tmp_path / "sweep", small_cache, 0, "cpu")
    assert [row["amr_ratio"] for row in rows] == list(RATIOS)
