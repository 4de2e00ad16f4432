"""Settings of an extraction or an import: defaults and help of `amr extract` and `amr import`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amr.common.cluster.options import ClusterOptions, check_engine, check_gpus
from amr.common.csv_rows import check_csv
from amr.common.options import (
    APPLE_GPU,
    CLUSTER,
    DATA,
    OUTPUT,
    SOURCE,
    SPEED,
    check_device,
    check_options,
    coerce_fields,
    option,
    parse_named,
)
from amr.common.registry import registered_names, unknown
from amr.extract.shards.shard import Shard

DTYPES = ("float32", "float16")
PRESETS = ("weightless", "pretrained", "emotion", "sound-events", "actions")
CLIP_TIMEOUT = 300.0
MAX_CLIP_TIMEOUT = 1_000_000
WORKERS_HELP = "Number of decoding processes; by default one per core; 0: one that does not work ahead of the encoder."
CLIP_TIMEOUT_HELP = "Seconds that decoding a clip may take; one that takes longer is a failure."


def check_clips(command: str, dataset: str | None, manifest: str | None) -> None:
    """Raise ValueError for a request without clips, or with both a dataset and a CSV."""
    if (dataset is None) == (manifest is None):
        got = "neither" if dataset is None else f"--dataset {dataset} and --manifest {manifest}"
        raise ValueError(
            f"{command} must have one of --dataset and --manifest, got {got}. "
            "Pass --dataset crema-d, or --manifest clips.csv."
        )


def check_request(config: Any) -> None:
    """Refuse what needs no data in a request for clips and encoders, without importing what reads or builds them."""
    if config.dataset is not None:
        check_dataset(config.dataset)
    else:
        check_csv(Path(str(config.manifest)))
    _check_families(config.encoders)


def check_dataset(name: str) -> None:
    """Refuse an unknown dataset."""
    room = Path(__file__).parents[1] / "data_manifests"
    names = registered_names(room) + registered_names(room / "user_lists")
    if names and name not in names:
        raise unknown("--dataset", name, names)


def _check_families(encoders: Mapping[str, str]) -> None:
    names = registered_names(Path(__file__).parent / "encoders")
    for name, spec in encoders.items():
        family = re.split("[:,]", spec)[0].strip().lower()
        if family and names and family not in names:
            raise ValueError(f"--encoder {name}={spec}: {unknown('encoder family', family, names)}")


@dataclass(frozen=True)
class ExtractConfig(ClusterOptions):
    """Settings of one extraction: clips, encoders and output.

    If the cache exists, its unfinished clips are continued, encoders that it lacks are added, and labels, splits and
    groups are read again from the manifest; no option is needed for that. The extraction is refused if an encoder,
    its preprocessing, the dtype or the list of files differs. `overwrite` replaces the cache; `resume` requires
    that it exists, and tries clips again that failed and whose files exist.

    Raises:
        ValueError: A value is wrong for any dataset.
    """

    dataset: str | None = option(None, "Dataset to extract; amr datasets lists them.", panel=SOURCE)
    manifest: str | None = option(None, "CSV of your own clips, instead of a dataset.", panel=SOURCE)
    root: str | None = option(
        None, "Folder of the media; by default data/DATASET, or the folder of the CSV.", panel=SOURCE
    )
    encoder: tuple[str, ...] = option(
        (), "NAME=SPEC: name of an embedding and its encoder; amr encoders lists them. Repeatable.", panel=SOURCE
    )
    preset: str | None = option(
        None,
        "Ready-made choice of encoders: weightless (default, no download), or a pretrained pair for a task: emotion, "
        "sound-events or actions; pretrained is the pair that fits the dataset.",
        choices=PRESETS,
        panel=SOURCE,
    )
    shard: str | None = option(
        None,
        "I/N: embed only block I of N of the clips, into a cache of its own; amr merge joins them.",
        panel=SPEED,
        since="0.2",
    )
    out: str | None = option(
        None, "Cache to write; by default caches/DATASET.h5, with .shard-I-of-N before .h5 for a shard.", panel=OUTPUT
    )
    batch_size: int = option(32, "Clips encoded at once.", least=1, panel=SPEED)
    workers: int | None = option(None, WORKERS_HELP, least=0, panel=SPEED)
    clip_timeout: float = option(
        CLIP_TIMEOUT, CLIP_TIMEOUT_HELP, above=0, most=MAX_CLIP_TIMEOUT, panel=SPEED, since="0.2"
    )
    dtype: str = option("float32", "Type of stored embeddings: float32 or float16.", choices=DTYPES, panel=OUTPUT)
    label_column: str = option("label", "Column of the CSV that holds the label.", panel=DATA)
    audio_track: int | None = option(
        None,
        "Audio track of each file, from 0; by default the one that the file marks as default.",
        least=0,
        panel=DATA,
        since="0.2",
    )
    folder_fps: float | None = option(
        None, "Frames per second of clips that are folders of images; by default 25.", above=0, panel=DATA, since="0.2"
    )
    allow_unlabelled: bool = option(False, "Include clips of the CSV that have no label.", panel=DATA)
    resume: bool = option(False, "Require a cache to continue, and try its failed clips again.", panel=OUTPUT)
    overwrite: bool = option(False, "Replace the cache if it exists.", panel=OUTPUT)
    device: str = option(
        "auto", "Device: auto, cpu, cuda, cuda:N or mps; several, such as cuda:0,cuda:1, divide the clips.", panel=SPEED
    )

    shards: int | None = option(
        None,
        "Number of shards on the cluster; by default that of workers: one per node, per --workers CPUs, or per GPU.",
        least=1,
        panel=CLUSTER,
        since="0.2",
    )

    def __post_init__(self) -> None:
        """Check the settings as far as possible without the clips."""
        coerce_fields(self)
        check_clips("amr extract", self.dataset, self.manifest)
        if self.dataset is not None and (self.label_column != "label" or self.allow_unlabelled):
            option_name = "--allow-unlabelled" if self.allow_unlabelled else "--label-column"
            raise ValueError(
                f"{option_name} must be used with --manifest, got --dataset {self.dataset}. Leave it out: "
                "amr fit --label chooses the column that is predicted."
            )
        if self.encoder and self.preset is not None:
            raise ValueError(
                f"--preset must be used without --encoder, got --preset {self.preset} and --encoder {self.encoder[0]}. "
                "Leave one of them out."
            )
        if self.resume and self.overwrite:
            raise ValueError("--resume must be used without --overwrite, got both. Leave one of them out.")
        check_options(self)
        parse_named(self.encoder, "--encoder", "SPEC", "audio=logmel")
        for device in self.devices:
            check_device(device, encodes=True)
        if APPLE_GPU in self.devices and len(self.devices) > 1:
            raise ValueError(f"--device mps must be the only device, got {self.device}. Pass --device mps.")
        if self.shard is not None and Shard.parse(self.shard) and len(self.devices) > 1:
            raise ValueError(
                f"--shard must be used with one device, got {self.shard} and --device {self.device}. "
                "Pass one device, or leave out --shard."
            )
        check_engine(self)
        if self.engine == "ray" and (self.shard is not None or len(self.devices) > 1):
            other = f"--device {self.device}" if self.shard is None else f"--shard {self.shard}"
            raise ValueError(f"--engine ray must divide the clips itself, got {other}. Leave it out.")
        check_gpus(self, self.device)

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices, each of which embeds a part of the clips."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def encoders(self) -> dict[str, str]:
        """Embedding name to encoder spec, as given by `encoder`; empty if a preset is used."""
        return parse_named(self.encoder, "--encoder", "SPEC", "audio=logmel")


@dataclass(frozen=True)
class MergeConfig:
    """Shards of an extraction, and the cache that they are joined into.

    Raises:
        ValueError: A value is wrong for any shards.
    """

    shards: tuple[str, ...] = option((), "Caches of amr extract --shard, all of them, or their names in caches/.")
    out: str | None = option(None, "Cache to write; required.")
    overwrite: bool = option(False, "Replace the cache if it exists.")

    def __post_init__(self) -> None:
        """Check the settings as far as possible without the files."""
        coerce_fields(self)
        if not self.shards:
            raise ValueError("SHARD must be given, got none. Pass the caches of amr extract --shard.")
        if self.out is None:
            raise ValueError("--out must be given, got none. Pass --out caches/NAME.h5.")
        check_options(self)


@dataclass(frozen=True)
class ImportConfig:
    """Settings of an import of existing embeddings. FILE is .npy, .npz, .mat, .csv, .parquet, .pt or .txt.

    `FILE:KEY` reads an array, variable or column of the file, `FILE:KEY+KEY` concatenates the rows of several arrays or
    puts several columns side by side, `FILE:N` reads the first N rows, `FILE:KEY:N` those of a key. A pattern selects
    columns (`FILE:f*`), or arrays that are named by the ids of their clips (`FILE:*`). A folder has one file per clip,
    named by its id. Rows with ids are joined on them.

    Raises:
        ValueError: A value is wrong for any file.
    """

    embeddings: tuple[str, ...] = option(
        (), "NAME=FILE[:KEY[+KEY...]]: one row per clip, or a folder of one file per clip. Required, repeatable."
    )
    labels: str | None = option(None, "FILE[:KEY[+KEY...]] with one label per clip; by default a column of --columns.")
    ids: str | None = option(None, "FILE with one id per clip; by default 0, 1, 2, ...")
    groups: str | None = option(None, "FILE with one group per clip, or ids:REGEX for its match (or capture) in ids.")
    splits: str | None = option(
        None, "FILE with train, val or test per clip, or counts such as train=1600,test=400.", separator=","
    )
    columns: str | None = option(None, "CSV of further columns, joined on id, or a dataset for its own list.")
    out: str | None = option(None, "Cache to write; required.")
    dtype: str = option("float32", "Type of stored embeddings: float32 or float16.", choices=DTYPES)
    overwrite: bool = option(False, "Replace the cache if it exists.")
    lengths: tuple[str, ...] = option(
        (),
        "[NAME=]FILE with the number of steps of each clip, if sequences are padded; by default, NaN is padding. "
        "Repeatable.",
        since="0.2",
    )

    def __post_init__(self) -> None:
        """Check the settings as far as possible without the files."""
        coerce_fields(self)
        if not self.embeddings:
            raise ValueError(
                "--embeddings must be given, got none. Pass --embeddings audio=audio.npy, once per modality."
            )
        if self.labels is None and self.columns is None:
            raise ValueError("--labels must be given unless --columns has them, got neither. Pass --labels FILE.")
        if self.out is None:
            raise ValueError("--out must be given, got none. Pass --out caches/NAME.h5.")
        check_options(self)
        parse_named(self.embeddings, "--embeddings", "FILE", "audio=audio.npy")
        _ = self.lengths_files

    @property
    def files(self) -> dict[str, str]:
        """Embedding name to FILE[:KEY...]."""
        return parse_named(self.embeddings, "--embeddings", "FILE", "audio=audio.npy")

    @property
    def lengths_files(self) -> dict[str, str]:
        """Embedding name to the FILE of its numbers of steps; "" to that of all others with steps."""
        found: dict[str, str] = {}
        for text in self.lengths:
            name, equals, file = text.partition("=")
            if not equals or not re.fullmatch(r"\w[\w.-]*", name):
                name, file = "", text
            if name and name not in self.files:
                raise unknown("--lengths NAME", name, self.files)
            if name in found:
                raise ValueError(
                    f"--lengths must be given once per embedding, got {found[name]} and {file}. "
                    "Pass --lengths NAME=FILE for each."
                )
            found[name] = file
        return found
