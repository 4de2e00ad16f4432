"""What a training of encoders works on: the encoders, the store of decoded clips, and its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from amr.common.devices import choose_device
from amr.common.progress import Progress
from amr.common.workspace import home
from amr.data_manifests.manifest import Manifest
from amr.extract.config import ExtractConfig
from amr.extract.encoders import Spec, build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.extract.pipeline.store import Store, open_store
from amr.extract.run import read_clips_manifest
from amr.fusion.data.dataset import read_target
from amr.fusion.data.splits import SplitRows, split_rows
from amr.fusion.end_to_end.augment import Augment
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.media_clips import MediaClips


@dataclass(frozen=True)
class MediaData:
    """Clips ready to train encoders on.

    Args:
        name: of the dataset.
        encoders: embedding name to the encoder that is trained.
        classes: the labels' names, sorted.
        clips: the manifest's table.
        target: `(clips,)`; -1 where the label is absent.
        store: the decoded clips.
        rows: Rows of train, val and test.
        device: where it is trained.
    """

    name: str
    encoders: Mapping[str, ModelEncoder]
    classes: tuple[str, ...]
    clips: pd.DataFrame
    target: np.ndarray
    store: Store
    rows: SplitRows
    device: torch.device

    def part(self, rows: np.ndarray) -> MediaClips:
        """The clips of a part."""
        index = torch.from_numpy(rows)
        present, target = self.store.present[index], torch.from_numpy(self.target)[index]
        return MediaClips(self.store.tensors, present.to(self.device), target.to(self.device), rows=index)

    def clips_sha256(self) -> str:
        """Of ids, labels and parts: a training that goes on must find the same."""
        parts = [part.tolist() for part in (self.rows.train, self.rows.val, self.rows.test)]
        told = [self.clips["id"].tolist(), self.target.tolist(), self.classes, parts]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_media_data(config: TrainConfig, progress: Progress) -> MediaData:
    """Build the encoders, decode what is not decoded yet, and divide the clips.

    Raises:
        ValueError: the request does not fit the clips, or an encoder cannot be trained.
        FileNotFoundError: media or weights are not there.
        RuntimeError: the disk has no room for the decoded clips.
    """
    encoders = {name: _trainable(name, spec, config.seed) for name, spec in config.encoders.items()}
    manifest = _manifest(config)
    target, classes = read_target(manifest.table, config.label)
    _split(config, manifest, target, target >= 0)  # what is wrong with the parts is said before an hour of decoding
    store = open_store(
        Path(config.store) if config.store else _store_dir(manifest, encoders),
        manifest,
        encoders,
        workers=config.num_workers,
        batch_size=config.batch_size,
        progress=progress,
        max_seconds=config.clip_seconds,
    )
    usable = (target >= 0) & store.present.any(-1).numpy()
    parts = _split(config, manifest, target, usable)
    device = choose_device(config.device)
    return MediaData(manifest.dataset, encoders, classes, manifest.table, target, store, parts, device)


def augmentation(config: TrainConfig, data: MediaData) -> Augment:
    """How train clips are changed."""
    return Augment(
        config.augmentation, {name: encoder.modality for name, encoder in data.encoders.items()}, config.seed
    )


def _trainable(name: str, text: str, seed: int) -> ModelEncoder:
    """The encoder of a spec; random weights are the seed's."""
    spec = Spec.parse(text)
    if spec.options.get("weights") == "random" and "seed" not in spec.options:
        spec = Spec(spec.family, spec.model, {**spec.options, "seed": str(seed)})
    encoder = build_encoder(str(spec), name)
    if not isinstance(encoder, ModelEncoder):
        raise ValueError(
            f"--encoder {name} must have weights to train, got {text!r}. Pass {name}=timm:resnet18,weights=random."
        )
    return encoder


def _manifest(config: TrainConfig) -> Manifest:
    """The clips that are meant; those without a label are left out later."""
    if config.dataset is not None:
        return read_clips_manifest(ExtractConfig(dataset=config.dataset, root=config.root))
    return read_clips_manifest(
        ExtractConfig(manifest=config.manifest, root=config.root, label_column=config.label, allow_unlabelled=True)
    )


def _split(config: TrainConfig, manifest: Manifest, target: np.ndarray, usable: np.ndarray) -> SplitRows:
    """The parts of the clips that can be used."""
    (parts,) = split_rows(
        manifest.table,
        target,
        usable,
        policy=config.split_policy,
        seed=config.split_seed,
        keep_flagged=config.keep_flagged,
    )
    return parts


def _store_dir(manifest: Manifest, encoders: Mapping[str, ModelEncoder]) -> Path:
    """Encoders that prepare clips alike share a store."""
    prepared = {name: encoder.preprocessing for name, encoder in encoders.items()}
    digest = hashlib.sha256(json.dumps([str(manifest.root), prepared], sort_keys=True).encode()).hexdigest()[:8]
    return home() / "store" / f"{manifest.dataset}-{digest}"
