"""Data of a training of encoders: the encoders, the store of decoded clips, and its splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from amr.common.devices import choose_device
from amr.common.progress import Progress
from amr.common.workspace import home
from amr.data_manifests.manifest import Manifest, read_manifest
from amr.data_manifests.schema import TEXT
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Spec, build_requested
from amr.extract.encoders.model import ModelEncoder
from amr.extract.pipeline.store import Store, open_store
from amr.extract.request import read_clips_manifest
from amr.fusion.data.folds import free_bytes
from amr.fusion.data.splits import SplitRows, split_rows
from amr.fusion.data.targets import read_target
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.config import AugmentConfig, TrainConfig
from amr.fusion.end_to_end.media_clips import MediaClips

STORE_FRACTION = 0.5  # largest part of a GPU's free memory that decoded clips take


@dataclass(frozen=True)
class MediaData:
    """Encoders, and clips to train them on.

    Args:
        manifest: Manifest of the clips.
        encoders: Embedding name to the encoder to train.
        classes: Names of the classes, sorted.
        target: Class indices, `(clips,)`; -1 without a label.
        store: Store of the decoded clips.
        rows: Rows of train, val and test.
        device: Device of the training.
    """

    manifest: Manifest
    encoders: Mapping[str, ModelEncoder]
    classes: tuple[str, ...]
    target: np.ndarray
    store: Store
    rows: SplitRows
    device: torch.device

    @property
    def clips(self) -> pd.DataFrame:
        """Table of the manifest."""
        return self.manifest.table

    def select(self, rows: np.ndarray) -> MediaClips:
        """Clips of the given rows."""
        index = torch.from_numpy(rows)
        present, target = self.store.present[index], torch.from_numpy(self.target)[index]
        in_store = {name: own[index.to(own.device)] for name, own in self.store.rows.items()}
        return MediaClips(
            self.store.tensors, present.to(self.device), target.to(self.device), in_store, files=self.store.files
        )

    def with_new_encoders(self, config: TrainConfig) -> MediaData:
        """The same clips with encoders of the config's seed, before any training."""
        return replace(self, encoders=build_encoders(config))

    def clips_sha256(self) -> str:
        """Hash of ids, labels and splits, which must be the same when a training resumes."""
        splits = [rows.tolist() for rows in (self.rows.train, self.rows.val, self.rows.test)]
        content = [self.clips["id"].tolist(), self.target.tolist(), self.classes, splits]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_media_data(config: TrainConfig, progress: Progress) -> MediaData:
    """Build the encoders, decode clips that are not in the store yet, and split the clips.

    Raises:
        ValueError: The options do not fit the clips, or an encoder cannot be trained.
        FileNotFoundError: Media or weights are missing.
        OSError: The disk has no room for the decoded clips.
    """
    encoders = build_encoders(config)
    _check_time_crop(config, encoders)
    manifest = _manifest(config)
    for note in manifest.notes:
        progress.note(note)
    target, classes = read_target(manifest.table, config.label)
    _split(config, manifest, target, target >= 0)  # wrong splits must fail before an hour of decoding
    store = open_store(
        Path(config.store) if config.store else _store_dir(manifest, encoders),
        manifest,
        encoders,
        workers=config.workers,
        clip_timeout=config.clip_timeout,
        batch_size=config.batch_size,
        progress=progress,
        max_seconds=config.clip_seconds,
    )
    usable = (target >= 0) & store.present.any(-1).numpy()
    rows = _split(config, manifest, target, usable)
    device = choose_device(config.device)
    return MediaData(manifest, encoders, classes, target, store_on(device, store), rows, device)


def store_on(device: torch.device, store: Store) -> Store:
    """The store in the device's memory, if it fits there beside what a training needs; else as it is."""
    return store.to(device) if store.num_bytes <= STORE_FRACTION * free_bytes(device) else store


def augmentation(config: TrainConfig, data: MediaData) -> Augment:
    """Augmentation of the train clips."""
    return Augment(
        config.augmentation, {name: encoder.modality for name, encoder in data.encoders.items()}, config.seed
    )


def build_encoders(config: TrainConfig) -> dict[str, ModelEncoder]:
    """Build the encoders to train: embedding name to encoder.

    Raises:
        ValueError: An encoder cannot be trained.
    """
    return {name: _trainable(name, spec, config.seed) for name, spec in config.encoders.items()}


def _trainable(name: str, text: str, seed: int) -> ModelEncoder:
    """Build the encoder of a spec; the seed is that of random weights, unless the spec has one."""
    spec = Spec.parse(text)
    if spec.options.get("weights") == "random" and "seed" not in spec.options:
        spec = Spec(spec.family, spec.model, {**spec.options, "seed": str(seed)})
    encoder = build_requested({name: str(spec)})[name]
    if encoder.modality == TEXT:
        raise ValueError(
            f"--encoder {name} must be an encoder of sound or pictures to be trained, got {text!r}, which reads text. "
            "Use it frozen, with amr extract."
        )
    if not isinstance(encoder, ModelEncoder):
        raise ValueError(
            f"--encoder {name} must have weights that can be trained, got {text!r}. "
            f"Pass {name}=timm:resnet18,weights=random."
        )
    if not encoder.trainable:
        raise ValueError(
            f"--encoder {name} must be one that can be trained, got {text!r}. Use it frozen, with amr extract, or pass "
            f"{name}=torchaudio:WAVLM_BASE."
        )
    return encoder


def _check_time_crop(config: TrainConfig, encoders: Mapping[str, ModelEncoder]) -> None:
    """Raise ValueError if pictures of sound would be cropped for an encoder that takes one width only."""
    time_crop = config.augmentation.time_crop
    if time_crop == 1:
        return
    for name, encoder in encoders.items():
        if encoder.modality != "audio" or encoder.prepare.sample_rate_hz is None or encoder.prepare.waveform:
            continue
        picture = encoder.prepare(np.zeros(encoder.prepare.sample_rate_hz, np.float32))[None]
        augment = Augment(AugmentConfig(time_crop=time_crop), {name: "audio"}, config.seed)
        try:
            with torch.inference_mode():
                encoder.network().eval()(augment(name, picture[None])[0])
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"--time-crop must be 1 for --encoder {name}={encoder.spec}, which takes pictures of one width only, "
                f"got {time_crop}. Leave it out, or name a convolutional model, such as {name}=timm:resnet18."
            ) from error


def _manifest(config: TrainConfig) -> Manifest:
    """Read the manifest; clips without a label are left out later."""
    if config.dataset is not None:
        return read_clips_manifest(ExtractConfig(dataset=config.dataset, root=config.root))
    return read_manifest(
        str(config.manifest),
        root=config.root or None,
        label_column=config.label,
        allow_unlabelled=True,
        label_option="--label",
    )


def _split(config: TrainConfig, manifest: Manifest, target: np.ndarray, usable: np.ndarray) -> SplitRows:
    """Split the usable clips."""
    (rows,) = split_rows(
        manifest.table,
        target,
        usable,
        policy=config.split_policy,
        seed=config.split_seed,
        keep_flagged=config.keep_flagged,
        has_folds=False,
    )
    return rows


def _store_dir(manifest: Manifest, encoders: Mapping[str, ModelEncoder]) -> Path:
    """Folder of the store, the same for encoders with the same preprocessing."""
    preprocessing = {name: encoder.preprocessing for name, encoder in encoders.items()}
    digest = hashlib.sha256(json.dumps([str(manifest.root), preprocessing], sort_keys=True).encode()).hexdigest()[:8]
    return home() / "store" / f"{manifest.dataset}-{digest}"
