"""Damage of files, and what two folders differ in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path


def flips(data: bytes, number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `number` copies with one bit flipped each, with their names, such as "byte 17 bit 3"."""
    rng = random.Random(seed)
    for _ in range(number):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        yield f"byte {place} bit {bit}", bytes(damaged)


def tenths(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the file cut at each tenth, 0 to 9, and without its last byte, with names such as "first 300 bytes"."""
    for size in [*(len(data) * tenth // 10 for tenth in range(10)), len(data) - 1]:
        yield f"first {size} bytes", data[:size]


def mutations(data: bytes, number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `number` copies that are mutated as a fuzzer does, with names: bits, bytes, runs, cuts, copies, inserts."""
    rng = random.Random(seed)
    for index in range(number):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            _mutate(damaged, rng)
        yield f"mutation {index} of seed {seed}", bytes(damaged)


def _mutate(data: bytearray, rng: random.Random) -> None:
    """Change a byte array in place once."""
    place = rng.randrange(len(data)) if data else 0
    if rng.random() < 0.5:  # heads of files decide what is read
        place %= 256
    size = rng.choice((1, 2, 4, 8, 64))
    match rng.randrange(7):
        case 0:
            data[place : place + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in data[place : place + 1])
        case 1:
            data[place : place + size] = rng.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * size
        case 2:
            data[place : place + size] = rng.randbytes(size)
        case 3:
            del data[place : place + size]
        case 4:
            data[place:place] = rng.randbytes(size)
        case 5:
            source = rng.randrange(len(data)) if data else 0
            data[place : place + size] = data[source : source + size]
        case _:
            del data[max(1, round(len(data) * rng.random())) :]


def differences(one: Path, other: Path, *, without: tuple[str, ...] = ()) -> list[str]:
    """Names of the files that two folders do not hold alike to the bit.

    Args:
        one, other: Folders.
        without: Glob patterns of paths in them that do not count, such as `"*.log"`.
    """
    ours, theirs = _contents(one, without), _contents(other, without)
    return sorted({name for name, _ in ours.items() ^ theirs.items()})


def _contents(folder: Path, without: tuple[str, ...]) -> dict[str, bytes | None]:
    """Path below the folder to content, None for folders."""
    found = {path.relative_to(folder): path for path in folder.rglob("*")}
    return {
        str(name): path.read_bytes() if path.is_file() else None
        for name, path in found.items()
        if not any(name.match(pattern) for pattern in without)
    }
