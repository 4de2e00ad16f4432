"""Mutated files of every format that people hand in: each is read as before, read as something else, or refused.

Refused means one sentence and exit status 2. A traceback, a death, a result of numbers that are not finite, more than
20 seconds or 2 GiB are lost.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from scipy.io import savemat

from amr.cli import run as run_amr
from amr.common.files.memory import address_space
from amr.data_manifests.manifest import read_manifest
from amr.data_manifests.user_lists import ave, kinetics_sounds, ucf_101
from amr.data_manifests.vggsound import read_user_list
from amr.extract.cache.reader import Cache
from amr.extract.named_clips import named_clips
from amr.extract.pipeline.load import ManifestFiles

from ..child import run_child
from ..damage import mutations
from ..report import Outcome, scaled

TRIES = 1000  # of each kind of file, shared by what such files are read as
SECONDS = 20
MAX_BYTES = 2 * 2**30
TRIES_PER_PROCESS = 50
NUM_CLIPS, DIM = 24, 6
IDS = [f"clip{i}" for i in range(NUM_CLIPS)]
LABELS = ["cat", "dog"] * (NUM_CLIPS // 2)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: Name in the table.
        file: Name of the file.
        write: Function that writes it.
        read: Function that reads it: the exit status, and what was read.
    """

    name: str
    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], tuple[int, str]]


def run(seed: int, scale: float, folder: Path) -> Iterator[Outcome]:
    """One outcome per format."""
    np.save(folder / "whole.npy", rows())
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    found = formats()
    same_kind = Counter(Path(each.file).suffix for each in found)
    for number, each in enumerate(found):
        tries = -(-TRIES // same_kind[Path(each.file).suffix])
        yield one_format(each, seed * 1000 + number, scaled(tries, scale), folder)


def rows() -> np.ndarray:
    """Embeddings, `(clips, dim)`."""
    return np.random.default_rng(0).normal(size=(NUM_CLIPS, DIM)).astype(np.float32)


def formats() -> list[Format]:
    """Every format, with files that use what the format offers."""
    x = rows()
    table = pd.DataFrame(x, columns=[f"f{i}" for i in range(DIM)]).assign(id=IDS, label=LABELS)
    vectors = pd.DataFrame({"id": IDS, "v": list(x)})
    by_clip = dict(zip(IDS, x, strict=True))
    cells = np.array([*x, None], dtype=object)[:NUM_CLIPS]
    clips = table[["id", "label"]].assign(path=[f"{id_}.mp4" for id_ in IDS], start_seconds="0.5", end_seconds="1e1")
    quoted = clips.assign(note='a "quoted", text')
    video = [f"{'abcdefghijk'},{i},playing flute,train" for i in range(NUM_CLIPS)]
    kinetics = [
        "label,youtube_id,time_start,time_end,split",
        *(f'"tap dancing",abcdefghijk,{i},{i + 10},train' for i in range(NUM_CLIPS)),
    ]
    events = [f"Violin, fiddle&abcdefghij{i % 10}&good&{i % 9}&10" for i in range(NUM_CLIPS)]
    actions = [f"Archery/v_Archery_g{i:02d}_c01.avi 3" for i in range(NUM_CLIPS)]
    tensor = torch.from_numpy(x)
    return [
        Format("npy", "x.npy", lambda path: np.save(path, x), import_embeddings),
        Format("npz", "x.npz", lambda path: np.savez(path, x=x), import_embeddings),
        Format("npz, compressed, one array per clip", "c.npz", partial(_savez, arrays=by_clip), import_embeddings),
        Format("mat v5", "x.mat", lambda path: savemat(path, {"x": x}), import_embeddings),
        Format("mat v5, compressed", "c.mat", partial(_compressed_mat, x=x), import_embeddings),
        Format("mat v5, cells", "cells.mat", lambda path: savemat(path, {"x": cells}), import_embeddings),
        Format("mat v7.3", "h.mat", partial(_hdf5, x=x), import_embeddings),
        Format("mat v7.3, cells and text", "t.mat", _hdf5_labels, import_labels),
        Format("pt", "x.pt", lambda path: torch.save({"x": tensor}, path), import_embeddings),
        Format("pt, before PyTorch 1.6", "old.pt", partial(_old_torch, tensor=tensor), import_embeddings),
        Format("parquet", "x.parquet", table.to_parquet, import_embeddings),
        Format("parquet, vectors", "v.parquet", vectors.to_parquet, import_embeddings),
        Format("csv", "x.csv", partial(table.to_csv, index=False), import_embeddings),
        Format("csv of labels", "l.csv", partial(table[["id", "label"]].to_csv, index=False), import_labels),
        Format("txt of labels", "l.txt", lambda path: path.write_text("\n".join(LABELS)), import_labels),
        Format("csv of further columns", "k.csv", partial(quoted.to_csv, index=False), import_columns),
        Format("manifest", "m.csv", partial(quoted.to_csv, index=False), manifest),
        Format("csv of clips to predict", "p.csv", partial(clips[["id"]].to_csv, index=False), clips_to_predict),
        Format("list of vggsound", "vggsound.csv", lambda path: path.write_text("\n".join(video)), user_list),
        Format(
            "list of kinetics-sounds", "train.csv", lambda path: path.write_text("\n".join(kinetics)), kinetics_list
        ),
        Format("list of ave", "trainSet.txt", lambda path: path.write_text("\r\n".join(events)), ave_list),
        Format("list of ucf-101", "trainlist01.txt", lambda path: path.write_text("\r\n".join(actions)), ucf_list),
    ]


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _compressed_mat(path: Path, x: np.ndarray) -> None:
    savemat(path, {"x": x}, do_compression=True)


def _hdf5(path: Path, x: np.ndarray) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        variable = file.create_dataset("x", data=x.T, chunks=(DIM, 8), compression="gzip")
        variable.attrs["MATLAB_class"] = np.bytes_("single")
    _matlab_head(path)


def _hdf5_labels(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        texts = file.create_group("#refs#")
        cells = file.create_dataset("labels", (1, NUM_CLIPS), h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        for i, label in enumerate(LABELS):
            text = texts.create_dataset(str(i), data=np.array([[ord(letter)] for letter in label], np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            cells[0, i] = text.ref
    _matlab_head(path)


def _matlab_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def _old_torch(path: Path, tensor: torch.Tensor) -> None:
    torch.save({"x": tensor}, path, _use_new_zipfile_serialization=False)


def import_embeddings(path: Path) -> tuple[int, str]:
    """`amr import` with the file as embeddings."""
    return _import(path, "--embeddings", f"x={path}", "--labels", path.parent / "labels.txt")


def import_labels(path: Path) -> tuple[int, str]:
    """`amr import` with the file as labels."""
    return _import(path, "--embeddings", f"x={path.parent / 'whole.npy'}", "--labels", path)


def import_columns(path: Path) -> tuple[int, str]:
    """`amr import` with the file as further columns."""
    whole = path.parent / "ids.txt"
    whole.write_text("\n".join(IDS))
    return _import(path, "--embeddings", f"x={path.parent / 'whole.npy'}", "--ids", whole, "--columns", path)


def _import(path: Path, *options: object) -> tuple[int, str]:
    out = path.with_suffix(".h5")
    code = run_amr(["import", *map(str, options), "--out", str(out), "--overwrite"])
    if code != 0:
        return code, ""
    with Cache.open(out) as cache:
        values = cache.embedding("x")
        if not np.isfinite(values).all():
            raise AssertionError("numbers that are not finite were imported")
        return code, f"{values.tolist()} {cache.table().to_csv()}"


def manifest(path: Path) -> tuple[int, str]:
    """The manifest of `amr extract --manifest`, with its paths looked for."""

    def read() -> str:
        found = read_manifest(path)
        intervals = [found.interval(row) for row in range(len(found))]
        return f"{found.to_csv()} {ManifestFiles(found, ('audio', 'video')).existing} {intervals}"

    return _sentence(read)


def clips_to_predict(path: Path) -> tuple[int, str]:
    """The clips of `amr predict RUN CSV`."""
    return _sentence(lambda: str(named_clips([str(path)])))


def user_list(path: Path) -> tuple[int, str]:
    """The user's list of `amr manifest vggsound`."""
    return _sentence(lambda: read_user_list(path).to_csv())


def kinetics_list(path: Path) -> tuple[int, str]:
    """The user's list of `amr manifest --dataset kinetics-sounds`."""
    return _sentence(lambda: str(kinetics_sounds.read_list(path, "train")))


def ave_list(path: Path) -> tuple[int, str]:
    """The user's list of `amr manifest --dataset ave`."""
    return _sentence(lambda: ave.read_list(path).to_csv())


def ucf_list(path: Path) -> tuple[int, str]:
    """The user's list of `amr manifest --dataset ucf-101`."""
    return _sentence(lambda: ucf_101.read_list(path).to_csv())


def _sentence(read: Callable[[], str]) -> tuple[int, str]:
    """Exit status as of the command line, which shows these errors as they are."""
    try:
        return 0, read()
    except (ValueError, FileNotFoundError) as error:
        os.write(2, f"amr: {error}\n".encode(errors="backslashreplace"))
        return 2, ""


def one_format(each: Format, seed: int, tries: int, folder: Path) -> Outcome:
    """Read a file of a format, and mutations of it."""
    path = folder / each.file
    each.write(path)
    whole = path.read_bytes()
    mutated = [("unchanged", whole), *mutations(whole, tries, seed)]
    counts: Counter[str] = Counter()
    lost: list[str] = []
    answers: list[tuple[str, str]] = []
    peak = 0
    log = folder / "answers.jsonl"
    while len(answers) < len(mutated):
        log.unlink(missing_ok=True)
        part = mutated[len(answers) : len(answers) + TRIES_PER_PROCESS]
        ended = run_child(partial(_try_all, each, path, part, log), SECONDS * len(part))
        peak = max(peak, ended.peak_bytes)
        found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        answers += [(kind, said) for kind, said in found]
        if len(found) < len(part):  # it died in the next one
            answers.append(("lost", ended.fault() or f"exit status {ended.code}: {ended.stderr[-200:]}"))
    reference = answers[0]
    for (name, _), (kind, said) in zip(mutated[1:], answers[1:], strict=True):
        same = (kind, said) == reference
        counts["equal" if same else kind] += 1
        if kind == "lost":
            lost.append(f"{each.name}: {name}: {said}")
    if reference[0] != "read":
        lost.append(f"{each.name}: the file itself: {reference}")
    note = ", ".join(f"{counts[kind]} {kind}" for kind in ("equal", "read", "refused"))
    return Outcome(f"mutations of {each.name}", tries, tuple(lost), note, peak)


def _try_all(each: Format, path: Path, part: Sequence[tuple[str, bytes]], log: Path) -> None:
    """Read each file, and note the answer before the next one."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MAX_BYTES, resource.RLIM_INFINITY))
    with log.open("a") as answers:
        for _, content in part:
            path.write_bytes(content)
            with tempfile.TemporaryFile() as printed:
                os.dup2(printed.fileno(), 1)
                os.dup2(printed.fileno(), 2)
                signal.alarm(SECONDS)
                try:
                    code, value = each.read(path)
                    raised = ""
                except BaseException as error:
                    code, value, raised = 1, "", f"{type(error).__name__}: {error}"
                signal.alarm(0)
                sys.stdout.flush()
                sys.stderr.flush()
                printed.seek(0)
                said = printed.read().decode(errors="replace")
            answers.write(json.dumps(_judged(code, value, said, raised)) + "\n")
            answers.flush()


def _judged(code: int, value: str, said: str, raised: str) -> tuple[str, str]:
    sentences = [line for line in said.splitlines() if line.startswith("amr: ")]
    if raised or "Traceback" in said:
        return "lost", f"traceback: {raised or said[-300:]}"
    if code == 0:
        return "read", value
    if code == 2 and len(sentences) == 1 and " must " in sentences[0]:
        return "refused", ""
    return "lost", f"exit status {code}: {said[-300:]}"
