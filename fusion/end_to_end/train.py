"""Train encoders on clips, with the trainer and methods of heads: `amr train-encoders`.

encoders/<name>/
    config.json         options, classes, hash of the clips, versions
    metrics.json        val and test of the selected epochs: of the joint head, or of each modality
    <modality>/         encoder.json and weights.safetensors, for `amr extract --encoder NAME=trained:...`
    history.csv         one row per epoch               }
    head.safetensors    head on the encodings           } in each modality's folder
    tensorboard/        curves and test measures        } if the objective is unimodal
    checkpoint.pt       to continue from                }
    run/                the model as a run of `amr fit` }
    embeddings.h5       the cache of z of that run      }
    logs/               files of --logger csv, and ids of --logger wandb
    teachers/           uni-modal models that the method learns from, in the same layout
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from amr.common.files import checksummed, read_whole, replacing, whole_file, write_csv
from amr.common.files.lock import lock, remove_left
from amr.common.options import parse_options
from amr.common.progress import Progress
from amr.common.workspace import JOINT_RUN
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.trained import ENCODER, find_trained, save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.ratio import parse_amounts, parse_ratio
from amr.fusion.data.clips import Clips
from amr.fusion.data.warnings import SplitData
from amr.fusion.end_to_end.checkpoint import SECONDS_BETWEEN, Checkpoint, remove_checkpoints
from amr.fusion.end_to_end.config import TrainConfig, alone
from amr.fusion.end_to_end.data import MediaData, augmentation, read_media_data
from amr.fusion.end_to_end.folder import (
    HEAD,
    TEACHERS,
    TRAIN_AGAIN,
    Trained,
    TrainResult,
    begin_folder,
    is_finished,
    mark_diverged,
    read_folder,
    read_saved,
    requested,
    supersede,
    training_folder,
    write_folder,
)
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel, OneRun
from amr.fusion.end_to_end.run import all_clips, begin_run
from amr.fusion.heads import head_options
from amr.fusion.loggers.base import Sink, TrackedRun
from amr.fusion.loggers.files import LOGS
from amr.fusion.loggers.tracker import check_loggers, tracking
from amr.fusion.methods import methods
from amr.fusion.model import Fitted, FusionModel, ModelShape
from amr.fusion.resolve import check_model, method_notes, with_head, without_effect
from amr.fusion.runs.measure import Measures, measure
from amr.fusion.runs.write import history_table, target_shares, write_group
from amr.fusion.swept import check_effects
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member, Recipe
from amr.fusion.train.reporter import Reporter
from amr.fusion.train.trainer import DIVERGED, train_group

REUSE = 16  # positions of a small picture at which a weight of a convolution acts


Places = Callable[[str], Path]  # "joint" or a modality, to the folder of its run


def train_encoders(
    config: TrainConfig,
    progress: Progress | None = None,
    *,
    seconds_between: float = SECONDS_BETWEEN,
    data: MediaData | None = None,
    places: Places | None = None,
    group: str | None = None,
) -> TrainResult:
    """Train encoders on the train clips, select the epoch on val, test once, and write a folder.

    A stopped training continues from its last checkpoint if it is requested again, and a finished one if more epochs
    are requested; both end in the weights of a training that was never stopped. A finished training is read back.

    Args:
        config: Options of the training.
        progress: Listener.
        seconds_between: Least time between checkpoints.
        data: Clips of the training, with encoders of its seed; None to read them.
        places: Folder of each run; None for the folder of its model.
        group: Name of the sweep that the training belongs to, for loggers; None for a single training.

    Raises:
        ValueError: The options do not fit the clips, the folder holds something else, or a tracker cannot be used.
        FileNotFoundError: Media or weights are missing.
        Diverged: Training diverged.
        Locked: Another process trains in the folder.
    """
    progress = progress or Progress()
    ignored = without_effect(config) if config.objective == "joint" else []
    config = with_head(config)  # as it is saved
    folder = training_folder(config)
    if is_finished(folder, config):
        remove_left(folder)
        progress.note(f"{folder} is finished; pass more --epochs to continue, or --overwrite to train again")
        return read_folder(folder)
    check(config)
    check_loggers(config.logger)
    check_teachers(config)
    data = data or read_media_data(config, progress)
    seen = _seen(config, data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, "--out", "training"):
        if is_finished(folder, config):  # by another process, since then
            return read_folder(folder)
        begin_folder(folder, config, data)
        warnings = SplitData(data.clips, data.target, data.classes, [data.rows], has_folds=False).warnings()
        remarks = (*data.rows.notes, *ignored, *method_notes(config, seen))
        for text in (*remarks, *(f"warning: {each}" for each in warnings)):
            progress.note(text)  # before hours of training; they are part of the result, too
        with tracking(config.logger, folder / LOGS, group or folder.name, but="tensorboard") as sink:
            training = _Training(folder, config, data, seen, progress, seconds_between, places, sink)
            if config.objective == "joint":
                trained = {"joint": training.joint()}
            else:
                trained = {m: training.unimodal(m, folder / m, training.place(m)) for m in seen}
        unseen = [m for m in data.encoders if m not in seen]
        notes = [f"no train clip has {m}: it is treated as absent everywhere, and has no encoder" for m in unseen]
        notes += remarks
        remove_checkpoints(folder / TEACHERS)  # they are trained; before metrics.json, so that no kill leaves them
        write_folder(folder, config, seen, trained, notes, warnings)
    return read_folder(folder)


class Diverged(RuntimeError):
    """A loss or weights of a training did not stay finite."""


def check(config: TrainConfig) -> None:
    """Check a config, with the head of its method, without media.

    Raises:
        ValueError: Options cannot be combined.
    """
    names = list(config.encoders)
    if config.objective == "unimodal":
        if config.embedding_noise is not None:
            parse_amounts(config.embedding_noise, names)
        return
    if len(names) < 2:
        raise ValueError(
            f"--encoder must name two encoders or more with --objective joint, got {', '.join(names)}. "
            "Name another, or pass --objective unimodal."
        )
    method = methods[config.method]
    if not method.end_to_end:
        advice = "Pass --objective unimodal." if method.single_modality else "Choose another --method."
        able = [name for name, each in methods.items() if each.end_to_end]
        raise ValueError(
            f"--method must be able to train encoders ({', '.join(able)}), got {config.method!r}. {advice}"
        )
    if config.teachers is not None and not method.fits_unimodal:
        able = [name for name, each in methods.items() if each.fits_unimodal]
        raise ValueError(
            f"--teachers must be used with --method {' or '.join(able)}, got --method {config.method}. Leave it out."
        )
    check_model(config, names)
    check_effects(config, [config.amr_ratio], [config.amr_weight])


def check_teachers(config: TrainConfig) -> None:
    """Raise FileNotFoundError, before anything is decoded, if --teachers lacks an encoder or its classifier."""
    if config.teachers is not None:
        for name in config.encoders:
            _find_teacher(config.teachers, name)


def _find_teacher(teachers: str, modality: str) -> Path:
    """Folder of an encoder trained alone.

    Raises:
        FileNotFoundError: There is no such encoder, or no classifier beside it.
    """
    with suppress(FileNotFoundError):
        folder = find_trained(f"{teachers}/{modality}", modality)
        if (folder / HEAD).is_file():
            return folder
    raise FileNotFoundError(
        f"--teachers must be a training of --objective unimodal with an encoder {modality}, got {teachers!r}, which "
        "has none. Make one with amr train-encoders --objective unimodal, or leave --teachers out."
    )


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
        places: Places | None,
        sink: Sink | None,
    ) -> None:
        self.folder, self.config, self.data, self.seen, self.progress = folder, config, data, seen, progress
        self.seconds_between, self.sink = seconds_between, sink
        self.place: Places = places or (lambda name: (folder if name == "joint" else folder / name) / JOINT_RUN)

    def joint(self) -> Trained:
        """Train all encoders with one head, end to end."""
        c, names, folder = self.config, list(self.data.encoders), self.folder
        ratio = None if c.amr_ratio is None else parse_ratio(c.amr_ratio, names)
        method = methods[c.method]
        recipe = replace(
            self._recipe(names, c.head, c.hidden, head_options(c.head, c.head_option), c.experts),
            method=method,
            options=parse_options(method.Options, c.method_option, "--method-option", c.method),
            attributor=Attributor(
                c.attribution_output, c.attribution_pooling, c.attribution, num_points=c.attribution_steps
            ),
            amr_level=c.amr_level,
        )
        member = Member(c.seed, ratio, c.regularizer_weight)
        encoders = {m: folder / m for m in self.seen}
        return self._train(recipe, member, folder, c.method, encoders, self.place("joint"), c)

    def unimodal(self, modality: str, folder: Path, run: Path) -> Trained:
        """Train one encoder with a linear classifier."""
        recipe, member = self._recipe([modality], "concat", 0), Member(self.config.seed)
        return self._train(recipe, member, folder, modality, {modality: folder}, run, alone(self.config))

    def teacher(self, modality: str) -> Fitted:
        """Uni-modal model that a method learns from: from --teachers, or trained first; untrained without clips."""
        encoder = self.data.encoders[modality]
        if modality not in self.seen:
            return self._as_fitted(modality, encoder)
        folder = self.folder / TEACHERS / modality
        if self.config.teachers is None and not (folder / JOINT_RUN / "metrics.json").is_file():
            return self.unimodal(modality, folder, folder / JOINT_RUN).fitted
        if self.config.teachers is not None:
            folder = _find_teacher(self.config.teachers, modality)
            self._check_clips(folder.parent)
        teacher = build_encoder(f"trained:{folder}", modality)
        if (
            not isinstance(teacher, ModelEncoder)
            or teacher.preprocessing != encoder.preprocessing
            or teacher.embed_dim != encoder.embed_dim
        ):
            raise ValueError(
                f"--teachers must hold encoders with the preprocessing and embed_dim of the trained ones, got another "
                f"{modality} in {str(folder)!r}. Train them with the same --encoder, or leave --teachers out."
            )
        return self._as_fitted(modality, teacher, folder / HEAD)

    def _check_clips(self, teachers: Path) -> None:
        """Raise ValueError if teachers were trained on other clips, labels or splits."""
        saved = read_saved(teachers)
        if saved is not None and saved.get("clips_sha256") != self.data.clips_sha256():
            raise ValueError(
                f"--teachers must be trained on the same clips, labels and splits, got {str(teachers)!r} with others. "
                "Train them with the same options, or leave --teachers out."
            )

    def _as_fitted(self, modality: str, encoder: ModelEncoder, head: Path | None = None) -> Fitted:
        """An encoder in the form of a trained one, with the classifier of a file.

        Raises:
            ValueError: The file holds a classifier of other classes, or there is none.
        """
        shape = self._shape([modality], "concat", 0)
        model = EncoderModel(shape, [self.config.seed], {modality: encoder.network()})
        if head is not None:
            content = read_whole(head, "--teachers", TRAIN_AGAIN)
            with whole_file(head, "--teachers", TRAIN_AGAIN):
                weights = {name.removeprefix("head."): value[None] for name, value in load(content).items()}
            try:
                model.head.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(
                    f"--teachers must be a training of --objective unimodal on the same classes, got {str(head)!r} "
                    f"({type(error).__name__}). Leave --teachers out to train them."
                ) from error
        model = model.to(self.data.device).eval()
        return Fitted(model, torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))

    def _train(
        self,
        recipe: Recipe,
        member: Member,
        folder: Path,
        name: str,
        encoders: Mapping[str, Path],
        run: Path,
        config: TrainConfig,
    ) -> Trained:
        """Train a model, and write its files, encoders and run.

        Args:
            recipe: Recipe of the training.
            member: Seed and regularizer.
            folder: Folder of the model's files.
            name: Name of the training, for reports.
            encoders: Modality to the folder of its encoder; those without one are absent everywhere.
            run: Folder of the run.
            config: Options that the run is recorded with.
        """
        data = self.data
        checkpoint = self._checkpoint(recipe, folder, name, config)
        fitted = self._fitted(recipe, member, folder, name, checkpoint)
        supersede(self.folder, self.config, data)
        with checksummed(folder, "history.csv", HEAD):
            write_csv(folder / "history.csv", history_table(fitted, 0))
            with replacing(folder / HEAD) as partial:
                partial.write_bytes(save(_head_state(fitted.model)))
        for m, encoder in encoders.items():
            _save_encoder(data.encoders[m], fitted.model, m, encoder)
        head, z = fitted.model.encoded(all_clips(data, fitted.model.modalities, encoders))
        of_head = replace(fitted, model=head)
        record, of_cache = begin_run(run, folder, config, data, encoders, z)
        target, attributor = target_shares([record], of_head), recipe.attributor
        val, test = (_measured(head, z, rows, attributor, target) for rows in (data.rows.val, data.rows.test))
        checkpoint.end(test, fitted.history)  # before metrics.json of the run, by which a teacher is finished
        write_group([record], [run], of_cache.dataset, of_cache.folds[0], of_head, with_predictions=True)
        return Trained(fitted, val, test)

    def _checkpoint(self, recipe: Recipe, folder: Path, name: str, config: TrainConfig) -> Checkpoint:
        """Epoch callback of a model; in loggers it is named by its path from the folder of all trainings on."""
        names = list(recipe.shape.embed_dims)
        return Checkpoint(
            folder,
            config.seed,
            names,
            augmentation(config, self.data),
            Reporter(name, config.epochs, self.progress),
            self.seconds_between,
            TrackedRun(folder.relative_to(self.folder.parent).as_posix(), requested(config)),
            self.sink,
            self._clips(self.data.rows.val, names).target,
        )

    def _fitted(self, recipe: Recipe, member: Member, folder: Path, name: str, checkpoint: Checkpoint) -> Fitted:
        data = self.data
        folder.mkdir(parents=True, exist_ok=True)
        names = list(recipe.shape.embed_dims)
        networks = {m: data.encoders[m].network() for m in names}
        train, val = (self._clips(rows, names) for rows in (data.rows.train, data.rows.val))
        if len(train) == 0:
            raise RuntimeError(f"training of {name} must have a clip in train, got none. Check that its media decode.")
        hooks = EndToEndHooks(
            build=lambda shape, seeds: EncoderModel(shape, seeds, networks),
            fit_unimodal=self.teacher,
            callback=checkpoint,
            reuse=REUSE,
        )
        devices = [data.device] if data.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            fitted = train_group(recipe, [member], replace(train, augment=checkpoint.augment), val, hooks=hooks)
        if fitted.diverged.any():
            if not any((place / ENCODER).is_file() for place in (folder, *(folder / m for m in names))):
                mark_diverged(self.folder)  # there is no encoder of fewer epochs
            raise Diverged(f"training of {name} must stay finite, got a loss or weights that are not. {DIVERGED}")
        fitted.model.eval()
        return fitted

    def _clips(self, rows: np.ndarray, names: Sequence[str]) -> MediaClips:
        """Clips of a split; if one modality is trained, those that have it. What no train clip has is absent."""
        clips = self.data.select(rows)
        seen = torch.tensor([m in self.seen for m in self.data.encoders], device=clips.present.device)
        clips = replace(clips, present=clips.present & seen)
        return clips if len(names) > 1 else clips.only(names[0])

    def _recipe(
        self, names: Sequence[str], head: str, hidden: int, options_of_head: Any = None, experts: bool = False
    ) -> Recipe:
        """Recipe of uni-modal training; that of joint training adds its method."""
        c = self.config
        text = "0" if c.embedding_noise is None else c.embedding_noise
        noise = dict(zip(self.data.encoders, parse_amounts(text, list(self.data.encoders)), strict=True))
        return Recipe(
            shape=self._shape(names, head, hidden, options_of_head, experts),
            method=methods["unimodal"],
            options=None,
            attributor=Attributor(),
            epochs=c.epochs,
            batch_size=c.batch_size,
            optimizer=c.optimizer,
            lr=c.lr,
            weight_decay=c.weight_decay,
            amr_optimizer=c.amr_optimizer,
            select=c.select,
            lr_step=(c.lr_step, c.lr_factor) if c.lr_step > 0 else None,
            momentum=c.momentum,
            patience=c.patience,
            embedding_noise=tuple(noise[m] for m in names),
        )

    def _shape(
        self, names: Sequence[str], head: str, hidden: int, options: Any = None, experts: bool = False
    ) -> ModelShape:
        return ModelShape.of(
            {m: self.data.encoders[m].embed_dim for m in names},
            len(self.data.classes),
            head=head,
            hidden=hidden,
            adapter="none",
            adapter_dim=1,
            options=options,
            experts=experts,
        )


def _measured(head: FusionModel, z: Clips, rows: np.ndarray, attributor: Attributor, target: Tensor) -> Measures | None:
    """Measures of a split, from z of all clips; with one modality, of the clips that have it."""
    clips = z.take(torch.from_numpy(rows).to(z.target.device))
    clips = clips if len(head.modalities) > 1 else clips.take(clips.present[:, 0])
    measured = measure(head, clips, attributor, target)
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
