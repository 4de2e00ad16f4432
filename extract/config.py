"""What an extraction or an import is asked to do: the defaults and the help of `amr extract` and `amr import`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from amr.common.registry import unknown

DTYPES = ("float32", "float16")
DEVICES = ("auto", "cpu", "cuda")
PRESETS = ("weightless", "pretrained")
# What HDF5, ratios (audio=3:video=1), comma lists and file names can all hold.
_NAME = re.compile(r"\w[\w.-]*")


def option(default: Any, help: str) -> Any:
    """A field with the help that the command line shows for it."""
    return field(default=default, metadata={"help": help})


def check_source(command: str, dataset: str | None, manifest: str | None) -> None:
    """Refuse a request that names no clips, or a dataset and a CSV of one's own."""
    if (dataset is None) == (manifest is None):
        got = "neither" if dataset is None else f"--dataset {dataset} and --manifest {manifest}"
        raise ValueError(
            f"{command} must have one of --dataset and --manifest, got {got}. "
            "Pass --dataset crema-d, or --manifest clips.csv."
        )


def available_cores() -> int:
    """CPU cores this process may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True)
class ExtractConfig:
    """One extraction: which clips, which encoders, where to.

    Where the cache is there already, what is unfinished in it goes on, encoders that it lacks are added, and labels,
    splits and groups are taken anew from the manifest: no option is needed for that. Under another encoder,
    preprocessing, dtype or list of files it is refused. `overwrite` starts anew; `resume` only insists that there is
    a cache to go on with.

    Raises:
        ValueError: a value that no dataset could make right.
    """

    dataset: str | None = option(None, "Dataset to extract; amr datasets lists them.")
    manifest: str | None = option(None, "CSV of your own clips, instead of a dataset.")
    root: str | None = option(None, "Folder of the media; by default data/DATASET, or the folder of the CSV.")
    encoder: tuple[str, ...] = option(
        (), "NAME=SPEC: an embedding's name and its encoder, see amr encoders. Repeatable."
    )
    preset: str | None = option(
        None, "Encoders by name: weightless (the default, works at once) or pretrained (better)."
    )
    out: str | None = option(None, "Cache to write; caches/DATASET.h5 by default.")
    batch_size: int = option(32, "Clips encoded at once.")
    workers: int | None = option(None, "Processes that decode; one a core by default, 0: none beside this one.")
    dtype: str = option("float32", "How embeddings are stored: float32 or float16.")
    label_column: str = option("label", "Column of the CSV that holds the label.")
    allow_unlabelled: bool = option(False, "Keep clips of the CSV that have no label.")
    resume: bool = option(False, "Insist that there is a cache to go on with (going on is the default).")
    overwrite: bool = option(False, "Start anew where the cache is there already.")
    device: str = option("auto", "auto, cpu or cuda.")

    def __post_init__(self) -> None:
        """Check what can be checked without the clips."""
        check_source("amr extract", self.dataset, self.manifest)
        if self.dataset is not None and (self.label_column != "label" or self.allow_unlabelled):
            option_name = "--allow-unlabelled" if self.allow_unlabelled else "--label-column"
            raise ValueError(
                f"{option_name} must be with --manifest, got --dataset {self.dataset}. Leave it out: "
                "amr fit --label chooses the column that is predicted."
            )
        if self.encoder and self.preset is not None:
            raise ValueError(
                f"--preset must be without --encoder, got --preset {self.preset} and --encoder {self.encoder[0]}. "
                "Leave one of them out."
            )
        if self.resume and self.overwrite:
            raise ValueError("--resume must be without --overwrite, got both. Leave one of them out.")
        _check_choice("--preset", self.preset, PRESETS)
        _check_choice("--dtype", self.dtype, DTYPES)
        _check_choice("--device", self.device, DEVICES)
        _check_least("--batch-size", self.batch_size, 1, "Pass --batch-size 32.")
        _check_least("--workers", self.workers, 0, "Pass --workers 0 to decode in this process.")
        parse_named(self.encoder, "--encoder", "SPEC", "audio=logmel")

    @property
    def encoders(self) -> dict[str, str]:
        """Embedding name to encoder spec, as asked for with `encoder`; empty where a preset is meant."""
        return parse_named(self.encoder, "--encoder", "SPEC", "audio=logmel")

    @property
    def num_workers(self) -> int:
        """Decoding processes."""
        return available_cores() if self.workers is None else self.workers


@dataclass(frozen=True)
class ImportConfig:
    """Embeddings that exist already, to a cache. FILE is .npy, .npz, .mat, .csv, .parquet, .pt or .txt.

    `FILE:KEY` takes an array, variable or column of the file, `FILE:KEY+KEY` several one below the other, `FILE:N`
    the first N rows, `FILE:KEY:N` those of a key.

    Raises:
        ValueError: a value that no file could make right.
    """

    embeddings: tuple[str, ...] = option((), "NAME=FILE[:KEY[+KEY...]]: one row a clip. Repeatable.")
    labels: str | None = option(None, "FILE[:KEY[+KEY...]] with a label a clip; or from a column of --columns.")
    ids: str | None = option(None, "FILE with an id a clip; by default 0, 1, 2, ...")
    groups: str | None = option(None, "FILE with a group a clip, or ids:REGEX: what it (its first group) finds.")
    splits: str | None = option(None, "FILE with train, val or test a clip, or such as train=1600,test=400.")
    columns: str | None = option(None, "CSV of further columns, joined on id; a dataset's name means its own list.")
    out: str | None = option(None, "Cache to write.")
    dtype: str = option("float32", "How embeddings are stored: float32 or float16.")
    overwrite: bool = option(False, "Replace the cache where it is there already.")

    def __post_init__(self) -> None:
        """Check what can be checked without the files."""
        if not self.embeddings:
            raise ValueError(
                "--embeddings must be given, got none. Pass --embeddings audio=audio.npy, once a modality."
            )
        if self.labels is None and self.columns is None:
            raise ValueError("--labels must be given where no --columns hold them, got neither. Pass --labels FILE.")
        if self.out is None:
            raise ValueError("--out must be given, got none. Pass --out caches/NAME.h5.")
        _check_choice("--dtype", self.dtype, DTYPES)
        parse_named(self.embeddings, "--embeddings", "FILE", "audio=audio.npy")

    @property
    def sources(self) -> dict[str, str]:
        """Embedding name to FILE[:KEY...]."""
        return parse_named(self.embeddings, "--embeddings", "FILE", "audio=audio.npy")


def parse_named(values: Iterable[str], option_name: str, what: str, example: str) -> dict[str, str]:
    """NAME=WHAT texts as a dict, in their order.

    >>> parse_named(["audio=logmel,bands=40"], "--encoder", "SPEC", "audio=logmel")
    {'audio': 'logmel,bands=40'}
    """
    named: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (equals and value):
            raise ValueError(f"{option_name} must be NAME={what}, got {text!r}. Pass {option_name} {example}.")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{option_name} NAME must be letters, digits, '_', '-' and '.', got {name!r}. "
                f"Pass {option_name} {example}."
            )
        if name in named:
            raise ValueError(
                f"{option_name} must name each embedding once, got {name} for {named[name]} and for {value}. "
                f"Rename one, such as {name}2={value}."
            )
        named[name] = value
    return named


def _check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise unknown(name, value, choices)


def _check_least(name: str, value: int | None, least: int, instead: str) -> None:
    if value is not None and (not math.isfinite(value) or value < least):
        raise ValueError(f"{name} must be {least} or more, got {value}. {instead}")
