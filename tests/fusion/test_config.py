"""Settings of fits and sweeps: what Python may pass, and settings without an effect."""

from amr.fusion.config import FitConfig


def test_ratios_and_modalities_may_be_lists_and_mappings():
    assert FitConfig(amr_ratio=(3, 1)).amr_ratio == "3:1"
    assert FitConfig(amr_ratio={"audio": 3, "video": 1}).amr_ratio == "audio=3:video=1"
    assert FitConfig(modalities=["audio", "video"]).modalities == "audio,video"
