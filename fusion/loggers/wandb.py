"""`--logger wandb`: Weights & Biases. Each run is a run there; those of a sweep form a group.

Its files are where its own tools look for them, in `wandb/` of the workspace (or of $WANDB_DIR): they hold links, which
no folder of results may. That of the run or sweep has the ids.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amr.common.files import NotWhole, read_json, write_json
from amr.common.workspace import home
from amr.fusion.loggers.base import Logger, Point, TrackedRun, loggers
from amr.fusion.loggers.files import IDS

PROJECT = "amr"  # if $WANDB_PROJECT names none
ID = re.compile("[0-9a-f]{8}")  # others would be patterns of folders to remove


@loggers.register("wandb")
class WandbLogger(Logger):
    """Runs that are sent as they are trained, or with WANDB_MODE=offline later, by `wandb sync`."""

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

        id_ = self._id(run.name)
        settings = wandb.Settings(  # quiet, without threads that watch the machine for each of many runs
            silent=True, console="off", symlink=False, x_disable_stats=True, x_save_requirements=False
        )
        place = Path(os.environ.get("WANDB_DIR") or home())
        found = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self.group,
            name=run.name,
            id=id_,
            resume="allow",  # without an effect offline
            config=dict(run.settings),
            dir=str(place),
            reinit="create_new",
            settings=settings,
        )
        found.define_metric("epoch", hidden=True)
        found.define_metric("*", step_metric="epoch")
        if found.offline:
            for left in (place / "wandb").glob(f"offline-run-*-{id_}"):
                if left.resolve() != Path(found.dir).resolve().parent:
                    shutil.rmtree(left)
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

    def _id(self, name: str) -> str:
        """Id of a run, the same when its command continues."""
        file = self.folder / IDS
        if self._ids is None:
            try:
                saved = read_json(file)
            except NotWhole:
                saved = None
            entries = saved.items() if isinstance(saved, dict) else ()
            self._ids = {of: id_ for of, id_ in entries if isinstance(id_, str) and ID.fullmatch(id_)}
        if name not in self._ids:
            self._ids[name] = secrets.token_hex(4)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, self._ids)
        return self._ids[name]
