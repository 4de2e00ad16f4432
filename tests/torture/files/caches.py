"""Flip bits of small caches, cut them, change them while they are read, and lead them to other files.

What a fit reads is equal to the undamaged cache, or there is an error of the one kind that says what to do. All is done
in processes of their own, so that a read without an end ends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from amr.extract.cache.damage import DamagedCache
from amr.extract.cache.journal import Failure
from amr.extract.cache.reader import Cache, EmbeddingInfo
from amr.extract.cache.seal import seal
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.verify import verify
from amr.extract.cache.writer import Embedded, open_writer

from ..child import run_child
from ..damage import flips, tenths
from ..report import Outcome, scaled

FLIPS = 600
SECONDS = 10.0  # that a small cache may take to be read
PER_PROCESS = 25
EQUAL, REFUSED = "equal", "refused"
AUDIO = EmbeddingInfo("audio", "audio", "logmel", "", {"bands": 40}, "float32", 3)
VIDEO = EmbeddingInfo("video", "video", "frames", "ab" * 32, {}, "float16", 2, max_steps=3)
NUM_CLIPS = 8

Content = dict[str, object]


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """All of it."""
    number = scaled(FLIPS, scale)
    for kind, is_finished in (("finished", True), ("unfinished", False)):
        path = small_cache(folder / f"{kind}.h5", is_finished=is_finished)
        same = finished_is_same if is_finished else unfinished_is_same
        yield outcome(f"flips of a {kind} cache", flips(path.read_bytes(), number, seed), path, same)
        yield outcome(f"cuts of a {kind} cache", tenths(path.read_bytes()), path, same)
    yield changed_while_read(folder)
    yield foreign(folder)


def small_cache(path: Path, *, is_finished: bool = True) -> Path:
    """Write a small cache with all that a cache can hold. The second embedding of an unfinished one lacks its end."""
    clips = pd.DataFrame(
        {
            "id": [f"clip{i}" for i in range(NUM_CLIPS)],
            "path": [f"{i}.mp4" for i in range(NUM_CLIPS)],
            "split": ["train"] * 5 + ["val", "test", "test"],
            "label": [f"class {i % 2}" for i in range(NUM_CLIPS)],
            "remark": ["", "x" * 100, "ä", *[""] * 5],
        }
    )
    rng = np.random.default_rng(0)
    present = np.arange(NUM_CLIPS) != 2
    steps = np.where(present, 1 + np.arange(NUM_CLIPS) % 3, 0)
    audio = Embedded(rng.normal(size=(NUM_CLIPS, 3)) * present[:, None], present)
    video = rng.normal(size=(NUM_CLIPS, 3, 2)) * (np.arange(3) < steps[:, None])[..., None]
    failure = Failure(2, "clip2", "audio", "cannot be decoded: " + "long reason " * 8)
    with open_writer(path, ClipTable("toy", "/media", "00", clips), [AUDIO, VIDEO], overwrite=True) as writer:
        writer.write("audio", 0, replace(audio, failures=(failure,)))
        stop = NUM_CLIPS if is_finished else 5
        writer.write("video", 0, Embedded(video[:stop], present[:stop], steps[:stop]))
        if is_finished:
            writer.finalize()
    return path


def read(path: Path) -> Content:
    """All that a fit reads, and more."""
    with Cache.open(path) as cache:
        return {
            "clips": cache.table().to_json(),
            "names": cache.names,
            "facts": [cache.dataset, cache.root, cache.manifest_sha256, cache.complete, cache.is_ordered],
            "failures": cache.failures.to_json(),
            "infos": [cache.info(name) for name in cache.names],
            **{f"values of {name}": cache.embedding(name).tolist() for name in cache.names},
            **{f"present of {name}": cache.present(name).tolist() for name in cache.names},
            **{f"steps of {name}": _listed(cache.num_steps(name)) for name in cache.names},
            **{f"done of {name}": cache.done(name).tolist() for name in cache.names},
        }


def _listed(numbers: np.ndarray | None) -> object:
    return None if numbers is None else numbers.tolist()


def finished_is_same(found: Content, expected: Content) -> bool:
    """Whether all is equal."""
    return found == expected


def unfinished_is_same(found: Content, expected: Content) -> bool:
    """Whether all rows that are done are equal. A row whose mark is lost is made again, so it may be missing."""
    for name in expected["names"]:
        found_done, done = np.array(found[f"done of {name}"]), np.array(expected[f"done of {name}"])
        if found_done.shape != done.shape or (found_done & ~done).any():
            return False
        for part in ("values", "present", "steps"):
            one, other = (np.array(each[f"{part} of {name}"]) for each in (found, expected))
            if one.shape != other.shape or (one.ndim and (one[found_done] != other[found_done]).any()):
                return False
    return all(found[key] == expected[key] for key in ("clips", "names", "facts", "failures", "infos"))


def judged(reading: Callable[[], Content], expected: Content, same: Callable[[Content, Content], bool]) -> str:
    """What reading gives: `EQUAL`, `REFUSED`, or what is wrong."""
    try:
        found = reading()
    except DamagedCache as error:
        return REFUSED if "must be intact, got" in str(error) else f"another message: {error}"
    except ValueError as error:  # the damage hit the words by which a cache is known
        return REFUSED if str(error).startswith("cache must ") else f"ValueError: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return EQUAL if same(found, expected) else f"silent: {[key for key in expected if found.get(key) != expected[key]]}"


def outcome(
    kind: str, damaged: Iterable[tuple[str, bytes]], path: Path, same: Callable[[Content, Content], bool]
) -> Outcome:
    """Read each damaged copy, in processes that read many; one that hangs or dies is lost, and the next goes on."""
    expected, copies, place = read(path), list(damaged), path.with_name("damaged.h5")
    log = path.with_name("found.jsonl")
    results: list[str] = []
    while len(results) < len(copies):
        part = copies[len(results) : len(results) + PER_PROCESS]

        def read_part(part: list[tuple[str, bytes]] = part) -> None:
            with log.open("w") as file:
                for _, content in part:
                    place.write_bytes(content)
                    found = judged(lambda: read(place), expected, same)
                    verify(place)  # raises nothing
                    file.write(json.dumps(found) + "\n")
                    file.flush()

        ended = run_child(read_part, SECONDS + len(part))
        results += [json.loads(line) for line in log.read_text().splitlines()]
        if ended.code != 0:
            results.append(f"exit status {ended.code}, {ended.stopped or ended.stderr[-300:]}")
    lost = tuple(f"{name}: {result}" for (name, _), result in zip(copies, results, strict=True) if _is_lost(result))
    counts = Counter(results)
    return Outcome(kind, len(copies), lost, f"{counts[REFUSED]} refused, {counts[EQUAL]} harmless")


def _is_lost(result: str) -> bool:
    return result not in (EQUAL, REFUSED)


# --- a cache that is changed while it is read -------------------------------------------------------------------------


def _removed(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    os.replace(shutil.copy(path.with_name("other.h5"), path.with_name("copy.h5")), path)


def _written_over(path: Path) -> None:
    path.write_bytes(path.with_name("other.h5").read_bytes())


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _zeroed(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def _noise(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(np.random.default_rng(0).bytes(path.stat().st_size))


CHANGES = (_removed, _replaced, _written_over, _cut, _emptied, _zeroed, _noise)
READERS: tuple[Callable[[Cache], object], ...] = (
    lambda cache: cache.table(),
    lambda cache: cache.names,
    lambda cache: [cache.info(name) for name in cache.names],
    lambda cache: [cache.embedding(name).tolist() for name in cache.names],
    lambda cache: [cache.present(name).tolist() for name in cache.names],
    lambda cache: cache.failures,
)


def changed_while_read(folder: Path) -> Outcome:
    """Open a cache, change its file, and go on reading: equal or refused."""
    lost, tries = [], 0
    whole = small_cache(folder / "whole.h5")
    small_cache(folder / "other.h5", is_finished=False)
    for change in CHANGES:
        for number, reader in enumerate(READERS):
            path, tries = folder / "read.h5", tries + 1

            def function(path: Path = path, change: Callable = change, reader: Callable = reader) -> None:
                shutil.copy(whole, path)
                with Cache.open(path) as cache:
                    expected = reader(cache)
                with Cache.open(path) as cache:
                    change(path)
                    found = judged(lambda: {"": reader(cache)}, {"": expected}, lambda a, b: str(a) == str(b))
                if _is_lost(found):
                    raise AssertionError(found)

            ended = run_child(function, SECONDS)
            if ended.code != 0:
                lost.append(f"{change.__name__} under reader {number}: {ended.stopped or ended.stderr[-200:]}")
            path.unlink(missing_ok=True)
    return Outcome("cache changed while it is read", tries, tuple(lost))


# --- links and foreign layouts ----------------------------------------------------------------------------------------


def _soft_link(file: h5py.File, secret: Path) -> None:
    file["embeddings/other"] = h5py.SoftLink("/embeddings/audio")


def _external_link(file: h5py.File, secret: Path) -> None:
    del file["clips/path"]
    file["clips/path"] = h5py.ExternalLink(str(secret), "/clips/path")


def _external_group(file: h5py.File, secret: Path) -> None:
    del file["embeddings"]
    file["embeddings"] = h5py.ExternalLink(str(secret), "/embeddings")


def _dangling_link(file: h5py.File, secret: Path) -> None:
    file["clips/columns/other"] = h5py.SoftLink("/nowhere")


def _loop(file: h5py.File, secret: Path) -> None:
    file["clips/columns/clips"] = file["clips"]


def _two_names(file: h5py.File, secret: Path) -> None:
    file["clips/columns/copy"] = file["clips/id"]


def _virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((NUM_CLIPS, 3), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "embeddings/audio", (NUM_CLIPS, 3))
    attributes = dict(file["embeddings/audio"].attrs)
    del file["embeddings/audio"]
    file["embeddings"].create_virtual_dataset("audio", layout).attrs.update(attributes)


def _raw_storage(file: h5py.File, secret: Path) -> None:
    attributes = dict(file["clips/split"].attrs)
    del file["clips/split"]
    made = file["clips"].create_dataset("split", (NUM_CLIPS,), "S5", external=[(str(secret), 0, NUM_CLIPS * 5)])
    made.attrs.update(attributes)


def _huge(file: h5py.File, secret: Path) -> None:
    attributes = dict(file["embeddings/audio"].attrs)
    del file["embeddings/audio"]
    made = file["embeddings"].create_dataset("audio", (NUM_CLIPS, 10**9), np.float32, chunks=(1, 10**6))
    made.attrs.update(attributes)


def _short(file: h5py.File, secret: Path) -> None:
    del file["present/audio"]
    file["present/audio"] = np.ones(3, bool)


def _flat(file: h5py.File, secret: Path) -> None:
    attributes = dict(file["embeddings/audio"].attrs)
    del file["embeddings/audio"]
    file["embeddings/audio"] = np.ones(NUM_CLIPS, np.float32)
    file["embeddings/audio"].attrs.update(attributes)


def _texts(file: h5py.File, secret: Path) -> None:
    del file["clips/columns/label"]
    file["clips/columns/label"] = [f"class {i % 2}" for i in range(NUM_CLIPS)]


def _type_for_column(file: h5py.File, secret: Path) -> None:
    file["clips/columns/kind"] = np.dtype("f8")


def _no_attribute(file: h5py.File, secret: Path) -> None:
    del file["embeddings/audio"].attrs["modality"]


def _no_json(file: h5py.File, secret: Path) -> None:
    file["embeddings/audio"].attrs.create("preprocessing", b"{", dtype=h5py.string_dtype("utf-8", 1))


def _not_there(name: str) -> Callable[[h5py.File, Path], None]:
    def remove(file: h5py.File, secret: Path) -> None:
        del file[name]

    remove.__name__ = f"_without_{name}"
    return remove


LAYOUTS = (
    _soft_link,
    _external_link,
    _external_group,
    _dangling_link,
    _loop,
    _two_names,
    _virtual,
    _raw_storage,
    _huge,
    _short,
    _flat,
    _texts,
    _type_for_column,
    _no_attribute,
    _no_json,
    *map(_not_there, ("clips", "clips/id", "clips/columns", "embeddings", "present", "num_steps/video", "failures")),
)
MAX_BYTES = 2**30


def foreign(folder: Path) -> Outcome:
    """Layouts that no cache has, with a seal where one can be made: all are refused, and the other file stays."""
    secret, lost = small_cache(folder / "secret.h5"), []
    whole = small_cache(folder / "whole.h5")
    before, expected = secret.read_bytes(), read(whole)
    for layout in LAYOUTS:
        path = folder / "foreign.h5"

        def function(path: Path = path, layout: Callable[[h5py.File, Path], None] = layout) -> None:
            shutil.copy(whole, path)
            with h5py.File(path, "r+") as file:
                layout(file, secret)
                try:
                    seal(file)
                except Exception:
                    file.flush()
            found = judged(lambda: read(path), expected, finished_is_same)
            if found != REFUSED or verify(path)["ok"]:
                raise AssertionError(f"{found}, verify says {verify(path)}")
            with open_writer(path, ClipTable("toy", "", "", pd.DataFrame({"id": ["a"]})), [], overwrite=True):
                pass

        ended = run_child(function, SECONDS, max_bytes=MAX_BYTES)
        if ended.code != 0 or secret.read_bytes() != before:
            lost.append(f"{layout.__name__}: {ended.stopped or ended.stderr[-300:]}")
    return Outcome("links and foreign layouts", len(LAYOUTS), tuple(lost))
