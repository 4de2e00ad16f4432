"""Clips of a store in the form that the trainer takes; nothing is read before a batch needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from amr.common.devices import upload
from amr.extract.pipeline.store_files import RowFile
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.run_axis.axes import of_runs

CLIPS_AT_ONCE = 64


@dataclass(frozen=True)
class MediaClips(Clips):
    """Selection of a store's clips.

    Args:
        embeddings: Modality to the store's tensor, `(rows, *shape)`; never copied.
        present: Presence of each modality in these clips, bool `(clips, modalities)`.
        target: Class indices, `(clips,)`; batches go to its device.
        rows: Modality to the row of each of these clips in the tensor, int64 `(clips,)`, on the tensor's device. -1
            stands for zeros.
        files: Modality to the file of the tensor, to read its rows from; for tensors in a device's memory, none.
        augment: Function of modality and `(run, batch, *shape)` that changes the clips of a training batch.
    """

    rows: Mapping[str, Tensor]
    augment: Callable[[str, Tensor], Tensor] | None = None
    files: Mapping[str, RowFile] = field(default_factory=dict)
    _host_present: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep presence in host memory, too: it decides how much each encoder has to do."""
        object.__setattr__(self, "_host_present", self.present.cpu())

    @property
    def index_device(self) -> torch.device:
        """Host memory, where rows and presence are looked up."""
        return torch.device("cpu")

    @property
    def block(self) -> None:
        """Any order: a clip is larger than what is read at a time."""

    def gather(self, index: Tensor, num_runs: int) -> Batch:
        """Training batch of the clips of `index`: augmented, float32.

        Args:
            index: Indices, `(run, batch)`, or `(group, batch)` if adjacent runs have a common batch.
            num_runs: Number of runs.
        """
        embeddings = self._read(index)
        if self.augment is not None:
            embeddings = {m: self.augment(m, x) for m, x in embeddings.items()}
        there = upload(index, self.target.device)
        on_host = of_runs(self._host_present[index.cpu()], num_runs)
        present, target, own = (of_runs(each, num_runs) for each in (self.present[there], self.target[there], there))
        return Batch(embeddings, present, target, on_host, own)

    def slice(self, start: int, stop: int, num_runs: int) -> Batch:
        """Clips `start` to `stop`, exclusive, the same for every run, without augmentation."""
        clips = torch.arange(len(self))[start:stop]
        return Batch(
            self._read(clips[None]),
            self.present[start:stop].expand(num_runs, -1, -1),
            self.target[start:stop].expand(num_runs, -1),
            self._host_present[start:stop].expand(num_runs, -1, -1),
            upload(clips, self.target.device).expand(num_runs, -1),
        )

    def _read(self, index: Tensor) -> dict[str, Tensor]:
        """Read clips by index `(run, batch)`: modality to `(run, batch, *shape)` on the device of `target`."""
        batch = {}
        for m, tensor in self.embeddings.items():
            rows = self.rows[m][upload(index, tensor.device)]
            x = self._rows_of(m, rows.clamp_min(0))
            absent = upload(rows < 0, x.device)
            batch[m] = x.masked_fill_(absent.reshape(*absent.shape, *[1] * (x.ndim - absent.ndim)), 0)
        return batch

    def _rows_of(self, modality: str, rows: Tensor) -> Tensor:
        """Rows of a modality by number, float32 on the device of `target`."""
        if modality not in self.files:
            return self._rows(self.embeddings[modality], rows)
        file, device = self.files[modality], self.target.device
        x = torch.from_numpy(file.take(rows.flatten().numpy())).view(*rows.shape, *file.shape[1:])
        return upload(x, device).float()

    def take(self, rows: Tensor) -> MediaClips:
        """Select clips by index or mask."""
        return replace(
            self,
            present=self.present[rows],
            target=self.target[rows],
            rows={m: own[rows.to(own.device)] for m, own in self.rows.items()},
        )

    def only(self, modality: str) -> MediaClips:
        """Clips that have a modality, with that modality only."""
        column = list(self.embeddings).index(modality)
        selected = self.take(self.present[:, column])
        return replace(
            selected,
            embeddings={modality: self.embeddings[modality]},
            present=selected.present[:, column, None],
            rows={modality: selected.rows[modality]},
        )

    def pool_steps(self) -> MediaClips:
        """The same clips: stored clips have no steps."""
        return self

    def chunks(self, num_runs: int) -> range:
        """Starts of chunks that bound the memory; `.step` is their size."""
        return range(0, len(self), CLIPS_AT_ONCE)
