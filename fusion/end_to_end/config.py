"""Options of `amr train-encoders`: defaults, help, checks, and the saved record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

from amr.common.options import (
    DATA,
    MODEL,
    OUTPUT,
    REGULARIZER,
    SOURCE,
    SPEED,
    TRAINING,
    check_options,
    flag,
    option,
    parse_named,
)
from amr.common.workspace import JOINT_RUN
from amr.extract.config import CLIP_TIMEOUT, CLIP_TIMEOUT_HELP, MAX_CLIP_TIMEOUT, WORKERS_HELP, check_clips
from amr.fusion.choices import ALL, AMR_OPTIMIZERS, MOMENTUM, own_weight
from amr.fusion.config import TrainingConfig
from amr.fusion.end_to_end.presets import Preset, preset
from amr.fusion.loggers.files import LOGS, TENSORBOARD
from amr.fusion.recipes.published import check_recipe
from amr.fusion.swept import AMR_SETTINGS, SWEPT, check_effects, each_value, parse_lists, swept_values

OBJECTIVES = ("unimodal", "joint")
ENCODER_OPTIMIZERS = ("sgd", "adam", "adamw")
RESERVED = ("joint", "teachers", TENSORBOARD, LOGS, JOINT_RUN)  # names with another meaning in the folder of a training
BY_PRESET = "by default the preset's, off with --encoder"


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the augmentation; by default none.

    Args:
        time_mask: Longest part of a sound's time that is masked, from 0 to 1.
        frequency_mask: Widest part of a sound's frequencies that is masked, from 0 to 1.
        shift: Largest shift of sound in time, and of frames in the picture, as a part of their size.
        flip: Whether to mirror half of the video clips.
        resized_crop: Whether to show a random part of the frames, resized to the whole picture.
        time_crop: Part of a sound's time that is shown, above 0; 1: all of it.

    Raises:
        ValueError: A fraction is outside 0 to 1.
    """

    time_mask: float = option(0.0, "Longest part of a sound's time that is masked.", least=0, most=1)
    frequency_mask: float = option(0.0, "Widest part of a sound's frequencies that is masked.", least=0, most=1)
    shift: float = option(0.0, "Largest shift of sound and frames, as a part of their size.", least=0, most=1)
    flip: bool = option(False, "Mirror half of the clips; not if left and right matter for the label.")
    resized_crop: bool = option(False, "Show a random part of the frames, resized to the whole picture.")
    time_crop: float = option(1.0, "Part of a sound's time that is shown, at a random position.", above=0, most=1)

    def __post_init__(self) -> None:
        """Check the fractions."""
        check_options(self)


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """One training of encoders: its clips, encoders, objective and length.

    The defaults are the field's from-scratch setting: SGD with momentum .9, learning rate 1e-3, weight decay 1e-4,
    batches of 64, a tenth of the learning rate after 70 epochs (Peng et al. 2022).

    Raises:
        ValueError: An option is invalid for every dataset.
    """

    epochs: int = option(100, "Number of passes over the training clips, at most.", least=1, panel=TRAINING)
    optimizer: str = option("sgd", "Optimizer: sgd, adam or adamw.", choices=ENCODER_OPTIMIZERS, panel=TRAINING)
    momentum: float = option(MOMENTUM, "Momentum of --optimizer sgd.", least=0, panel=TRAINING, since="0.2")
    lr: float = option(1e-3, "Learning rate.", above=0, panel=TRAINING)
    weight_decay: float = option(1e-4, "Weight decay.", least=0, panel=TRAINING)
    amr_optimizer: str = option(
        "separate",  # section 4 of the paper
        "separate: a second optimizer on R only; shared: one optimizer on task loss + weight * R.",
        choices=AMR_OPTIMIZERS,
        panel=REGULARIZER,
    )
    embedding_noise: str | None = option(
        None,
        "Gaussian noise on encodings z in training, in deviations over the batch: 1, or audio=2:video=0.",
        panel=TRAINING,
        separator=":",
        since="0.2",
    )
    dataset: str | None = option(None, "Dataset to train on; amr datasets lists them.", panel=SOURCE)
    manifest: str | None = option(None, "CSV of your own clips, instead of a dataset.", panel=SOURCE)
    root: str | None = option(
        None, "Folder of the media; by default data/DATASET, or the folder of the CSV.", panel=SOURCE
    )
    encoder: tuple[str, ...] = option(
        (),
        "NAME=SPEC: name of an embedding and the encoder to train; amr encoders lists them. Repeatable.",
        panel=SOURCE,
    )
    preset: str | None = option(
        None,
        "Ready-made encoders and augmentation: from-scratch (default), ResNet-18 on sound and frames, as published for "
        "the dataset.",
        choices=("from-scratch",),
        panel=SOURCE,
    )
    objective: str = option(
        "unimodal",
        "unimodal: each encoder with its own classifier; joint: all encoders with one head.",
        choices=OBJECTIVES,
        panel=SOURCE,
    )
    teachers: str | None = option(
        None,
        "Folder of a unimodal training with the same encoders, for methods that learn from uni-modal models (umt, ume, "
        "gge); by default they are trained.",
        panel=TRAINING,
    )
    patience: int | None = option(
        None, "Stop after this many epochs without a better one on val; by default never.", least=1, panel=TRAINING
    )
    lr_step: int = option(
        70, "Epochs after which the learning rate is multiplied by --lr-factor; 0: never.", least=0, panel=TRAINING
    )
    lr_factor: float = option(0.1, "Factor of --lr-step.", least=0, most=1, panel=TRAINING)
    time_mask: float = option(
        AugmentConfig.time_mask,
        "Augmentation of sound: longest part of the time that is masked.",
        least=0,
        most=1,
        panel=TRAINING,
    )
    frequency_mask: float = option(
        AugmentConfig.frequency_mask,
        "Augmentation of sound: widest part of the frequencies that is masked.",
        least=0,
        most=1,
        panel=TRAINING,
    )
    shift: float = option(
        AugmentConfig.shift,
        "Augmentation: largest shift of sound and frames, as a part of their size.",
        least=0,
        most=1,
        panel=TRAINING,
    )
    flip: bool | None = option(
        None,
        f"Augmentation: mirror half of the clips, if left and right do not matter for the label; {BY_PRESET}.",
        panel=TRAINING,
    )
    resized_crop: bool | None = option(
        None,
        f"Augmentation: show a random part of the frames, resized to the whole picture; {BY_PRESET}.",
        since="0.2",
        panel=TRAINING,
    )
    time_crop: float | None = option(
        None,
        "Augmentation of sound: part of the time that is shown, at a random position, such as 0.5 for 5 s of 10; "
        f"{BY_PRESET}.",
        above=0,
        most=1,
        since="0.2",
        panel=TRAINING,
    )
    clip_seconds: float = option(
        10.0, "Length to which waveforms are cut; shorter ones keep theirs.", least=0.1, most=3600, panel=DATA
    )
    store: str | None = option(None, "Folder of the decoded clips; by default in the workspace's store/.", panel=OUTPUT)
    workers: int | None = option(None, WORKERS_HELP, least=0, panel=SPEED)
    clip_timeout: float = option(
        CLIP_TIMEOUT, CLIP_TIMEOUT_HELP, above=0, most=MAX_CLIP_TIMEOUT, panel=SPEED, since="0.2"
    )
    overwrite: bool = option(
        False,
        "Start over if the folder already holds a training; if it holds a sweep, replace one of other settings.",
        panel=OUTPUT,
    )

    def __post_init__(self) -> None:
        """Check what can be checked without the clips."""
        check_clips("amr train-encoders", self.dataset, self.manifest)
        super().__post_init__()
        if self.encoder and self.preset is not None:
            raise ValueError(
                f"--preset must be used without --encoder, got --preset {self.preset}. Leave one of them out."
            )
        if self.patience is not None and self.select == "last":
            raise ValueError(
                f"--patience must be left out with --select last, got {self.patience}. Leave one of them out."
            )
        self._check_objective()
        for name in self.encoders:
            if "." in name or name in RESERVED:
                raise ValueError(
                    f"--encoder must be NAME=SPEC with a NAME without dots, and none of {', '.join(RESERVED)}, "
                    f"got {name!r}. Pass audio={self.encoders[name]}."
                )

    def _check_objective(self) -> None:
        for each in sorted(fields(self), key=lambda each: each.name != "recipe"):  # which others follow from
            value = getattr(self, each.name)
            shown = " ".join(value) if isinstance(value, tuple) else value
            of_joint = each.metadata["panel"] in (MODEL, REGULARIZER) or each.name == "teachers"
            unset = (each.default, own_weight(self.attribution)) if each.name == "amr_weight" else (each.default,)
            if self.objective == "unimodal" and of_joint and value not in unset:
                raise ValueError(
                    f"{flag(each.name)} must be used with --objective joint, got {shown} with unimodal. "
                    "Pass --objective joint, or leave it out."
                )

    @property
    def encoders(self) -> Mapping[str, str]:
        """Embedding name to encoder spec."""
        own = parse_named(self.encoder, "--encoder", "SPEC", "audio=timm:resnet18,weights=random")
        return own or preset(self.dataset).encoders

    @property
    def augmentation(self) -> AugmentConfig:
        """Strengths of the augmentation of train clips."""
        default: Preset | AugmentConfig = AugmentConfig() if self.encoder else preset(self.dataset)
        return AugmentConfig(
            time_mask=self.time_mask,
            frequency_mask=self.frequency_mask,
            shift=self.shift,
            flip=default.flip if self.flip is None else self.flip,
            resized_crop=default.resized_crop if self.resized_crop is None else self.resized_crop,
            time_crop=default.time_crop if self.time_crop is None else self.time_crop,
        )

    def resolved(self) -> TrainConfig:
        """The same training with the values of its preset, which no later change of the preset alters."""
        return replace(
            self,
            encoder=tuple(f"{name}={spec}" for name, spec in self.encoders.items()),
            preset=None,
            **asdict(self.augmentation),
        )


# Options of `amr train-encoders` that take a list; the last ones vary fastest.
TRAIN_SWEPT: dict[str, Callable[[str], Any]] = {
    name: SWEPT[name] for name in ("method", "amr_ratio", "attribution", "seed")
}


@dataclass(frozen=True)
class TrainSweepConfig:
    """Settings of many trainings on the same clips: every combination of the swept values.

    Args:
        base: Settings that are not swept; those that are go back to their defaults here.
        method, amr_ratio, attribution, seed: Value or values of each setting; "none" in `amr_ratio` is no AMR, and
            "all" as `method` every one that can run. Left out, the value of `base`.

    Raises:
        ValueError: A training has an invalid setting.
    """

    base: TrainConfig
    method: tuple[str, ...] = ()
    amr_ratio: tuple[str | None, ...] = ()
    attribution: tuple[str, ...] = ()
    seed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the values of the base, and check the config of each training."""
        for name in TRAIN_SWEPT:
            object.__setattr__(self, name, swept_values(self.base, name, getattr(self, name)))
        object.__setattr__(
            self, "base", replace(self.base, **{name: getattr(TrainConfig, name) for name in TRAIN_SWEPT})
        )
        check_recipe(self.base.recipe, self.method)
        check_effects(self.base, self.amr_ratio, [self.base.amr_weight])
        if len(self.attribution) > 1 and all(ratio is None for ratio in self.amr_ratio):
            raise ValueError(
                f"--attribution must be one if there is no --amr-ratio, got {', '.join(self.attribution)}. "
                "Add --amr-ratio none,1:1, or leave it out."
            )
        self.members()

    @classmethod
    def parse(cls, *, seeds: int | None, swept: Mapping[str, str | None], **fixed: Any) -> TrainSweepConfig:
        """Parse comma lists as on the command line.

        Args:
            seeds: Number N of seeds, 0 to N - 1; replaces `seed`.
            swept: Swept field to its comma list; None for the default.
            fixed: Other fields of TrainConfig.
        """
        return cls(TrainConfig(**fixed), **parse_lists(TRAIN_SWEPT, swept, seeds))

    @property
    def is_single(self) -> bool:
        """Whether it is one training; "all" methods are many."""
        return self.method != (ALL,) and all(len(getattr(self, name)) == 1 for name in TRAIN_SWEPT)

    def members(self) -> list[TrainConfig]:
        """Config of each training. Settings of AMR are varied only for trainings with a ratio."""
        configs = []
        for values in product(*(each_value(self, name) for name in TRAIN_SWEPT)):
            config = replace(self.base, **dict(zip(TRAIN_SWEPT, values, strict=True)))
            configs.append(config if config.amr_ratio is not None or self.is_single else without_amr(config))
        return list(dict.fromkeys(configs))


def alone(config: TrainConfig) -> TrainConfig:
    """The config of uni-modal training with the same clips, encoders and length."""
    of_model = {each.name for each in fields(config) if each.metadata["panel"] in (MODEL, REGULARIZER)}
    return replace(
        config, objective="unimodal", teachers=None, **{name: getattr(TrainConfig, name) for name in of_model}
    )


def without_amr(config: TrainConfig) -> TrainConfig:
    """The config without a regularizer, and without its settings."""
    names = ("amr_ratio", "attribution", *AMR_SETTINGS)
    return replace(config, **{name: getattr(TrainConfig, name) for name in names})
