"""Clips and encoders of an extraction, with the checks and notes before any clip is embedded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amr.common.options import in_shell
from amr.common.progress import Progress
from amr.data_manifests.dataset import PRESETS, TEXT_ENCODERS
from amr.data_manifests.datasets import build_manifest, datasets
from amr.data_manifests.manifest import Manifest, read_manifest
from amr.data_manifests.schema import TEXT, path_columns
from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Encoder, build_encoder, build_requested
from amr.extract.encoders.media_options import MediaOptions
from amr.extract.pipeline.load import ManifestFiles


@dataclass(frozen=True)
class Request:
    """Clips and encoders of an extraction.

    Attributes:
        manifest: All clips, also those of other shards.
        encoders: Embedding name -> encoder.
    """

    manifest: Manifest
    encoders: dict[str, Encoder]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the encoders, each once."""
        return tuple(dict.fromkeys(encoder.modality for encoder in self.encoders.values()))


def read_request(config: ExtractConfig, progress: Progress) -> Request:
    """Build the encoders that a config names and read its manifest."""
    # encoders first: a wrong spec must fail before media are searched or rendered
    encoders = build_requested(config.encoders)
    media = MediaOptions(config.audio_track, config.folder_fps)
    if encoders:
        media.apply_where_unsaid(encoders)
    manifest = read_clips_manifest(config)
    if not encoders:
        specs = _preset_encoders(manifest, config, progress)
        encoders = {name: build_encoder(spec, name) for name, spec in specs.items()}
        media.apply_where_unsaid(encoders)
    return Request(manifest, encoders)


def check_files(files: ManifestFiles, names: Iterable[str], out: Path, config: ExtractConfig) -> None:
    """Refuse files that do not fit the options, or that are not there.

    Args:
        files: Files of all clips.
        names: Names of the requested embeddings.
        out: Cache that is written.
        config: Settings of the extraction.
    """
    if config.folder_fps is not None and not files.has_folders:
        raise ValueError(
            f"--folder-fps must be used with clips that are folders of images, got {config.folder_fps:g} without any. "
            "Leave it out."
        )
    if TEXT in files.modalities and config.label_column == TEXT:
        raise ValueError(
            "--label-column must be another column where text is embedded, got text. Rename the column of labels."
        )
    nothing_listed = not any(map(files.manifest.lists, files.modalities))
    for modality in files.modalities:
        if modality == TEXT or nothing_listed:
            _refuse_unlisted(modality, files.manifest, config)
    _refuse_without_files(files, names, out, config)


def _refuse_unlisted(modality: str, manifest: Manifest, config: ExtractConfig) -> None:
    """Refuse an encoder of a modality that the list of clips has no files of, and no text."""
    if manifest.lists(modality):
        return
    advice = "Add a column text, or text_path with a .txt, .srt or .vtt file for each clip."
    if modality != TEXT:
        instead = f", or pass --encoder text={TEXT_ENCODERS['weightless']}" if manifest.lists(TEXT) else ""
        advice = f"Add a column path or {modality}_path with the file of each clip{instead}."
    source = "" if config.manifest is None else f" in {Path(config.manifest).name}"
    raise ValueError(
        f"an encoder of {modality} must be used with clips that have {modality}, got none{source}. {advice}"
    )


def _refuse_without_files(files: ManifestFiles, names: Iterable[str], out: Path, config: ExtractConfig) -> None:
    """Refuse to make embeddings of clips of which no file exists, such as those of a disk that is not mounted."""
    if files.exist.any() or config.manifest is None:  # a dataset without any file was refused
        return
    if out.is_file() and not config.overwrite:
        with Cache.open(out) as cache:
            if {*names} <= {*cache.names}:
                return
    path = next((path for m in files.modalities for path in files.manifest.paths(m) if path is not None), None)
    if path is not None:
        raise ValueError(
            f"--manifest must name files that exist, got none of its {len(files.exist):,} clips, such as "
            f"{str(path)!r}. Pass --root with the folder of the media."
        )


def notes_on_request(request: Request, exist: np.ndarray, config: ExtractConfig) -> list[str]:
    """Notes for the user.

    Args:
        request: Clips and encoders.
        exist: Mask of the clips of the cache of which a file exists, `(clips,)`.
        config: Settings of the extraction.
    """
    missing = _notes_on_missing(exist, request, config)
    return [*request.manifest.notes, *_notes_on_names(request.encoders), *missing]


def _notes_on_names(encoders: Mapping[str, Encoder]) -> list[str]:
    """Notes on embeddings that are named like another modality than their own."""
    wrong = {
        name: encoder for name, encoder in encoders.items() if name in {"audio", "video", TEXT} - {encoder.modality}
    }
    return [
        f"the embedding {name} is made from {encoder.modality}: {encoder.spec} reads {encoder.modality} only. "
        f"If that is not meant, pass --encoder {encoder.modality}={encoder.spec}."
        for name, encoder in wrong.items()
    ]


def _notes_on_missing(exist: np.ndarray, request: Request, config: ExtractConfig) -> list[str]:
    """Note on how many clips have no media, so that a partial cache is not mistaken for a complete one."""
    num_clips, num_missing = len(exist), int((~exist).sum())
    if not num_missing:
        return []
    has = "has" if num_missing == 1 else "have"
    return [
        f"{num_missing:,} of {num_clips:,} clips {has} {_lacking(request)}: not embedded. "
        f"{_listing(config) if config.dataset else 'amr inspect'} lists them."
    ]


def _lacking(request: Request) -> str:
    """What clips without an input do not have: no file of the encoders' modalities, and no text for those of text."""
    columns = list(request.manifest.table.columns)
    no_file = f"no file in {request.manifest.root}"
    if TEXT not in request.modalities or TEXT not in columns:
        return no_file
    of_encoders = {"path", *(f"{modality}_path" for modality in request.modalities)}
    listed = of_encoders.intersection(path_columns(columns))
    return f"neither text nor a file in {request.manifest.root}" if listed else f"no {TEXT}"


def _listing(config: ExtractConfig) -> str:
    """Command that lists the media of a dataset."""
    root = f" --root {in_shell(config.root)}" if config.root else ""
    return f"amr manifest --dataset {config.dataset}{root}"


def read_clips_manifest(config: ExtractConfig) -> Manifest:
    """Read the manifest that a config names."""
    root = Path(config.root) if config.root else None
    if config.dataset is not None:
        manifest, report = build_manifest(config.dataset, root)
        if not any(report.found.values()) and config.shard is None:
            raise ValueError(
                f"--root must hold media of {config.dataset}, got {str(report.root)!r} with none of its "
                f"{len(manifest)} clips. See {_listing(config)}."
            )
        return manifest
    return read_manifest(
        Path(str(config.manifest)),
        root=root,
        label_column=config.label_column,
        allow_unlabelled=config.allow_unlabelled,
    )


def _preset_encoders(manifest: Manifest, config: ExtractConfig, progress: Progress) -> dict[str, str]:
    """Encoders of the preset, for the modalities that the manifest has files for."""
    # A user's own clips can show anything, like VGGSound's.
    presets = {**PRESETS, **datasets[config.dataset or "vggsound"].presets}
    if config.dataset is None:
        text = {preset: TEXT_ENCODERS.get(preset, TEXT_ENCODERS["pretrained"]) for preset in presets}
        presets = {preset: {**encoders, TEXT: text[preset]} for preset, encoders in presets.items()}
        has = {m: manifest.lists(m) for m in ("audio", "video", TEXT)}
        has[TEXT] &= config.label_column != TEXT
    else:
        has = {m: f"{m}_path" in manifest.table or "path" in manifest.table for m in ("audio", "video")}
    if not any(has.values()):  # no file at all is listed, which the result then says
        has = {TEXT: False}
    chosen = {
        preset: {name: spec for name, spec in encoders.items() if has.get(name, True)}
        for preset, encoders in presets.items()
    }
    if config.preset is None:
        used, better = (
            ", ".join(f"{name}={spec}" for name, spec in chosen[preset].items())
            for preset in ("weightless", "pretrained")
        )
        progress.note(
            f"using --preset weightless ({used}), without a download; --preset pretrained is usually better ({better})"
        )
    return chosen[config.preset or "weightless"]
