"""Options of a frontier, and the settings that it compares."""

import pytest

from amr.fusion.config import FitConfig
from amr.fusion.frontier.config import FrontierConfig
from amr.fusion.frontier.settings import CONTROLS, SCALING, UME, settings_of


def test_the_fit_has_the_same_settings_without_those_of_a_frontier():
    config = FrontierConfig(cache="c", head="sum", seeds=4, against="shapley", use="2:1")
    assert config.fit == FitConfig(cache="c", head="sum", epochs=25, folds=5)
    assert type(config.fit) is FitConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amr_ratio": "1:1"}, "amr_ratio must be left out"),
        ({"seed": 3}, "seed must be left out"),
        ({"embedding_noise": "1"}, "embedding_noise must be left out"),
        ({"attribution_output": "logit"}, "attribution_output must be left out"),
        ({"seeds": 0}, "--seeds must be 1 or more, got 0"),
        ({"max_cost": -0.1}, "--max-cost must be 0 or more, got -0.1"),
        ({"use": "1:x"}, "--use must be numbers with colons between them"),
        ({"against": "shaply"}, "Did you mean shapley"),
        ({"folds": 2}, "--folds must be 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrontierConfig(**options)


def test_every_setting_has_a_label_and_runs_of_its_own():
    settings = settings_of(FrontierConfig(), ["audio", "video"])
    assert settings[0].kind == "plain"
    assert len({setting.label for setting in settings}) == len(settings) == 1 + 15 + 3 + 3 + 5 + 4
    configs = [setting.config for setting in settings if setting.config is not None]
    assert len({*configs}) == len(configs)
    permuted = {(c.amr_ratio, c.amr_weight) for c in configs if c.attribution == "permutation" and c.amr_ratio}
    assert len(permuted) == 15
    assert ("audio=1:video=4", 0.3) in permuted
    assert {setting.kind for setting in settings if setting.is_control} == {*CONTROLS}
    assert all(setting.config.amr_ratio is None for setting in settings if setting.is_control and setting.config)


def test_against_adds_the_same_ratios_and_weights():
    settings = settings_of(FrontierConfig(against=["grad_x_input", "shapley"]), ["audio", "video"])
    counts = {kind: sum(s.kind == kind for s in settings) for kind in ("permutation", "grad_x_input", "shapley")}
    assert counts == {"permutation": 15, "grad_x_input": 15, "shapley": 15}


def test_each_of_three_modalities_is_favored_in_turn():
    settings = settings_of(FrontierConfig(), ["a", "b", "c"])
    assert sum(setting.kind == "permutation" for setting in settings) == 3 * 7
    assert sum(setting.kind == UME for setting in settings) == 7
    scalings = [setting for setting in settings if setting.kind == SCALING]
    assert [setting.factors for setting in scalings] == [
        (1, 0.25, 0.25),
        (1, 0.5, 0.5),
        (0.25, 1, 0.25),
        (0.5, 1, 0.5),
        (0.25, 0.25, 1),
        (0.5, 0.5, 1),
    ]


def test_weighted_ume_drops_what_only_other_heads_take():
    config = FrontierConfig(head="film", condition="audio", hidden=8)
    ume = [setting.config for setting in settings_of(config, ["audio", "video"]) if setting.kind == UME]
    assert {(c.method, c.head, c.condition, c.hidden) for c in ume} == {("ume", "concat", None, 0)}
