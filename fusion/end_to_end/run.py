"""A joint training as an ordinary run: a cache of its z, and the folder that `amr fit` would leave.

The run's head is that of the training, and its normalization is `none`: its answers are those of the joint model, up to
the half precision of the cache. New media are embedded by the trained encoders, as by `amr extract`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from amr.common.workspace import JOINT_RUN
from amr.extract.cache.journal import Failure
from amr.extract.cache.structure import ClipTable
from amr.extract.cache.writer import Embedded, open_writer
from amr.extract.encoders import build_encoder
from amr.extract.pipeline.encode import describe
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.data.folds import read_training_data
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import MediaData
from amr.fusion.end_to_end.folder import EMBEDDINGS
from amr.fusion.end_to_end.model import EncoderModel
from amr.fusion.model import Fitted
from amr.fusion.resolve import record_of
from amr.fusion.runs.write import write_group


def write_run(folder: Path, config: TrainConfig, data: MediaData, seen: Sequence[str], fitted: Fitted) -> None:
    """Write the cache of z and the run of a joint training, whose encoders are saved already.

    Args:
        folder: Folder of the training.
        config: Options of the training.
        data: Its clips.
        seen: Modalities that have an encoder.
        fitted: The joint model.
    """
    model = fitted.model
    assert isinstance(model, EncoderModel)
    run = folder / JOINT_RUN
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    clips = data.select(np.arange(len(data.clips)))
    is_seen = torch.tensor([m in seen for m in data.encoders], device=clips.present.device)
    head, encoded = model.encoded(replace(clips, present=clips.present & is_seen))
    encoders = {m: build_encoder(f"trained:{folder / m}", m) if m in seen else data.encoders[m] for m in data.encoders}
    infos = [describe(m, encoder, "float16") for m, encoder in encoders.items()]
    table = ClipTable(data.manifest.dataset, str(data.manifest.root), data.manifest.sha256(), data.clips)
    with open_writer(folder / EMBEDDINGS, table, infos, overwrite=True) as writer:
        for i, (m, z) in enumerate(encoded.embeddings.items()):
            failures = _failures(data, m, encoders[m].modality)
            rows = Embedded(z.cpu().half().numpy(), encoded.present[:, i].cpu().numpy(), failures=failures)
            writer.write(m, 0, rows)
        writer.finalize()
    fit = fit_config(config, folder, list(data.encoders))
    of_cache = read_training_data(fit, keep_steps=False)
    record = record_of(fit, of_cache)
    record.save(run)
    (fold,) = of_cache.folds
    write_group([record], [run], of_cache.dataset, fold, replace(fitted, model=head), with_predictions=True)


def fit_config(config: TrainConfig, folder: Path, modalities: Sequence[str]) -> FitConfig:
    """Settings of the fit that the run of a joint training stands for.

    Args:
        config: Options of the training.
        folder: Folder of the training.
        modalities: All modalities, in order.
    """
    shared = {each.name: getattr(config, each.name) for each in fields(TrainingConfig)}
    return FitConfig(
        **shared
        | {
            "out": str(folder / JOINT_RUN),
            "cache": str(folder / EMBEDDINGS),
            "modalities": ",".join(modalities),
            "normalize": "none",
            "amr_optimizer": "separate",
            "amr_weight": config.regularizer_weight if config.amr_ratio else config.amr_weight,
        }
    )


def _failures(data: MediaData, name: str, modality: str) -> tuple[Failure, ...]:
    row_of = {id_: row for row, id_ in enumerate(data.clips["id"])}
    return tuple(
        Failure(row_of[each["id"]], each["id"], modality, each["reason"])
        for each in data.store.failures
        if each["modality"] == name
    )
