"""Shards: blocks of a manifest's rows, each embedded into a cache of its own, to be joined by `amr merge`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Shard:
    """Block `number` of `count`, as in `--shard NUMBER/COUNT`.

    Attributes:
        number: Number of the shard, from 1.
        count: Number of shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `I/N`.

        >>> Shard.parse("2/4")
        Shard(number=2, count=4)

        Raises:
            ValueError: It is no shard.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--shard must be I/N with I from 1 to N, got {text!r}. Pass for example --shard 1/4.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def rows(self, num_rows: int) -> range:
        """Rows of the manifest that belong to the shard; empty if there are more shards than rows.

        >>> [list(Shard(number, 3).rows(4)) for number in (1, 2, 3)]
        [[0], [1], [2, 3]]
        """
        return range((self.number - 1) * num_rows // self.count, self.number * num_rows // self.count)

    def window(self, num_rows: int, batch_size: int) -> range:
        """Rows of the batches of the whole manifest that the shard has rows of, at least one row.

        A network may embed a clip in another batch with other last bits. So a shard encodes the batches that an
        extraction of all rows encodes, and keeps its own rows of the first and the last one.

        >>> Shard(2, 3).window(30, 8)
        range(8, 24)
        """
        rows = self.rows(num_rows)
        start = rows.start // batch_size * batch_size
        return range(start, min(max(start + 1, -(-rows.stop // batch_size) * batch_size), num_rows))

    def path(self, cache: Path) -> Path:
        """Default path of the shard of a cache. Numbers are padded, so that names sort.

        >>> Shard(2, 16).path(Path("caches/clips.h5")).name
        'clips.shard-02-of-16.h5'
        """
        number = str(self.number).zfill(len(str(self.count)))
        return cache.with_name(f"{cache.stem}.shard-{number}-of-{self.count}{cache.suffix}")


def all_shards(count: int) -> list[Shard]:
    """All shards of a manifest that is divided into `count`."""
    return [Shard(number, count) for number in range(1, count + 1)]
