"""Settings of fits and sweeps: what Python may pass, and settings without an effect."""

import numpy as np
import pytest

from amr.fusion.config import FitConfig
from amr.fusion.swept import SweepConfig, check_effects


def test_a_sweep_takes_lists_single_values_and_the_values_of_its_base():
    base = FitConfig(head="sum", lr=0.01)
    swept = SweepConfig(
        base, amr_ratio=["none", (1, 2), {"a": 1, "b": 3}], amr_weight=np.array([0.5, 1.0]), seed=range(2)
    )
    assert swept.head == ("sum",)
    assert swept.lr == (0.01,)
    assert swept.amr_ratio == (None, "1:2", "a=1:b=3")
    assert swept.amr_weight == (0.5, 1.0)
    assert swept.seed == (0, 1)
    assert len(swept.members()) == 2 * (1 + 2 * 2)
    assert SweepConfig(base, amr_ratio="1:1").amr_ratio == ("1:1",)
    assert SweepConfig(base, amr_ratio=None, lr=None).lr == (None,)


def test_the_members_without_a_ratio_have_the_default_weight():
    weights = {m.amr_ratio: m.amr_weight for m in SweepConfig(amr_ratio=[None, "1:1"], amr_weight=0.3).members()}
    assert weights == {None: FitConfig.amr_weight, "1:1": 0.3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amr_weight": 5.0}, "--amr-weight must be used with --amr-ratio, got 5.0 without it"),
        ({"amr_optimizer": "separate"}, "--amr-optimizer must be used with --amr-ratio, got separate without it"),
        ({"adapter_dim": 32}, "--adapter-dim must be used with --adapter linear or mlp, got 32 without it"),
    ],
)
def test_settings_without_an_effect_are_refused(settings, message):
    config = FitConfig(**settings)
    with pytest.raises(ValueError, match=message):
        check_effects(config, [config.amr_ratio], [config.amr_weight])
    with pytest.raises(ValueError, match=message):
        SweepConfig(config)


@pytest.mark.parametrize(
    "settings",
    [
        {"amr_weight": 0.0, "amr_ratio": "1:1"},
        {"amr_weight": 0.0},
        {"amr_optimizer": "separate", "amr_ratio": "1:1"},
        {"adapter_dim": 32, "adapter": "linear"},
        {"attribution": "shapley", "attribution_output": "logit"},  # they are measured
    ],
)
def test_settings_with_an_effect_are_accepted(settings):
    config = FitConfig(**settings)
    check_effects(config, [config.amr_ratio], [config.amr_weight])
    SweepConfig(config)
