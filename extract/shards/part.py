"""The clips that an extraction embeds: those of a manifest, or of a shard with what completes its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from amr.data_manifests.manifest import Manifest
from amr.extract.cache.writer import Embedded
from amr.extract.shards.shard import Shard


@dataclass(frozen=True)
class Part:
    """Clips that are loaded, and those of them that are embedded into the cache.

    Attributes:
        manifest: Clips of whole batches.
        rows: Rows of the manifest that the cache has; the others complete their batches.
    """

    manifest: Manifest
    rows: range

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per clip of the cache."""
        return self.manifest.table.iloc[self.rows.start : self.rows.stop]

    def of_cache(self, values: np.ndarray) -> np.ndarray:
        """Those of some values, one per clip of the manifest, that belong to the clips of the cache."""
        return values[self.rows.start : self.rows.stop]

    @property
    def is_own(self) -> np.ndarray:
        """Mask of the clips of the manifest that the cache has."""
        mask = np.zeros(len(self.manifest), bool)
        mask[self.rows.start : self.rows.stop] = True
        return mask

    def done(self, of_cache: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Masks of the clips of the manifest that need no extraction, from those of the clips of the cache."""
        before, after = self.rows.start, len(self.manifest) - self.rows.stop
        return {name: np.pad(mask, (before, after), constant_values=True) for name, mask in of_cache.items()}

    def own(self, start: int, batch: Embedded) -> tuple[int, Embedded]:
        """Rows of a batch that the cache has, after the row of their first clip in the cache.

        Args:
            start: Row of the batch's first clip in the manifest.
            batch: Rows of the batch.
        """
        first = max(start, self.rows.start)
        kept = slice(first - start, min(start + len(batch.present), self.rows.stop) - start)
        failures = [replace(each, row=each.row - self.rows.start) for each in batch.failures if each.row in self.rows]
        return first - self.rows.start, batch.cut(kept, tuple(failures))


def part_of(manifest: Manifest, shard: Shard | None, batch_size: int) -> Part:
    """The clips of a shard; all of them without one."""
    if shard is None:
        return Part(manifest, range(len(manifest)))
    rows, window = shard.rows(len(manifest)), shard.window(len(manifest), batch_size)
    clips = replace(manifest, table=manifest.table.iloc[window.start : window.stop].reset_index(drop=True))
    return Part(clips, range(rows.start - window.start, rows.stop - window.start))
