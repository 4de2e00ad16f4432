"""A damaged member of a sweep is not finished: the same command says so and fits it again."""

from __future__ import annotations

import pytest

from amr.common.files import CHECKSUMS
from amr.common.progress import Progress
from amr.fusion.config import SweepConfig
from amr.fusion.sweep.sweep import sweep


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("folds", [0, 3])
def test_a_damaged_member_is_fitted_again_to_the_bit(small_cache, workspace, folds):
    fixed = {"cache": str(small_cache), "epochs": 1, "device": "cpu", "out": "mine", "folds": folds}
    config = SweepConfig.parse(seeds=2, swept={}, **fixed)
    folder = sweep(config).folder
    whole = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert sum(file.name == CHECKSUMS for file in whole) == 1 + 2 * (1 + folds)
    (member, _) = sorted((folder / "runs").iterdir())
    of_member = [file for file in whole if file.is_relative_to(member) and file.name != CHECKSUMS]
    damages = [(file, whole[file][:-20]) for file in of_member] + [(file, None) for file in of_member[:2]]
    damages += [(file, bytes([*whole[file][:60], whole[file][60] ^ 4, *whole[file][61:]])) for file in of_member]
    for file, content in damages:
        file.unlink() if content is None else file.write_bytes(content)
        progress = Notes()
        sweep(config, progress)
        if file != member / "metrics.json" or content is not None:
            assert any(text.startswith("warning: ") and "is damaged" in text for text in progress.notes), file
        assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == whole, file
