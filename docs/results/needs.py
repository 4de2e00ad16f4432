"""Needs of the table of trained encoders on CREMA-D and VGGSound: disk, trainings, and clips through the networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tables import Rows, table

from amr.data_manifests.crema_d import read_list
from amr.data_manifests.vggsound import read_classes, read_test_list
from amr.extract.pipeline.store_files import StoreInfo
from amr.fusion.data.splits import SPLIT_OFF_FOLDS
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import build_encoders
from amr.fusion.methods import Method, methods
from amr.fusion.sweep.table import TABLE_1

SEEDS = 5
ON_YOUTUBE = 0.9  # assumed part of VGGSound's clips that can still be downloaded


@dataclass(frozen=True)
class Need:
    """A data set, and how fast its clips go through the preset's networks.

    Args:
        name: Name of the data set.
        seconds: Length of its clips.
        clips: Numbers of train, val and test clips.
        clips_per_second: Clips in a training step per second of one core, by `benchmarks/encoders.py`.
    """

    name: str
    seconds: float
    clips: tuple[int, int, int]
    clips_per_second: float

    @property
    def command(self) -> tuple[str, ...]:
        """The command, without `amr`."""
        return ("table", "--end-to-end", "--dataset", self.name, "--seeds", str(SEEDS))

    @property
    def store_bytes(self) -> int:
        """Size of the store of all clips, by the store's own formula."""
        shapes = {name: (sum(self.clips), *shape) for name, shape in self._shapes()}
        return StoreInfo("", sum(self.clips), shapes, [], done=False).num_bytes

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Shape of one clip, as each encoder of the preset prepares it."""
        for name, encoder in build_encoders(TrainConfig(dataset=self.name)).items():
            prepare = encoder.prepare
            if prepare.sampling is None:
                media = np.zeros(round(self.seconds * (prepare.sample_rate_hz or 0)), np.float32)
            else:
                media = np.zeros((len(prepare.sampling.times(0.0, self.seconds)), 360, 480, 3), np.uint8)
            yield name, tuple(prepare(media).shape)

    @property
    def trained_clips(self) -> int:
        """Clips in all training steps of all trainings."""
        return num_trainings() * TrainConfig.epochs * self.clips[0]


def num_trainings() -> int:
    """Trainings of the table: one of each method for each seed, and of those that fuse another with AMR.

    An ensemble is assembled from the uni-modal models, which methods with teachers share, too.
    """
    trained = [method for method in map(methods.__getitem__, TABLE_1) if method.assemble is Method.assemble]
    return SEEDS * sum(2 if method.fuses else 1 for method in trained)


def needs() -> list[Need]:
    """Both data sets of the paper."""
    splits = read_list()["split"].value_counts()
    listed, test = read_classes()["count"].astype(int).sum(), len(read_test_list())
    train = round(ON_YOUTUBE * (listed - test))
    val = round(train / SPLIT_OFF_FOLDS)
    return [
        Need("crema-d", 3.0, (*(int(splits[part]) for part in ("train", "val", "test")),), 2.25),
        Need("vggsound", 10.0, (train - val, val, round(ON_YOUTUBE * test)), 1.73),
    ]


def table_of(several: Sequence[Need]) -> Rows:
    """One row per data set."""
    columns = ["data set", "clips in train/val/test", "store, GiB", "trainings", "clips in steps"]
    columns += ["clips/s of one core", "hours of one core"]
    rows = []
    for need in several:
        clips = "/".join(f"{count:,}" for count in need.clips)
        hours = need.trained_clips / need.clips_per_second / 3600
        row = [need.name, clips, f"{need.store_bytes / 2**30:.1f}", str(num_trainings()), f"{need.trained_clips:,}"]
        rows.append([*row, f"{need.clips_per_second:.2f}", f"{hours:,.0f}"])
    return columns, rows


def needs_text(several: Sequence[Need]) -> list[str]:
    """Paragraphs: commands, table, and how to work out the hours of another machine."""
    commands = "\n".join(f"    amr {' '.join(need.command)}" for need in several)
    crema_d, vggsound = several
    return [
        f"The same table with the field's encoders, two ResNet-18 from random weights, {TrainConfig.epochs} epochs and "
        f"{SEEDS} seeds:",
        commands,
        table(table_of(several)),
        "The store has 2 bytes for each number of a clip that an encoder takes. VGGSound lists 183,730 clips in train "
        "and 15,446 in test. We assume that a tenth of them is gone from YouTube; a seventh of train is split off as "
        "val. *Clips in steps* are trainings x epochs x clips in train. The speed is that of one training step, both "
        "encoders, forward and backward, by `python benchmarks/encoders.py` "
        "([benchmarks.md](benchmarks.md#training-encoders)). On any machine,",
        "    hours = trainings x epochs x clips in train / (3600 x clips per second)",
        "Val, the passes of UMT's teachers, the rehearsals of gradient blending and the decoding come on top. At the "
        f"speed of one core, CREMA-D takes {_days(crema_d)} days and VGGSound {_days(vggsound)}: this is work for a "
        f"GPU. **No GPU has been measured.** At c clips per second, CREMA-D takes "
        f"{crema_d.trained_clips / 3600:,.0f} / c hours and VGGSound {vggsound.trained_clips / 3600:,.0f} / c.",
    ]


def _days(need: Need) -> str:
    return f"{need.trained_clips / need.clips_per_second / 86400:,.0f}"
