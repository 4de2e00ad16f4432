"""Notes say exactly when too few epochs make a method another one."""

from __future__ import annotations

import pytest

from amr.fusion.methods import methods
from amr.fusion.methods.gradient_blending import ONLINE_SUPER_EPOCH

from .conftest import DIMS, build

EPOCHS = (1, 2, 3, 4, 5, 8, 9)


def notes_of(name: str, options: dict, epochs: int) -> list[str]:
    method = methods[name]
    return method.notes(method.Options(**options), method.optimizer, epochs, [*DIMS])


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize(("start", "end"), [(1, 51), (3, 5), (4, 4), (9, 51)])
def test_gradients_are_modulated_unless_it_is_said(start, end, epochs):
    options = {"start_epoch": start, "end_epoch": end}
    method, _ = build("ogm", options=options, epochs=epochs)
    acts = []
    for epoch in range(1, epochs + 1):
        method.begin_epoch(epoch)
        acts.append(method.acts)
    notes = notes_of("ogm", options, epochs)
    assert len(notes) == (not any(acts))
    assert all("no gradient is modulated" in note for note in notes)
    assert notes_of("ogm", options | {"alpha": 0.0}, epochs) == []


def test_the_first_epoch_after_the_last_is_named():
    assert notes_of("ogm-ge", {"start_epoch": 40}, 10) == [
        "start_epoch=40 is after the last epoch, 10: no gradient is modulated"
    ]


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("stage_epochs", [0, 1, 4])
def test_each_modality_has_a_stage_unless_it_is_said(stage_epochs, rectify, epochs):
    options = {"stage_epochs": stage_epochs, "rectify": rectify}
    method, _ = build("reconboost", options=options, epochs=epochs, head="sum")
    learners = set()
    for epoch in range(1, epochs + 1):
        method.begin_epoch(epoch)
        learners.add(method.learner)
    (note,) = notes_of("reconboost", options, epochs) or [""]
    assert ("video" in note) == (1 not in learners)
    assert ("never trains video" in note) == (1 not in learners and None not in learners)
    assert "audio" not in note


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("every", [2 / 9, 0.5, 1.0])
def test_encoders_go_back_unless_it_is_said(every, epochs):
    method, _ = build("dnr", options={"every": every}, epochs=epochs)
    notes = notes_of("dnr", {"every": every}, epochs)
    assert len(notes) == (not method.first)
    assert all("no encoder ever goes back" in note for note in notes)
    assert notes_of("dnr", {"every": every, "times": 0}, epochs) == []


def test_blending_measures_again_unless_it_is_said():
    assert "measured once" in notes_of("gradient-blending", {"mode": "online"}, ONLINE_SUPER_EPOCH)[0]
    assert notes_of("gradient-blending", {"mode": "online"}, ONLINE_SUPER_EPOCH + 1) == []
    assert notes_of("gradient-blending", {"mode": "online", "super_epoch": 1}, 2) == []
    assert notes_of("gradient-blending", {}, 2) == []


def test_no_method_has_a_remark_on_its_defaults():
    assert [note for name, method in methods.items() for note in notes_of(name, {}, 60)] == []
