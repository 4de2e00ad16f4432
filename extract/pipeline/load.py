"""Media and text of one clip, read and prepared for every encoder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from amr.common.processes import first_line
from amr.data_manifests.manifest import Manifest
from amr.data_manifests.schema import TEXT, may_hold
from amr.extract.cache.reader import CANNOT_PREPARE
from amr.extract.encoders import Prepare
from amr.extract.encoders.base import PrepareEachFrame, PrepareText
from amr.extract.encoders.file_tensor import FileTensor
from amr.extract.media.decode import Decoded, decode
from amr.extract.media.sampling import FRAME_RATE_HZ, Reduction, Request
from amr.extract.media.spool import TooLarge
from amr.extract.text.read import checked, read_text


@dataclass(frozen=True)
class ClipFiles:
    """Media files of one clip.

    Attributes:
        paths: Modality -> file; None if the clip lacks it.
        start_seconds: Start of the clip in its files, None for their start.
        end_seconds: End of the clip in its files, None for their end.
        audio_track: Index of the sound stream in its file, None for the file's default. An encoder's own goes first.
        folder_fps: Frames per second of a folder of images, None for the default. An encoder's own goes first.
        text: Text of the clip, "" if it is in a file or if there is none.
    """

    paths: Mapping[str, Path | None]
    start_seconds: float | None = None
    end_seconds: float | None = None
    audio_track: int | None = None
    folder_fps: float | None = None
    text: str = ""

    @classmethod
    def of_file(cls, path: Path, modalities: Iterable[str]) -> Self:
        """The clip in one file, which holds text if its name says so, else everything else."""
        return cls({modality: path if may_hold(str(path), modality) else None for modality in modalities})

    def read_text(self) -> str:
        """Text of the clip, without blanks around it; "" if it has none.

        Raises:
            ValueError: The file of the text is refused.
            OSError: The file cannot be read.
        """
        path = self.paths.get(TEXT)
        if self.text or path is None:
            return checked(self.text.strip())
        return read_text(path, self.start_seconds, self.end_seconds)


class ClipList(Protocol):
    """Clips by row."""

    def __getitem__(self, row: int, /) -> ClipFiles: ...


@dataclass(frozen=True)
class ManifestFiles:
    """The clips of a manifest, built on access.

    Attributes:
        manifest: Manifest of the clips.
        modalities: Modalities of the encoders.
    """

    manifest: Manifest
    modalities: tuple[str, ...]

    def __getitem__(self, row: int, /) -> ClipFiles:
        """Media files of the clip in a row."""
        paths = {modality: self.manifest.path(row, modality) for modality in self.modalities}
        text = self.manifest.text(row) if TEXT in self.modalities else ""
        return ClipFiles(paths, *self.manifest.interval(row), text=text)

    def without_file(self, row: int, modalities: Mapping[str, str]) -> Loaded:
        """Clip of which no file exists: absent, or with a failure for each file that is listed.

        Args:
            row: Row of the clip.
            modalities: Embedding name -> modality.
        """
        paths = {modality: self.manifest.path_text(row, modality) for modality in self.modalities}
        return Loaded({}, {name: not_found(paths[m]) for name, m in modalities.items() if paths[m]})

    @cached_property
    def exist(self) -> np.ndarray:
        """Mask of the clips of which a file exists, `(clips,)`."""
        return np.logical_or.reduce(list(self.existing.values()))

    @cached_property
    def existing(self) -> dict[str, np.ndarray]:
        """Modality -> mask of the clips whose file or text exists, `(clips,)`. Folders are listed once, if used."""
        return self.manifest.existing(self.modalities)

    @property
    def has_folders(self) -> bool:
        """Whether a clip is a folder of images."""
        rows = {modality: np.flatnonzero(exist) for modality, exist in self.existing.items()}
        paths = (self.manifest.path(int(row), modality) for modality in rows for row in rows[modality])
        return any(path is not None and path.is_dir() for path in paths)


@dataclass(frozen=True)
class Loaded:
    """A clip ready to be encoded. An embedding is in neither dict if the clip lacks its modality.

    Between processes it travels as bytes: a tensor would be put into shared memory, which costs more than copying
    (benchmarks/speed_paths.py), takes one open file each, and is scarce. One too large for memory travels as its file.

    Attributes:
        inputs: Embedding name -> output of its encoder's `prepare`.
        failures: Embedding name -> reason why an existing modality has no input.
        faces: Embedding name -> fraction of the frames in which a face was found, where one was looked for.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    faces: dict[str, float] = field(default_factory=dict)

    def update(self, other: Loaded) -> None:
        """Add what was loaded for other embeddings of the clip."""
        self.inputs.update(other.inputs)
        self.failures.update(other.failures)
        self.faces.update(other.faces)

    def __reduce__(self) -> tuple[Any, ...]:
        sent = {name: x if isinstance(x, FileTensor) else x.numpy() for name, x in self.inputs.items()}
        return _from_arrays, (sent, self.failures, self.faces)

    def pin_memory(self) -> Loaded:
        """Copy to pinned memory."""
        pinned = {name: x if isinstance(x, FileTensor) else x.pin_memory() for name, x in self.inputs.items()}
        return Loaded(pinned, self.failures, self.faces)


def _from_arrays(
    sent: Mapping[str, np.ndarray | FileTensor], failures: dict[str, str], faces: dict[str, float]
) -> Loaded:
    tensors = {name: x if isinstance(x, FileTensor) else torch.from_numpy(x) for name, x in sent.items()}
    return Loaded(tensors, failures, faces)


def load(clip: ClipFiles, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]) -> Loaded:
    """Decode each file of a clip once and prepare it for every encoder that reads it.

    Args:
        clip: Media files of the clip.
        modalities: Embedding name -> modality.
        prepares: Embedding name -> `prepare` of its encoder.
    """
    loaded = _load_text(clip, {name: each for name, each in prepares.items() if isinstance(each, PrepareText)})
    for reading, names in _readers(clip, modalities, prepares).items():
        alone = _load_file(clip, reading, {name: modalities[name] for name in names}, prepares)
        loaded.update(alone)
    return loaded


def _load_text(clip: ClipFiles, prepares: Mapping[str, PrepareText]) -> Loaded:
    """Read a clip's text once and prepare it for every encoder of text."""
    loaded = Loaded()
    if not prepares:
        return loaded
    path = clip.paths.get(TEXT)
    try:
        if path is not None and not os.path.lexists(path):
            return Loaded({}, dict.fromkeys(prepares, not_found(path)))
        text = clip.read_text()
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else first_line(error)
        return Loaded({}, dict.fromkeys(prepares, f"the text cannot be read: {reason}"))
    for name, prepare in prepares.items():
        if not text:
            continue
        try:
            loaded.inputs[name] = prepare.of_text(text)
        except Exception as error:
            loaded.failures[name] = f"{CANNOT_PREPARE}{name}: {first_line(error)}"
    return loaded


class _Reading(NamedTuple):
    path: Path
    audio_track: int | None
    folder_fps: float


def _load_file(
    clip: ClipFiles, reading: _Reading, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]
) -> Loaded:
    """Decode a file and prepare it for the embeddings in `modalities`. Whatever a modality raises is its failure."""
    try:
        if not reading.path.exists():
            return Loaded({}, dict.fromkeys(modalities, not_found(reading.path)))
        return _prepared(_decoded(clip, reading, [prepares[name] for name in modalities]), modalities, prepares)
    except Exception as error:
        kinds = dict.fromkeys(modalities.values())
        if len(kinds) == 1:
            return Loaded({}, dict.fromkeys(modalities, f"the file cannot be read: {first_line(error)}"))
    loaded = Loaded()
    for kind in kinds:  # one of them raises, the others may be read alone
        own = {name: modality for name, modality in modalities.items() if modality == kind}
        alone = _load_file(clip, reading, own, prepares)
        loaded.update(alone)
    return loaded


def _decoded(clip: ClipFiles, reading: _Reading, prepares: Sequence[Prepare]) -> Decoded:
    return decode(
        reading.path,
        samplings={request for each in prepares if (request := _request(each)) is not None},
        sample_rates_hz={each.sample_rate_hz for each in prepares if each.sample_rate_hz is not None},
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
        audio_track=reading.audio_track,
        frame_rate_hz=reading.folder_fps,
    )


def _prepared(decoded: Decoded, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]) -> Loaded:
    loaded = Loaded()
    for name, modality in modalities.items():
        try:
            media, prepare = _media(decoded, prepares[name]), prepares[name]
            if media is not None and isinstance(prepare, PrepareEachFrame):
                loaded.inputs[name] = prepare.join(media)
                if (found := prepare.faces(media)) is not None:
                    loaded.faces[name] = found
            elif media is not None:
                loaded.inputs[name] = prepare(media)
            elif modality in decoded.failures:
                loaded.failures[name] = decoded.failures[modality]
        except TooLarge as error:
            loaded.failures[name] = f"{CANNOT_PREPARE}{name}: {error}"
        except Exception as error:
            loaded.failures[name] = f"{CANNOT_PREPARE}{name}: {first_line(error)}"
    return loaded


def _media(decoded: Decoded, prepare: Prepare) -> np.ndarray | None:
    """Media of an encoder, reduced frames if it can reduce them; None without media."""
    request = _request(prepare)
    if request is not None and request in decoded.frame_errors:
        raise decoded.frame_errors[request]
    if prepare.sample_rate_hz is not None:
        media = decoded.sound.get(prepare.sample_rate_hz)
    else:
        media = None if request is None else decoded.frames.get(request)
    return None if media is None or not media.size else media


def _request(prepare: Prepare) -> Request | None:
    """The frames that an encoder needs, reduced as they come if it can; None if it needs sound."""
    return Reduction(prepare.sampling, prepare.begin) if isinstance(prepare, PrepareEachFrame) else prepare.sampling


def _readers(
    clip: ClipFiles, modalities: Mapping[str, str], prepares: Mapping[str, Prepare]
) -> dict[_Reading, list[str]]:
    """Names of the embeddings that are read together. Pictures are read along with any sound of their file."""
    readers: dict[_Reading, list[str]] = {}
    tracks: dict[Path, int | None] = {}
    for name in sorted(prepares, key=lambda name: prepares[name].sample_rate_hz is None):
        path, prepare = clip.paths[modalities[name]], prepares[name]
        if path is None or isinstance(prepare, PrepareText):
            continue
        track = clip.audio_track if prepare.audio_track is None else prepare.audio_track
        if prepare.sample_rate_hz is None:
            track = tracks.get(path)
        tracks.setdefault(path, track)
        fps = (prepare.folder_fps or clip.folder_fps or FRAME_RATE_HZ) if os.path.isdir(path) else FRAME_RATE_HZ
        readers.setdefault(_Reading(path, track, fps), []).append(name)
    return readers


def not_found(path: Path | str) -> str:
    """Reason of a failure."""
    return f"file not found: {path}"
