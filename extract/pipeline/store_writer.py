"""Decoding of what a store lacks, batch by batch, so that a kill costs one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from amr.common.progress import Progress
from amr.data_manifests.manifest import Manifest
from amr.extract.cache.journal import Failure, Journal
from amr.extract.pipeline.batches import Batch, run_batches, unfinished_batches
from amr.extract.pipeline.load import Loaded, not_found
from amr.extract.pipeline.store_files import ABSENT, PRESENT, TODO, RowFile, StoreInfo, rows_in_tensors
from amr.extract.pipeline.store_inputs import StoredInput
from amr.extract.pipeline.workers import ClipLoader


def fill(writer: StoreWriter, loader: ClipLoader, batch_size: int, progress: Progress) -> StoreInfo:
    """Decode what is not done and return the info of the finished store."""
    batches = unfinished_batches(dict.fromkeys(writer.names, writer.done()), batch_size)
    total = writer.num_with_media(0, None)
    progress.start(total, total - sum(writer.num_with_media(batch.start, batch.stop) for batch in batches))

    def write(batch: Batch, loaded: list[Loaded]) -> None:
        num_failures = writer.write(batch, loaded)
        progress.advance(writer.num_with_media(batch.start, batch.stop), num_failures)

    try:
        run_batches(loader, batches, write)
    finally:
        progress.stop()
    return writer.finish()


class StoreWriter:
    """A writer of decoded batches that tracks which clips are done."""

    def __init__(self, folder: Path, info: StoreInfo, manifest: Manifest, inputs: Mapping[str, StoredInput]) -> None:
        self.names = tuple(info.shapes)
        self._folder, self._info, self._inputs = folder, info, inputs
        self._manifest, self._ids = manifest, manifest.ids
        self._tensors = info.tensors(folder, writable=True)
        self._states = info.states(folder)
        self._states_file = RowFile(folder / "store.states", self._states.shape, np.uint8, writable=True)
        self._rows = rows_in_tensors(self._states)
        self._journal = Journal(folder / "store")
        self._journal.compact({info.fingerprint: self.done()})

    def done(self) -> np.ndarray:
        """Clips with nothing left to do, bool `(clips,)`."""
        return np.asarray((self._states != TODO).all(axis=1))

    def num_with_media(self, start: int, stop: int | None) -> int:
        """Number of clips from `start` to `stop`, exclusive, that have any media."""
        return int((self._rows[start:stop] >= 0).any(axis=1).sum())

    def write(self, batch: Batch, loaded: list[Loaded]) -> int:
        """Write a batch, mark it done, and return the number of (clip, modality) pairs that failed."""
        clips = slice(batch.start, batch.stop)
        states = self._states[clips].copy()
        failures: list[Failure] = []
        for column, name in enumerate(self.names):
            rows = self._rows[clips, column]
            has_row = rows >= 0
            values, present, reasons = self._values(name, batch.start, loaded)
            if has_row.any():  # the rows of neighbors are neighbors
                self._tensors[name].write(int(rows[has_row][0]), values[has_row])
            states[has_row, column] = np.where(present, PRESENT, ABSENT)[has_row]
            failures += [self._failure(batch.start + i, name, reasons[i]) for i in reasons if has_row[i]]
        self._journal.append(self._info.fingerprint, failures)
        self._states[clips] = states
        self._states_file.write(batch.start, states)
        return len({(failure.row, failure.modality) for failure in failures})

    def finish(self) -> StoreInfo:
        """Mark the store as done."""
        failures = [*self._journal.read({self._info.fingerprint: self.done()}), *self._missing_files()]
        # an interrupted batch is in the journal twice
        rows = sorted({(failure.row, failure.modality, failure.reason) for failure in failures})
        entries = [{"id": self._ids[row], "modality": modality, "reason": reason} for row, modality, reason in rows]
        finished = replace(self._info, failures=entries, done=True)
        finished.write(self._folder)
        self._journal.remove()
        return finished

    def _missing_files(self) -> list[Failure]:
        """Failures of the files that the manifest lists and that were not there when the store was made."""
        failures = []
        for column, name in enumerate(self.names):
            paths = self._manifest.paths(self._inputs[name].encoder.modality)
            for row in np.flatnonzero(self._rows[:, column] < 0).tolist():
                if (path := paths[row]) is not None:
                    failures.append(self._failure(row, name, not_found(path)))
        return failures

    def _failure(self, row: int, name: str, reason: str) -> Failure:
        return Failure(row, self._ids[row], self._inputs[name].encoder.modality, reason)

    def _values(self, name: str, start: int, loaded: list[Loaded]) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Values and presence of each clip of a batch, and index -> reason why an existing modality has no value."""
        shape, given = self._info.shapes[name][1:], self._inputs[name]
        values = np.zeros((len(loaded), *shape), np.float16)
        present = np.zeros(len(loaded), bool)
        reasons = {i: clip.failures[name] for i, clip in enumerate(loaded) if name in clip.failures}
        for i, clip in enumerate(loaded):
            if name not in clip.inputs:
                continue
            x = given.cut(clip.inputs[name])
            half = given.pad(x.to(torch.float16))
            if tuple(half.shape) != shape:
                raise ValueError(
                    f"--encoder {name}={given.encoder.spec} must give every clip the same shape, got {shape} and "
                    f"{tuple(half.shape)} (clip {self._ids[start + i]!r}). Type frames=4 instead of rate=."
                )
            if torch.isfinite(x.to(torch.float16)).all():
                values[i], present[i] = half.numpy(), True
            elif torch.isfinite(x).all():
                reasons[i] = f"{name}: a value of {float(x.abs().max()):g} does not fit into float16"
            else:
                reasons[i] = f"{name}: the prepared tensor is not finite"
        return values, present, reasons
