"""A short form of the corpus of media: one extraction, and each clip alone."""

from __future__ import annotations

from .media import run


def test_every_clip_is_present_failed_or_absent_and_equals_itself_alone(tmp_path):
    for outcome in run(seed=0, scale=0.025, folder=tmp_path):
        assert outcome.lost == (), outcome.kind
        assert outcome.tries > 0
