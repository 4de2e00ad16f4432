"""Commands on small inputs, with what must be there before: what is killed, at chosen points and at random moments."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import plotly.io  # noqa: F401  (these and all below are imported before the forks, which then begin their work at once)
import pydantic.type_adapter  # noqa: F401
import scipy.signal
import scipy.stats  # noqa: F401
import sklearn.model_selection  # noqa: F401
import torch

import amr.extract.encoders.families.timm
import amr.extract.import_embeddings
import amr.extract.run
import amr.extract.shards.merge
import amr.fusion.end_to_end.train
import amr.fusion.evaluate.evaluate
import amr.fusion.explain.explain
import amr.fusion.frontier.frontier
import amr.fusion.predict
import amr.fusion.report.page
import amr.fusion.sweep.table
import amr.fusion.sweep.trainings  # noqa: F401
from amr.cli import run
from amr.data_manifests.synthetic import SyntheticConfig, render

from ..child import Child, Ended

PIL.Image.init()  # its formats

Arguments = tuple[str, ...]
SECONDS = 300.0  # of one command
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Case:
    """A command that is killed and given again.

    Attributes:
        name: Name of the case.
        inputs: Function that writes what it reads into a folder.
        command: Arguments of `amr`; paths are below that folder, which is also the workspace.
        before: Commands that have run to their end before.
        killed: Whether the command itself was killed halfway before.
        num_threads: Number of threads that torch may use.
        is_variant: Whether its changes are mostly those of another case, so that some of each kind are enough.
        is_slow: Whether it starts and ends programs of its own, which takes long, also after a kill.
    """

    name: str
    inputs: Callable[[Path], None]
    command: Arguments
    before: tuple[Arguments, ...] = ()
    killed: bool = False
    num_threads: int = 1
    is_variant: bool = False
    is_slow: bool = False

    @property
    def grace_seconds(self) -> float:
        """Time that its processes have to end after it: Ray's agents report its death for a minute, to nobody."""
        return 90.0 if self.is_slow else 5.0


def embeddings(folder: Path) -> None:
    """Write embeddings of 24 clips with labels, splits and groups, and a second set of labels."""
    rng = np.random.default_rng(0)
    target = np.arange(24) % 2
    for name in ("audio", "video"):
        np.save(folder / f"{name}.npy", (rng.normal(size=(24, 3)) + target[:, None]).astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"{each}\n" for each in target))
    (folder / "others.txt").write_text("".join(f"{each}\n" for each in target[::-1]))
    (folder / "ids.txt").write_text("".join(f"c{each:02d}\n" for each in range(24)))
    (folder / "splits.txt").write_text("train\ntrain\nval\nval\ntest\ntest\n" * 4)


def media(folder: Path) -> None:
    """Write 12 clips of sound and picture, one of them broken; `manifest.csv`, and `labels.csv` with other labels."""
    config = SyntheticConfig(
        num_classes=2, num_clips=12, train_share=1 / 2, val_share=1 / 4, duration_seconds=0.2, size=32
    )
    render(config, folder / "media")
    (folder / "media" / "clips" / "00002.mp4").write_bytes(b"broken")
    with (folder / "media" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, turn in (("manifest", 0), ("labels", 1)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split"])
            writer.writerows(
                [f"media/{row['path']}", rows[i - turn]["label"], row["split"]] for i, row in enumerate(rows)
            )


def _encoder(name: str) -> str:
    shape = "size=32,channels=1" if name == "audio" else "size=32,frames=1"
    return f"--encoder={name}=timm:test_efficientnet,{shape},weights=random"


IMPORT = ("import", "--embeddings=audio=audio.npy", "--embeddings=video=video.npy", "--labels=labels.txt")
IMPORT += ("--splits=splits.txt", "--ids=ids.txt", "--out=caches/c.h5")
EXTRACT = ("extract", "--manifest=manifest.csv", "--out=caches/c.h5", "--workers=0", "--batch-size=6")
AUDIO, VIDEO = "--encoder=audio=logmel", "--encoder=video=frames,grid=4"
SHARDS = tuple((*EXTRACT, AUDIO, f"--shard={i}/2", f"--out=caches/{i}.h5") for i in (1, 2))
MERGE = ("merge", "caches/1.h5", "caches/2.h5", "--out=caches/c.h5")
FAST = ("--epochs=2", "--batch-size=8", "--device=cpu")
FIT = ("fit", "--cache=c", *FAST)
SWEEP = ("sweep", "--cache=c", *FAST, "--seeds=2")
TRAIN = ("train-encoders", "--manifest=manifest.csv", _encoder("audio"), _encoder("video"), "--workers=0", *FAST)
JOINT = (*TRAIN, "--objective=joint")


def _fitted(
    name: str, *arguments: str, more: Sequence[Arguments] = (), num_threads: int = 1, is_variant: bool = False
) -> Case:
    """A case on imported embeddings."""
    return Case(name, embeddings, arguments, (IMPORT, *more), num_threads=num_threads, is_variant=is_variant)


CASES = (
    Case("extract", media, (*EXTRACT, AUDIO)),
    Case("extract, killed before", media, (*EXTRACT, AUDIO, VIDEO), killed=True),
    Case("extract, one more embedding", media, (*EXTRACT, AUDIO, VIDEO), ((*EXTRACT, AUDIO),)),
    Case(
        "extract, other labels",
        media,
        ("extract", "--manifest=labels.csv", *EXTRACT[2:], AUDIO),
        ((*EXTRACT, AUDIO),),
    ),
    Case("extract --overwrite", media, (*EXTRACT, VIDEO, "--overwrite"), ((*EXTRACT, AUDIO),)),
    Case("extract --shard", media, SHARDS[1]),
    Case("merge", media, MERGE, SHARDS),
    Case("merge --overwrite", media, (*MERGE, "--overwrite"), (*SHARDS, (*EXTRACT, VIDEO))),
    Case("import", embeddings, IMPORT),
    Case("import --overwrite", embeddings, (*IMPORT, "--labels=others.txt", "--overwrite"), (IMPORT,)),
    _fitted("fit", *FIT),
    _fitted("fit --out", *FIT, "--out=mine"),
    _fitted("fit --folds", *FIT, "--out=mine", "--folds=3"),
    _fitted(
        "fit --overwrite",
        *(*FIT, "--out=mine", "--seed=1", "--overwrite"),
        more=(
            (*FIT, "--out=mine", "--folds=3"),
            ("evaluate", "mine", "--bootstrap=0", "--noise-draws=1"),
            ("explain", "mine", "c05"),
        ),
    ),
    _fitted("sweep", *SWEEP, "--head=concat,sum"),
    _fitted("sweep in two threads", *SWEEP, "--amr-ratio=none,1:1", num_threads=2),
    _fitted(
        "sweep --overwrite",
        *(*SWEEP, "--out=mine", "--head=sum", "--overwrite"),
        more=((*SWEEP, "--out=mine"), ("evaluate", "mine", "--bootstrap=0", "--noise-draws=1")),
        is_variant=True,
    ),
    _fitted("table", "table", "--cache=c", *FAST, "--seeds=1", "--method=naive,umt"),
    _fitted("evaluate a run", "evaluate", "mine", "--noise-draws=1", more=((*FIT, "--out=mine"),)),
    _fitted("evaluate a sweep", "evaluate", "mine", "--noise-draws=1", more=((*SWEEP, "--out=mine"),)),
    _fitted("predict", "predict", "mine", "c05", "--out=predicted.csv", more=((*FIT, "--out=mine"),)),
    _fitted("explain", "explain", "mine", "c05", more=((*FIT, "--out=mine"),)),
    _fitted("report", "report", "mine", "--out=page.html", more=((*SWEEP, "--out=mine"),)),
    _fitted("frontier", "frontier", "--cache=c", "--epochs=1", "--seeds=1", "--folds=0", "--out=mine"),
    _fitted("frontier of runs", "frontier", "--runs=mine", more=((*SWEEP, "--out=mine", "--amr-ratio=none,1:1"),)),
    Case("train-encoders", media, (*TRAIN, "--out=mine")),
    Case("train-encoders, joint, umt", media, (*JOINT, "--out=mine", "--method=umt"), is_variant=True),
    Case(
        "train-encoders --overwrite",
        media,
        (*JOINT, "--out=mine", "--overwrite"),
        ((*TRAIN, "--out=mine", "--seed=1"),),
        is_variant=True,
    ),
    Case(
        "train-encoders, more epochs",
        media,
        (*JOINT, "--out=mine", "--epochs=3"),
        ((*JOINT, "--out=mine"), ("evaluate", "mine", "--bootstrap=0", "--noise-draws=1")),
        is_variant=True,
    ),
    Case("train-encoders, a list", media, (*JOINT, "--out=mine", "--method=naive,unimodal"), is_variant=True),
    Case("manifest", media, ("manifest", "--dataset=synthetic", "--root=media", "--out=list.csv")),
)


ON_RAY = Case("extract --engine ray", media, (*EXTRACT, AUDIO, "--engine=ray", "--shards=2"), is_slow=True)


def start(home: Path, arguments: Arguments, prepare: Callable[[], object] = int, num_threads: int = 1) -> Child:
    """Start a command in a workspace, after `prepare` has run in its process."""

    def function() -> int:
        torch.set_num_threads(num_threads)
        prepare()
        return run(arguments)

    return Child(function, folder=home, env={"AMR_HOME": str(home), "COLUMNS": "200"})


def finished(home: Path, arguments: Arguments, num_threads: int = 1) -> Ended:
    """Run a command in a workspace to its end."""
    return start(home, arguments, num_threads=num_threads).wait(SECONDS)


def prepared(case: Case, home: Path) -> None:
    """Write what a case needs before its command into an empty folder.

    Raises:
        RuntimeError: A command that must end well did not.
    """
    case.inputs(home)
    for arguments in case.before:
        ended = finished(home, arguments)
        if ended.code != 0:
            raise RuntimeError(f"amr {' '.join(arguments)}: {ended.fault((0,))}")


def restored(state: Path, home: Path) -> None:
    """Make a folder hold what a saved one holds, times of files too."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(state, home, symlinks=True)


def real_cases(num_clips: int) -> list[Case]:
    """Cases on real clips; none without them (tests/conftest.py says where they are looked for)."""
    data = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data")
    files = sorted(data.rglob("*.mp4"))[:: max(1, len([*data.rglob("*.mp4")]) // num_clips)][:num_clips]
    if len(files) < 6:
        return []

    def inputs(folder: Path) -> None:
        rows = [f"{file},{'ab'[i % 2]},{('train', 'val', 'test')[i // 2 % 3]}" for i, file in enumerate(files)]
        (folder / "manifest.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")

    extract = ("extract", *EXTRACT[1:3], "--workers=2", "--batch-size=4", AUDIO)
    return [
        Case("extract real clips", inputs, (*extract, "--encoder=video=frames")),
        Case("extract of real clips, one more embedding", inputs, (*extract, "--encoder=video=frames"), (extract,)),
        Case("train-encoders on real clips", inputs, (*JOINT, "--out=mine"), is_variant=True),
    ]
