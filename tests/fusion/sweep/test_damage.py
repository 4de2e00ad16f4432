"""A damaged member of a sweep is not finished: the same command says so and fits it again."""

from __future__ import annotations

import pytest

from amr.common.files import CHECKSUMS
from amr.common.progress import Progress
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_request_costs_no_finished_run(small_cache, workspace, overwrite):
    fixed = {"cache": str(small_cache), "epochs": 1, "device": "cpu", "out": "mine"}
    config = SweepConfig.parse(seeds=2, swept={"amr_ratio": "none,1:1", "method": "naive,unimodal"}, **fixed)
    folder = sweep(config).folder
    whole = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}
    content = whole[folder / "sweep.json"][0]
    for damaged in (content[:-20], b"", bytes([*content[:60], content[60] ^ 4, *content[61:]])):
        (folder / "sweep.json").write_bytes(damaged)
        progress = Notes()
        sweep(config, progress, overwrite=overwrite)
        assert any("sweep.json is damaged: it is written again" in text for text in progress.notes)
        for file, (then, time) in whole.items():
            assert file.read_bytes() == then
            assert file.stat().st_mtime_ns == time or file.parent == folder
    (folder / "sweep.json").write_bytes(b"")
    for other in ({"epochs": 2}, {"label": "parity"}):
        with pytest.raises(ValueError, match=r"a damaged sweep\.json\. Choose another name to keep it"):
            sweep(SweepConfig.parse(seeds=2, swept={}, **fixed | other))
    with pytest.raises(ValueError, match=r"a damaged sweep\.json\. Choose another name to keep it"):
        sweep(SweepConfig.parse(seeds=1, swept={}, **fixed))  # has fewer runs
    assert len(list(folder.rglob("metrics.json"))) == len([file for file in whole if file.name == "metrics.json"])
