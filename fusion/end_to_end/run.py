"""A trained model as an ordinary run: a cache of its z, and the folder that `amr fit` would leave.

The run's head is that of the training, and its normalization is `none`: its answers are those of the trained model, up
to the half precision of the cache. New media are embedded by the trained encoders, as by `amr extract`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from amr.common.workspace import EMBEDDINGS
from amr.extract.cache.journal import Failure
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, open_writer
from amr.extract.encoders import build_encoder
from amr.extract.pipeline.encode import describe
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import TrainingData, read_training_data
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import MediaData
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.resolve import record_of, with_head
from amr.fusion.runs.record import RunRecord


def begin_run(
    run: Path, folder: Path, config: TrainConfig, data: MediaData, encoders: Mapping[str, Path], encoded: Clips
) -> tuple[RunRecord, TrainingData]:
    """Write the cache of z and the record of the run of a trained model, whose encoders are saved already.

    Args:
        run: Folder of the run.
        folder: Folder of the cache.
        config: Options of the training.
        data: Its clips.
        encoders: Modality to the folder of its encoder; those without one are absent everywhere.
        encoded: z of all clips, in the order of the manifest.

    Returns:
        Record of the run, and the clips of its cache, in one fold.
    """
    modalities = tuple(encoded.embeddings)
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    built = {m: build_encoder(f"trained:{encoders[m]}", m) if m in encoders else data.encoders[m] for m in modalities}
    fits_half = all(z.abs().max() <= torch.finfo(torch.float16).max for z in encoded.embeddings.values())
    infos = [describe(m, encoder, "float16" if fits_half else "float32") for m, encoder in built.items()]
    clips = _with_splits(data, config.split_policy)
    table = ClipTable(data.manifest.dataset, str(data.manifest.root), data.manifest.sha256(), clips)
    with open_writer(folder / EMBEDDINGS, table, infos, overwrite=True) as writer:
        for i, (m, z) in enumerate(encoded.embeddings.items()):
            failures = _failures(data, built[m].modality)
            rows = Embedded(
                z.cpu().to(torch.float16 if fits_half else torch.float32).numpy(),
                encoded.present[:, i].cpu().numpy(),
                failures=failures,
            )
            writer.write(m, 0, rows)
        writer.finalize()
    fit = fit_config(config, run, folder, modalities)
    of_cache = read_training_data(fit, keep_steps=False)
    record = record_of(fit, of_cache)
    record = replace(record, notes=tuple(dict.fromkeys([*record.notes, *data.rows.notes])))
    record.save(run)
    return record, of_cache


def fit_config(config: TrainConfig, run: Path, folder: Path, modalities: tuple[str, ...]) -> FitConfig:
    """Settings of the fit that the run of a trained model stands for.

    Args:
        config: Options of the training.
        run: Folder of the run.
        folder: Folder of the cache.
        modalities: Modalities of the model, in order.
    """
    shared = {each.name: getattr(config, each.name) for each in fields(TrainingConfig)}
    of_model = {
        "method": config.method if config.objective == "joint" else "unimodal",
        "out": str(run),
        "cache": str(folder / EMBEDDINGS),
        "modalities": ",".join(modalities),
        "normalize": "none",
        "amr_weight": config.regularizer_weight if config.amr_ratio else config.amr_weight,
        "recipe": config.recipe if config.objective == "joint" else None,
        "momentum": config.momentum if config.optimizer == "sgd" else None,
        "lr_factor": None if config.lr_step == 0 else config.lr_factor,
    }
    return with_head(FitConfig(**shared | of_model))


def _with_splits(data: MediaData, policy: str) -> pd.DataFrame:
    """Table of the clips with the splits of the training, which a run of fewer modalities must not divide anew."""
    split = np.full(len(data.clips), "", dtype=object)
    for name in ("train", "val", "test"):
        split[getattr(data.rows, name)] = name
    return data.clips.assign(**{"split" if policy == "default" else f"split_{policy}": split})


def all_clips(data: MediaData, modalities: tuple[str, ...], encoders: Mapping[str, Path]) -> MediaClips:
    """All clips of the manifest, with some modalities; those without an encoder are absent."""
    clips = data.select(np.arange(len(data.clips)))
    columns = [list(data.encoders).index(m) for m in modalities]
    present = clips.present[:, columns].clone()
    for i, m in enumerate(modalities):
        present[:, i] &= m in encoders
    return replace(clips, embeddings={m: clips.embeddings[m] for m in modalities}, present=present)


def _failures(data: MediaData, modality: str) -> tuple[Failure, ...]:
    row_of = {id_: row for row, id_ in enumerate(data.clips["id"])}
    return tuple(
        Failure(row_of[each["id"]], each["id"], modality, each["reason"])
        for each in data.store.failures
        if each["modality"] == modality
    )
