"""Extraction of a manifest's clips to a cache: workers decode, the device encodes, a thread writes."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.common.devices import choose_device
from amr.common.moved import moved_names
from amr.common.options import available_cores
from amr.common.progress import Progress
from amr.extract.cache.reader import FAILURE_COLUMNS, Cache, EmbeddingInfo
from amr.extract.cache.structure import ClipTable, check_out, notes_on_name
from amr.extract.cache.writer import CacheWriter, Embedded, joined, open_writer
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Encoder, build_encoder
from amr.extract.pipeline.background import BackgroundWriter
from amr.extract.pipeline.batches import Batch, join_absent, run_batches, unfinished_batches
from amr.extract.pipeline.encode import describe, encode
from amr.extract.pipeline.load import ClipFiles, Loaded, ManifestFiles
from amr.extract.pipeline.workers import ClipLoader, useful_workers
from amr.extract.request import Request, check_files, notes_on_request, read_request
from amr.extract.shards.join import Begun, Divided, check_begin, continue_alone, default_out, is_begun
from amr.extract.shards.on_devices import extract_on_devices
from amr.extract.shards.on_ray import extract_on_ray
from amr.extract.shards.part import Part, part_of
from amr.extract.shards.shard import Shard

BYTES_AT_ONCE = 2**24  # largest block of zeros that is written for absent clips


@dataclass(frozen=True)
class ExtractResult:
    """The outcome of an extraction.

    Attributes:
        cache: Cache file.
        clips: Number of clips in the manifest.
        present: Number of clips of which a file exists.
        embedded: Embedding name -> number of clips that have it, including those of earlier extractions.
        absent: Modality -> ids of the clips that lack it.
        failures: {"id", "modality", "reason"} of each modality that exists but could not be embedded.
        extracted: Number of clips decoded by this extraction.
        seconds: Time from the first clip to the complete cache, without the loading of models.
        notes: Messages for the user, which were shown as progress.
        without_face: Name of each embedding of face crops -> number of clips in which no face was found.
    """

    cache: Path
    clips: int
    present: int
    embedded: dict[str, int]
    absent: dict[str, list[str]]
    failures: list[dict[str, str]]
    extracted: int
    seconds: float
    notes: list[str]
    without_face: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of (clip, modality) pairs with a failure."""
        return len({(failure["id"], failure["modality"]) for failure in self.failures})

    def to_json(self) -> dict[str, Any]:
        """JSON document of `amr extract`."""
        return {
            "cache": str(self.cache),
            "clips": self.clips,
            "present": self.present,
            "embedded": self.embedded,
            **({"without_face": self.without_face} if self.without_face else {}),
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "clips_per_second": round(self.extracted / self.seconds, 3) if self.extracted else 0.0,
            "extracted": self.extracted,
            "absent": self.absent,
            "failures": self.failures,
            "notes": self.notes,
        }

    def summary(self) -> dict[str, Any]:
        """Summary as a dict, led by what is missing. Clips without any modality are counted, others named."""
        without_any = set.intersection(*(set(ids) for ids in self.absent.values())) if self.absent else set()
        absent = {m: rest for m, ids in self.absent.items() if (rest := [id_ for id_ in ids if id_ not in without_any])}
        # the notes are on the screen already
        document = self.to_json() | {"without_any": len(without_any), "absent": absent, "notes": []}
        if self.present < self.clips:
            del document["clips"], document["present"]
            document = {"present": f"{self.present:,} of {self.clips:,} clips"} | document
        said_if_any = {"clips_per_second", "without_any", "absent", "failures", "notes"}
        return {name: item for name, item in document.items() if name not in said_if_any or item not in (0, [], {})}


def extract_embeddings(config: ExtractConfig, progress: Progress | None = None) -> ExtractResult:
    """Embed every clip of a manifest with every encoder, into a cache.

    Finished clips in an existing cache are not extracted again; see `ExtractConfig`.

    Args:
        config: Settings of the extraction.
        progress: Listener of the progress.

    Raises:
        ValueError: The request is wrong, or the cache was made from other clips or encoders.
        FileNotFoundError: Media, a manifest or weights do not exist.
        RuntimeError: The extraction failed. Finished clips are saved, and the same call continues.
    """
    progress = progress or Progress()
    if config.engine == "local" and len(config.devices) == 1:
        return _with_notes_on_faces(_extract(config, progress), progress)
    if is_begun(config):
        return _with_notes_on_faces(continue_alone(config, progress, _extract), progress)
    divided, notes = _begin_shards(config, progress)
    in_shards = extract_on_ray if config.engine == "ray" else extract_on_devices
    result = in_shards(config, divided, progress, _extract_shard)
    return _with_notes_on_faces(replace(result, notes=notes + result.notes), progress)


def _with_notes_on_faces(result: ExtractResult, progress: Progress) -> ExtractResult:
    """Result with a note on each embedding for which no face was found in some clips."""
    notes = [
        f"{name}: no face in {num:,} of {result.embedded[name]:,} clips, whose whole frames were used"
        for name, num in result.without_face.items()
        if num
    ]
    for note in notes:
        progress.note(note)
    return replace(result, notes=result.notes + notes)


def _begin_shards(config: ExtractConfig, progress: Progress) -> tuple[Divided, list[str]]:
    """Refuse what one process would refuse, and show the notes on all clips, before shards are embedded.

    Returns:
        The clips that are divided, and the notes.
    """
    check_begin(config)
    request = read_request(config, progress)
    files = ManifestFiles(request.manifest, request.modalities)
    check_files(files, request.encoders, default_out(config), config)
    notes = notes_on_request(request, files.exist, config)
    for note in notes:
        progress.note(note)
    return Divided(request.manifest.sha256(), files.exist, (*request.encoders,)), notes


def _extract_shard(config: ExtractConfig, progress: Progress, begun: Begun) -> ExtractResult:
    """Embed a shard that `_begin_shards` has begun. It may be new where the command continues others."""
    return _extract(replace(config, resume=config.resume and Path(str(config.out)).is_file()), progress, begun)


def _extract(config: ExtractConfig, progress: Progress, begun: Begun | None = None) -> ExtractResult:
    """Embed clips in this process, on one device.

    Args:
        config: Settings of the extraction.
        progress: Listener of the progress.
        begun: What `_begin_shards` saw of this shard, after it checked and noted; None if nothing was checked.
    """
    shard = None if config.shard is None else Shard.parse(config.shard)
    out = default_out(config) if config.out or shard is None else shard.path(default_out(config))
    check_out(out)
    device = choose_device(config.device, encodes=True)
    request = read_request(config, progress if begun is None else Progress())
    encoders = {name: encoder.to(device) for name, encoder in request.encoders.items()}
    part = part_of(request.manifest, shard, config.batch_size)
    files = ManifestFiles(part.manifest, request.modalities)
    if shard is None:  # a shard is finished once each of its clips is embedded, failed or absent
        check_files(files, encoders, out, config)
    exist = part.of_cache(files.exist)
    if begun is None:
        notes = [*notes_on_name(out), *notes_on_request(request, exist, config)]
    else:
        notes = []
        _check_same_clips(config, request.manifest.sha256(), exist, begun)
    for note in notes:
        progress.note(note)
    with _writer(out, request, part, files, config) as writer:
        began = time.perf_counter()
        extracted = _fill(writer, part, files, encoders, device, config, progress)
        writer.finalize()
        seconds = time.perf_counter() - began
        about_clips = [*writer.notes, *(note for encoder in encoders.values() for note in encoder.notes)]
        for note in about_clips:
            progress.note(note)
        notes += about_clips
    return _result(out, list(encoders), notes, int(exist.sum()), extracted, seconds)


def _check_same_clips(config: ExtractConfig, manifest_sha256: str, exist: np.ndarray, begun: Begun) -> None:
    """Refuse a node that sees no file of a shard of which there are files, or another manifest."""
    if begun.num_present and not exist.any():
        raise ValueError(
            f"the media must be at the same paths on every node, got none of {begun.num_present} files on "
            f"{platform.node()}. Mount them there, and run the same command again."
        )
    if manifest_sha256 != begun.manifest_sha256:  # that of a dataset is made from the files that are there
        what = "the manifest" if config.dataset is None else f"the media of {config.dataset}"
        raise ValueError(
            f"{what} must be the same on every node, got others on {platform.node()}. "
            "Copy them there, and run the same command again."
        )


def _writer(
    out: Path, request: Request, part: Part, files: ManifestFiles, config: ExtractConfig
) -> AbstractContextManager[CacheWriter]:
    """Writer of the cache of a part of the clips."""
    manifest, encoders = request.manifest, request.encoders
    shard = "" if config.shard is None else str(Shard.parse(config.shard))
    clips = ClipTable(manifest.dataset, str(manifest.root), manifest.sha256(), part.table, shard)
    infos = [describe(name, encoder, config.dtype) for name, encoder in encoders.items()]
    again = {}
    if config.resume:
        again = {name: part.of_cache(files.existing[encoder.modality]) for name, encoder in encoders.items()}
    return open_writer(out, clips, infos, resume=config.resume, overwrite=config.overwrite, again=again)


def embed_clips(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoders: Mapping[str, str],
    *,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
) -> dict[str, tuple[EmbeddingInfo, Embedded]]:
    """Embed files in memory, as `extract_embeddings` would.

    Args:
        paths: Files, one per clip, or a single one.
        encoders: Embedding name -> spec.
        device: Device, "auto", "cpu" or "cuda".
        batch_size: Number of clips encoded at once.
        workers: Number of decoding processes; by default one per core, at most one per clip; 0 for one that
            does not work ahead of the encoder.

    Returns:
        Embedding name -> its description, and its rows in float32 with failures.

    Raises:
        FileNotFoundError: A file does not exist.
    """
    files = list(map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths))
    missing = [str(path) for path in files if not os.path.exists(path)]
    if missing:
        raise FileNotFoundError(f"clip must be an existing file, got {missing[0]!r}. Check the path.")
    chosen = choose_device(device, encodes=True)
    built = {name: build_encoder(spec, name) for name, spec in encoders.items()}
    clips = [ClipFiles.of_file(path, {encoder.modality for encoder in built.values()}) for path in files]
    batches: dict[int, dict[str, Embedded]] = {}
    ids = list(map(str, files))
    embed_batches(clips, ids, built, batches.__setitem__, device=chosen, batch_size=batch_size, workers=workers)
    infos = {name: describe(name, encoder, "float32") for name, encoder in built.items()}
    return {name: (infos[name], joined([batch[name] for batch in batches.values()])) for name in infos}


def embed_batches(
    clips: Sequence[ClipFiles],
    ids: Sequence[str],
    encoders: Mapping[str, Encoder],
    handle: Callable[[int, dict[str, Embedded]], None],
    *,
    device: torch.device,
    batch_size: int = 32,
    workers: int | None = None,
) -> None:
    """Embed clips batch by batch, so that memory does not grow with the number of clips.

    Args:
        clips: Media files of each clip.
        ids: Id of each clip, for failures.
        encoders: Embedding name -> encoder.
        handle: Function that gets the row of a batch's first clip, and embedding name -> rows of the batch in float32.
        device: Device of the encoders.
        batch_size: Number of clips encoded at once.
        workers: Number of decoding processes; by default one per core, at most one per clip.
    """
    encoders = {name: encoder.to(device) for name, encoder in encoders.items()}
    infos = {name: describe(name, encoder, "float32") for name, encoder in encoders.items()}
    loader = ClipLoader(
        clips,
        encoders,
        num_workers=min(available_cores() if workers is None else workers, len(clips)),
        batch_size=batch_size,
        pin_memory=device.type == "cuda",
    )

    def encoded(batch: Batch, loaded: list[Loaded]) -> None:
        rows = ids[batch.start : batch.stop]
        handle(batch.start, {m: encode(encoders[m], infos[m], loaded, batch.start, rows) for m in batch.names})

    run_batches(loader, unfinished_batches({m: np.zeros(len(clips), bool) for m in encoders}, batch_size), encoded)


def _fill(
    writer: CacheWriter,
    part: Part,
    files: ManifestFiles,
    encoders: Mapping[str, Encoder],
    device: torch.device,
    config: ExtractConfig,
    progress: Progress,
) -> int:
    """Extract unfinished clips and return the number of those with a file."""
    batches = unfinished_batches(part.done({name: writer.done(name) for name in encoders}), config.batch_size)
    row_bytes = max(np.prod(writer.infos[name].row_shape) * 4 for name in encoders)
    batches = join_absent(batches, files.exist, max(1, int(BYTES_AT_ONCE // row_bytes)))
    counted = files.exist & part.is_own
    num_clips = sum(int(counted[batch.start : batch.stop].sum()) for batch in batches)
    loader = ClipLoader(
        files,
        encoders,
        num_workers=useful_workers(config.workers, num_clips, progress),
        batch_size=config.batch_size,
        pin_memory=device.type == "cuda",
        clip_timeout=config.clip_timeout,
    )
    ids = files.manifest.ids
    num_present = int(counted.sum())
    progress.start(num_present, num_present - num_clips)
    try:
        with BackgroundWriter(writer, min_decoded=config.batch_size) as background:

            def store(batch: Batch, loaded: list[Loaded]) -> None:
                failed, num_decoded = set(), int(files.exist[batch.start : batch.stop].sum())
                for name in batch.names:
                    batch_ids = ids[batch.start : batch.stop]
                    embedded = encode(encoders[name], writer.infos[name], loaded, batch.start, batch_ids)
                    start, embedded = part.own(batch.start, embedded)
                    background.put(name, start, embedded, num_decoded)
                    failed |= {(failure.id, failure.modality) for failure in embedded.failures}
                progress.advance(int(counted[batch.start : batch.stop].sum()), len(failed))

            run_batches(loader, batches, store)
    finally:
        progress.stop()
    return num_clips


def _result(
    path: Path, names: list[str], notes: list[str], num_present: int, extracted: int, seconds: float
) -> ExtractResult:
    with Cache.open(path) as cache:
        ids = cache.table()["id"]
        present = {name: cache.present(name) for name in names}
        modality = {name: cache.info(name).modality for name in names}
        failures = cache.failures[cache.failures["modality"].isin(set(modality.values()))]
        without_face = {name: cache.num_without_face(name) for name in names if cache.info(name).has_faces}
    absent: dict[str, list[str]] = {}
    for name in names:
        failed = ids.isin(failures.loc[failures["modality"] == modality[name], "id"])
        absent[modality[name]] = ids[~present[name] & ~failed.to_numpy()].tolist()
    return ExtractResult(
        cache=path,
        clips=len(ids),
        present=num_present,
        embedded={name: int(rows.sum()) for name, rows in present.items()},
        absent=absent,
        failures=[dict(zip(FAILURE_COLUMNS, row, strict=True)) for row in failures.itertuples(index=False)],
        extracted=extracted,
        seconds=seconds,
        notes=notes,
        without_face=without_face,
    )


__getattr__ = moved_names(__name__, (__name__,), {"extract": "extract_embeddings"})
