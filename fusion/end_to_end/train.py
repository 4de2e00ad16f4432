"""Train encoders on clips, with the trainer and methods of heads: `amr train-encoders`.

encoders/<name>/
    config.json         options, classes, hash of the clips, versions
    metrics.json        val and test of the selected epochs: of the joint head, or of each modality
    <modality>/         encoder.json and weights.safetensors, for `amr extract --encoder NAME=trained:...`
    history.csv         one row per epoch        } in each modality's folder
    head.safetensors    head on the encodings    } if the objective is unimodal
    tensorboard/        curves                   }
    checkpoint.pt       to continue from         }
    run/                of a joint training: its head as a run of `amr fit`
    embeddings.h5       of a joint training: the cache of its z that the run refers to
    teachers/           encoders that --method umt learns from, in the same layout
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from amr.common.files import replacing, write_csv
from amr.common.options import parse_options
from amr.common.progress import Progress
from amr.extract.cache.lock import lock
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.trained import ENCODER, save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.data.clips import Clips
from amr.fusion.data.warnings import SplitData
from amr.fusion.end_to_end.checkpoint import CHECKPOINT, SECONDS_BETWEEN, Checkpoint
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import MediaData, augmentation, read_media_data
from amr.fusion.end_to_end.folder import (
    TEACHERS,
    Trained,
    TrainResult,
    begin_folder,
    is_finished,
    mark_diverged,
    read_folder,
    supersede,
    training_folder,
    write_folder,
)
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel, OneRun
from amr.fusion.end_to_end.run import write_run
from amr.fusion.heads import head_options, heads
from amr.fusion.methods import methods
from amr.fusion.model import Fitted, FusionModel, ModelShape
from amr.fusion.resolve import check_attribution
from amr.fusion.runs.measure import Measures, measure
from amr.fusion.runs.write import history_table
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe, ratios
from amr.fusion.train.reporter import Reporter
from amr.fusion.train.trainer import DIVERGED, train_group

REUSE = 16  # positions of a small picture at which a weight of a convolution acts


def train_encoders(
    config: TrainConfig, progress: Progress | None = None, *, seconds_between: float = SECONDS_BETWEEN
) -> TrainResult:
    """Train encoders on the train clips, select the epoch on val, test once, and write a folder.

    A stopped training continues from its last checkpoint if it is requested again, and a finished one if more epochs
    are requested; both end in the weights of a training that was never stopped. A finished training is read back.

    Args:
        config: Options of the training.
        progress: Listener.
        seconds_between: Least time between checkpoints.

    Raises:
        ValueError: The options do not fit the clips, or the folder holds something else.
        FileNotFoundError: Media or weights are missing.
        RuntimeError: Training diverged.
    """
    progress = progress or Progress()
    folder = training_folder(config)
    if is_finished(folder, config):
        progress.note(f"{folder} is finished; pass more --epochs to continue, or --overwrite to train again")
        return read_folder(folder)
    _check(config)
    data = read_media_data(config, progress)
    seen = _seen(config, data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, "--out", "training"):
        begin_folder(folder, config, data)
        training = _Training(folder, config, data, seen, progress, seconds_between)
        if config.objective == "joint":
            trained = {"joint": training.joint(folder)}
            write_run(folder, config, data, seen, trained["joint"].fitted)
        else:
            trained = {m: training.unimodal(m, folder / m) for m in seen}
        unseen = [m for m in data.encoders if m not in seen]
        notes = [f"no train clip has {m}: it is treated as absent everywhere, and has no encoder" for m in unseen]
        notes += [*data.rows.notes, *methods[config.method].notes(config.optimizer)]
        warnings = SplitData(data.clips, data.target, data.classes, [data.rows], has_folds=False).warnings()
        write_folder(folder, config, seen, trained, notes, warnings)
        for file in (folder / TEACHERS).rglob(CHECKPOINT):
            file.unlink()
    return read_folder(folder)


class _Training:
    """Trainings of one request, each in its own folder below that of the request."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        data: MediaData,
        seen: Sequence[str],
        progress: Progress,
        seconds_between: float,
    ) -> None:
        self.folder, self.config, self.data, self.seen, self.progress = folder, config, data, seen, progress
        self.seconds_between = seconds_between

    def joint(self, folder: Path) -> Trained:
        """Train all encoders with one head, end to end."""
        c, names = self.config, list(self.data.encoders)
        ratio = None if c.amr_ratio is None else parse_ratio(c.amr_ratio, names)
        method = methods[c.method]
        options = parse_options(method.Options, c.method_option, "--method-option")
        recipe = replace(
            self._recipe(names, c.method, c.head, c.hidden, options, head_options(c.head, c.head_option)),
            attributor=Attributor(
                c.attribution_output, c.attribution_pooling, c.attribution, num_points=c.attribution_steps
            ),
            amr_level=c.amr_level,
        )
        trained = self._train(recipe, Member(c.seed, ratio, c.regularizer_weight), folder, c.method)
        for m in self.seen:
            _save_encoder(self.data.encoders[m], trained.fitted.model, m, folder / m)
        return trained

    def unimodal(self, modality: str, folder: Path) -> Trained:
        """Train one encoder with a linear classifier."""
        recipe = self._recipe([modality], "unimodal", "concat", 0, None)
        trained = self._train(recipe, Member(self.config.seed), folder, modality)
        _save_encoder(self.data.encoders[modality], trained.fitted.model, modality, folder)
        return trained

    def teacher(self, modality: str, folder: Path) -> Fitted:
        """Uni-modal encoder that a method learns from: from --teachers, or trained first; untrained without clips."""
        if modality not in self.seen:
            return self._as_fitted(modality, self.data.encoders[modality])
        teacher = None if self.config.teachers is None else f"{self.config.teachers}/{modality}"
        if teacher is None and not (folder / ENCODER).is_file():
            return self.unimodal(modality, folder).fitted
        encoder = build_encoder(f"trained:{teacher or folder}", modality)
        student = self.data.encoders[modality]
        if (
            not isinstance(encoder, ModelEncoder)
            or encoder.preprocessing != student.preprocessing
            or encoder.embed_dim != student.embed_dim
        ):
            raise ValueError(
                f"--teachers must hold encoders with the preprocessing and embed_dim of the trained ones, got another "
                f"{modality} in {teacher!r}. Train them with the same --encoder, or leave --teachers out."
            )
        return self._as_fitted(modality, encoder)

    def _as_fitted(self, modality: str, encoder: ModelEncoder) -> Fitted:
        """An encoder in the form of a trained one."""
        shape = self._shape([modality], "concat", 0)
        model = EncoderModel(shape, [self.config.seed], {modality: encoder.network()}).to(self.data.device)
        return Fitted(model.eval(), torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))

    def _train(self, recipe: Recipe, member: Member, folder: Path, name: str) -> Trained:
        data, config = self.data, self.config
        folder.mkdir(parents=True, exist_ok=True)
        names = list(recipe.shape.embed_dims)
        augment = augmentation(config, data)
        reporter = Reporter(name, config.epochs, self.progress)
        callback = Checkpoint(folder, config.seed, names, augment, reporter, self.seconds_between)
        networks = {m: data.encoders[m].network() for m in names}
        train, val, test = (self._clips(rows, names) for rows in (data.rows.train, data.rows.val, data.rows.test))
        if len(train) == 0:
            raise RuntimeError(f"training of {name} must have a clip in train, got none. Check that its media decode.")
        hooks = EndToEndHooks(
            build=lambda shape, seeds: EncoderModel(shape, seeds, networks),
            fit_unimodal=lambda m: self.teacher(m, folder / TEACHERS / m),
            callback=callback,
            reuse=REUSE,
        )
        devices = [data.device] if data.device.type == "cuda" else []
        with torch.random.fork_rng(devices), closing(callback):
            fitted = train_group(recipe, [member], replace(train, augment=augment), val, hooks=hooks)
        if fitted.diverged.any():
            if not any((place / ENCODER).is_file() for place in (folder, *(folder / m for m in names))):
                mark_diverged(self.folder)  # there is no encoder of fewer epochs
            raise RuntimeError(f"training of {name} must stay finite, got a loss or weights that are not. {DIVERGED}")
        fitted.model.eval()
        supersede(self.folder, config, data)
        write_csv(folder / "history.csv", history_table(fitted, 0))
        with replacing(folder / "head.safetensors") as partial:
            save_file(_head_state(fitted.model), partial)
        target = ratios([member], fitted.model)
        return Trained(fitted, *(_measured(fitted.model, clips, recipe.attributor, target) for clips in (val, test)))

    def _clips(self, rows: np.ndarray, names: Sequence[str]) -> MediaClips:
        """Clips of a split; if one modality is trained, those that have it. What no train clip has is absent."""
        clips = self.data.select(rows)
        seen = torch.tensor([m in self.seen for m in self.data.encoders], device=clips.present.device)
        clips = replace(clips, present=clips.present & seen)
        return clips if len(names) > 1 else clips.only(names[0])

    def _recipe(
        self,
        names: Sequence[str],
        method: str,
        head: str,
        hidden: int,
        options: Any,
        options_of_head: Any = None,
    ) -> Recipe:
        c = self.config
        return Recipe(
            shape=self._shape(names, head, hidden, options_of_head),
            method=methods[method],
            options=options,
            attributor=Attributor(),
            epochs=c.epochs,
            batch_size=c.batch_size,
            optimizer=c.optimizer,
            lr=c.lr,
            weight_decay=c.weight_decay,
            amr_optimizer="separate",  # R trains the head with its own optimizer (paper, section 4)
            select=c.select,
            lr_step=(c.lr_step, c.lr_factor) if c.lr_step > 0 else None,
            patience=c.patience,
        )

    def _shape(self, names: Sequence[str], head: str, hidden: int, options: Any = None) -> ModelShape:
        dims = {m: self.data.encoders[m].embed_dim for m in names}
        return ModelShape.of(
            dims, len(self.data.classes), head=head, hidden=hidden, adapter="none", adapter_dim=1, options=options
        )


def _measured(model: FusionModel, clips: Clips, attributor: Attributor, target: Tensor) -> Measures | None:
    """Measures of a split; each clip is encoded once."""
    if len(clips) == 0:
        return None
    measured = measure(*model.encoded(clips), attributor, target)
    return None if measured is None else measured[0]


def _save_encoder(encoder: ModelEncoder, model: FusionModel, modality: str, folder: Path) -> None:
    """Write a trained encoder; in `network()`, the encoder's own weights are named `model.<name>`."""
    adapter = model.adapters[modality]
    assert isinstance(adapter, OneRun)
    weights = {name.removeprefix("model."): value for name, value in adapter.weights().items()}
    own = encoder.model.state_dict()
    # not strict: tied weights have one of their names here, and some buffers are in no state dict
    encoder.model.load_state_dict({name: value for name, value in weights.items() if name in own}, strict=False)
    save_trained(folder, encoder, encoder.spec)


def _head_state(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.run_state(0).items() if name.startswith("head.")}


def _seen(config: TrainConfig, data: MediaData) -> list[str]:
    """Modalities that a train clip has.

    Raises:
        ValueError: Training is joint, and there are fewer than two.
    """
    any_clip = data.select(data.rows.train).present.any(0).tolist()
    seen = [m for m, is_seen in zip(data.encoders, any_clip, strict=True) if is_seen]
    if config.objective == "joint" and len(seen) < 2:
        raise ValueError(
            f"--encoder must name two encoders with clips in train for --objective joint, got clips for "
            f"{', '.join(seen)} only. Pass --objective unimodal, or add media."
        )
    return seen


def _check(config: TrainConfig) -> None:
    """Check options that depend on the encoders' names, before anything is decoded."""
    names = list(config.encoders)
    if config.objective == "unimodal":
        return
    if len(names) < 2:
        raise ValueError(
            f"--encoder must name two encoders or more with --objective joint, got {', '.join(names)}. "
            "Name another, or pass --objective unimodal."
        )
    method = methods[config.method]
    if not method.end_to_end:
        able = [name for name, each in methods.items() if each.end_to_end]
        raise ValueError(
            f"--method must be able to train encoders ({', '.join(able)}), got {config.method!r}. "
            "Pass one of those; the others train heads with amr fit."
        )
    heads[config.head].check(config.hidden, names, head_options(config.head, config.head_option))
    parse_options(method.Options, config.method_option, "--method-option")
    check_attribution(config)
    if config.amr_ratio is not None:
        parse_ratio(config.amr_ratio, names, name="--amr-ratio")
