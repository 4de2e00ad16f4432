"""`--logger wandb`: Weights & Biases. Each run is a run there; those of a sweep form a group."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amr.common.files import NotWhole, read_json, write_json
from amr.fusion.loggers.base import Logger, Point, TrackedRun, loggers
from amr.fusion.loggers.files import WANDB

PROJECT = "amr"  # if $WANDB_PROJECT names none
OFFLINE = ("offline", "dryrun", "disabled")
IDS = "runs.json"  # in the folder: name of a run to its id at Weights & Biases


@loggers.register("wandb")
class WandbLogger(Logger):
    """Runs in `wandb/`, which are sent as they are trained, or with WANDB_MODE=offline later by `wandb sync`."""

    summary = "Weights & Biases, also offline: a run per run, grouped by sweep; needs pip install 'amr-fusion[wandb]'"

    def __init__(self, folder: Path, group: str | None = None) -> None:
        super().__init__(folder, group)
        self._runs: dict[str, Any] = {}
        self._known: dict[str, int] = {}  # number of epochs that a resumed run has already
        self._ids: dict[str, str] | None = None

    @classmethod
    def check(cls) -> None:
        """Check that the package is installed, and that there is an account unless runs stay offline."""
        if find_spec("wandb") is None:
            raise ValueError(
                "--logger must name installed trackers, got wandb, whose package is missing. "
                "Run pip install 'amr-fusion[wandb]'."
            )
        import wandb

        if wandb.setup().settings.mode in ("online", "shared") and not wandb.login(prompt=False, verify=False):
            raise ValueError(
                "--logger wandb must have an account or be offline, got no API key. "
                "Run wandb login, or set WANDB_MODE=offline."
            )

    def begin(self, run: TrackedRun, points: Sequence[Point] = ()) -> None:
        """Begin a run. A resumed one keeps its id; what it wrote offline before is replaced."""
        import wandb

        id_ = self._id(run.name, wandb.util.generate_id)
        settings = wandb.Settings(  # quiet, without threads that watch the machine for each of many runs
            silent=True, console="off", symlink=False, x_disable_stats=True, x_save_requirements=False
        )
        is_offline = wandb.setup().settings.mode in OFFLINE
        if is_offline:
            for left in (self.folder / WANDB).glob(f"offline-run-*-{id_}"):
                shutil.rmtree(left)
        found = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self.group,
            name=run.name,
            id=id_,
            resume=None if is_offline else "allow",
            config=dict(run.settings),
            dir=str(self.folder),
            reinit="create_new",
            settings=settings,
        )
        found.define_metric("epoch", hidden=True)
        found.define_metric("*", step_metric="epoch")
        self._runs[run.name], self._known[run.name] = found, found.starting_step
        for point in points:
            self.log(run.name, point)

    def log(self, name: str, point: Point) -> None:
        """Log an epoch, unless the run was resumed after it."""
        if self._known[name] > 0:
            self._known[name] -= 1
        else:
            self._runs[name].log({"epoch": point.epoch, **point.tagged})

    def end(self, name: str, measures: Point | None) -> None:
        """Put the test measures into the summary, and finish the run; without them it failed."""
        run = self._runs.pop(name)
        if measures is not None:
            run.summary.update(measures.tagged)
        run.finish(exit_code=int(measures is None))

    def _id(self, name: str, new: Callable[[], str]) -> str:
        """Id of a run, the same when its command continues."""
        file = self.folder / WANDB / IDS
        if self._ids is None:
            try:
                saved = read_json(file)
            except NotWhole:
                saved = None
            self._ids = saved if isinstance(saved, dict) else {}
        if name not in self._ids:
            self._ids[name] = new()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, self._ids)
        return self._ids[name]
