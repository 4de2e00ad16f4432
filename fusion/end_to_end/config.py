"""What a training of encoders is asked to do: the defaults, the help of `amr train-encoders` and its saved record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amr.common.registry import unknown
from amr.extract.config import DEVICES, available_cores, check_source, option, parse_named

OBJECTIVES = ("unimodal", "joint")
METHODS = ("naive", "dropout", "modality-dropout", "ogm-ge", "ogm", "umt")
OPTIMIZERS = ("sgd", "adamw")
TAKEN = ("joint", "teachers", "tensorboard")  # a training's folder has a meaning for these
# Peng et al. 2022 (OGM-GE) on CREMA-D; their SGD, batch size and step decay are the defaults below
FROM_SCRATCH = {
    "audio": "timm:resnet18,picture=spectrogram,channels=1,size=257x188,weights=random",
    "video": "timm:resnet18,frames=3,size=224,weights=random",
}


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly clips are changed; 0 and False: not at all.

    Args:
        time_mask: longest part of a sound's time that is masked, from 0 to 1.
        frequency_mask: widest part of a sound's frequencies that is masked, from 0 to 1.
        shift: sound moves in time, and frames in the picture, by up to this part of their size.
        flip: mirror half of the video clips.

    Raises:
        ValueError: a fraction that is none.
    """

    time_mask: float = 0.0
    frequency_mask: float = 0.0
    shift: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        """Check the fractions."""
        for name in ("time_mask", "frequency_mask", "shift"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be from 0 to 1, got {value}. "
                    f"Pass --{name.replace('_', '-')} 0.1, or leave it out."
                )


@dataclass(frozen=True)
class TrainConfig:
    """One training of encoders: on which clips, which encoders, by which objective, how long.

    The defaults are the field's from-scratch setting: SGD with momentum .9, learning rate 1e-3, weight decay 1e-4,
    batches of 64, a tenth of the learning rate after 70 epochs (Peng et al. 2022).

    Raises:
        ValueError: a value that no dataset could make right.
    """

    dataset: str | None = option(None, "Dataset to train on; amr datasets lists them.")
    manifest: str | None = option(None, "CSV of your own clips, instead of a dataset.")
    root: str | None = option(None, "Folder of the media; by default data/DATASET, or the folder of the CSV.")
    encoder: tuple[str, ...] = option(
        (), "NAME=SPEC: an embedding's name and the encoder that is trained, see amr encoders. Repeatable."
    )
    preset: str | None = option(None, "Encoders by name: from-scratch (the default), ResNet-18 on sound and frames.")
    objective: str = option("unimodal", "unimodal: each encoder with a classifier of its own; joint: with one head.")
    method: str = option("naive", f"How joint training treats the modalities: {', '.join(METHODS)}.")
    method_option: tuple[str, ...] = option((), "KEY=VALUE for the method; amr methods lists them. Repeatable.")
    head: str = option("concat", "Fusion head of joint training; amr heads lists them.")
    hidden: int = option(0, "Units of the head's hidden layer; 0: a linear head.")
    teachers: str | None = option(
        None, "Folder of a unimodal training with the same encoders, for --method umt; by default they are trained."
    )
    amr_ratio: str | None = option(
        None, "Shares to pull the head of joint training towards, in the order of --encoder, such as 1:1."
    )
    amr_weight: float = option(1.0, "Weight of the attribution regularizer, on its own optimizer's learning rate.")
    label: str = option("label", "Column of the clips that is predicted.")
    split_policy: str = option("default", "Column split_NAME to take the parts from, instead of split.")
    split_seed: int = option(0, "Seed of a carved validation part.")
    keep_flagged: bool = option(False, "Train on clips that the manifest flags, too.")
    epochs: int = option(100, "Passes over the training clips, at most.")
    patience: int | None = option(None, "Stop after so many epochs without a better one on val; by default never.")
    batch_size: int = option(64, "Clips in a batch.")
    optimizer: str = option("sgd", "sgd (momentum .9) or adamw.")
    lr: float = option(1e-3, "Learning rate.")
    weight_decay: float = option(1e-4, "Weight decay.")
    lr_step: int = option(70, "Epochs after which the learning rate is multiplied by --lr-factor; 0: never.")
    lr_factor: float = option(0.1, "See --lr-step.")
    select: str = option("accuracy", "Which epoch is kept, by val: accuracy, loss, or last (none is chosen).")
    time_mask: float = option(
        AugmentConfig.time_mask, "Augmentation of sound: the longest part of the time that is masked."
    )
    frequency_mask: float = option(
        AugmentConfig.frequency_mask, "Augmentation of sound: the widest part of the frequencies that is masked."
    )
    shift: float = option(
        AugmentConfig.shift, "Augmentation: sound and frames are moved by up to this part of their size."
    )
    flip: bool = option(
        AugmentConfig.flip, "Augmentation: mirror half of the clips; not where left and right make the label."
    )
    clip_seconds: float = option(10.0, "Waveforms are cut or filled up with silence to this length.")
    store: str | None = option(None, "Folder of the decoded clips; in the workspace's store/ by default.")
    workers: int | None = option(None, "Processes that decode; one a core by default, 0: none beside this one.")
    seed: int = option(0, "Seed of initial weights, batches, augmentation and noise.")
    device: str = option("auto", "auto, cpu or cuda.")
    out: str | None = option(None, "Folder of the result; below encoders/ by default.")
    overwrite: bool = option(False, "Start anew where the folder holds a training already.")

    def __post_init__(self) -> None:
        """Check what can be checked without the clips."""
        check_source("amr train-encoders", self.dataset, self.manifest)
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) is not None and value not in choices:
                raise unknown(f"--{name.replace('_', '-')}", value, choices)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and least <= value <= most):
                rule = f"from {least} to {most}" if math.isfinite(most) else f"{least} or more"
                default = type(self).__dataclass_fields__[name].default
                better = "Leave it out" if default is None else f"The default is {default}"
                raise ValueError(f"--{name.replace('_', '-')} must be {rule}, got {value}. {better}.")
        if self.lr == 0:
            raise ValueError("--lr must be above 0, got 0. The default is 0.001.")
        if self.encoder and self.preset is not None:
            raise ValueError(f"--preset must be without --encoder, got --preset {self.preset}. Leave one of them out.")
        if self.patience is not None and self.select == "last":
            raise ValueError(
                "--patience must be without --select last, which waits for nothing. Leave one of them out."
            )
        _ = self.augmentation
        self._check_objective()
        for name in self.encoders:
            if "." in name or name in TAKEN:
                raise ValueError(
                    f"--encoder must be NAME=SPEC with a NAME without points, and none of {', '.join(TAKEN)}, "
                    f"got {name!r}. Pass audio={self.encoders[name]}."
                )

    def _check_objective(self) -> None:
        alone = self.objective == "unimodal"
        for name in ("method", "method_option", "head", "hidden", "amr_ratio", "teachers"):
            value = getattr(self, name)
            shown = " ".join(value) if isinstance(value, tuple) else value
            if alone and value != type(self).__dataclass_fields__[name].default:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be with --objective joint, got {shown} with unimodal. "
                    "Pass --objective joint, or leave it out."
                )
        if self.teachers is not None and self.method != "umt":
            raise ValueError(f"--teachers must be with --method umt, got --method {self.method}. Leave it out.")

    @property
    def encoders(self) -> dict[str, str]:
        """Embedding name to encoder spec."""
        return parse_named(self.encoder, "--encoder", "SPEC", "audio=timm:resnet18,weights=random") or FROM_SCRATCH

    @property
    def augmentation(self) -> AugmentConfig:
        """How strongly train clips are changed."""
        return AugmentConfig(self.time_mask, self.frequency_mask, self.shift, self.flip)

    @property
    def num_workers(self) -> int:
        """Decoding processes."""
        return available_cores() if self.workers is None else self.workers


_CHOICES = {
    "preset": ("from-scratch",),
    "objective": OBJECTIVES,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
    "select": ("accuracy", "loss", "last"),
    "device": DEVICES,
}
_RANGES = {
    "hidden": (0, math.inf),
    "amr_weight": (0, math.inf),
    "split_seed": (0, math.inf),
    "epochs": (1, math.inf),
    "patience": (1, math.inf),
    "batch_size": (1, math.inf),
    "lr": (0, math.inf),
    "weight_decay": (0, math.inf),
    "lr_step": (0, math.inf),
    "lr_factor": (0, 1),
    "clip_seconds": (0.1, 3600),
    "workers": (0, math.inf),
    "seed": (0, math.inf),
}
