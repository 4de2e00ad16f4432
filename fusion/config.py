"""Settings of a fit. One dataclass is the defaults, the help of the command and the saved record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from amr.common.options import (
    DATA,
    DEVICES,
    MODEL,
    OUTPUT,
    REGULARIZER,
    SPEED,
    TRAINING,
    check_options,
    coerce_fields,
    option,
)
from amr.fusion.attribution.ratio import parse_amounts, parse_ratio
from amr.fusion.choices import (
    ADAPTERS,
    AMR_OPTIMIZERS,
    BASELINES,
    CLASS_WEIGHTS,
    LEVELS,
    MOMENTUM,
    NORMALIZATIONS,
    OPTIMIZERS,
    OUTPUTS,
    POOLINGS,
    REGRESSION_LOSSES,
    SELECTIONS,
    TASKS,
    check_momentum,
    check_registered,
    own_weight,
)
from amr.fusion.recipes.given import TakesRecipe
from amr.fusion.recipes.published import find_recipe

MAX_EPOCHS = 1_000_000  # a slip of the finger, not a training


@dataclass(frozen=True)
class TrainingConfig(TakesRecipe):
    """Settings that fitting heads and training encoders share.

    With a `recipe`, settings that are not passed are the recipe's (`TakesRecipe`).

    Raises:
        ValueError: A value is invalid for all data.
    """

    head: str = option("concat", "Fusion head; amr heads lists them.", panel=MODEL)
    method: str = option(
        "naive", "Training method: how training treats the modalities; amr methods lists them.", panel=MODEL
    )
    amr_ratio: str | None = option(
        None,
        "Target shares, such as 1:1 or audio=3:video=1; none (the default) is no AMR.",
        panel=REGULARIZER,
        separator=":",
    )
    amr_weight: float | None = option(
        None,
        "Weight of the attribution regularizer; by default the attribution's own (0.3 for permutation, else 1). "
        "0 is off.",
        least=0,
        panel=REGULARIZER,
    )
    amr_level: str = option(
        "batch",
        "What has the ratio: batch, the mean share of a batch (the paper's eq. 1); clip, the share of each clip.",
        choices=LEVELS,
        panel=REGULARIZER,
        since="0.2",
    )
    amr_optimizer: str = option(
        "shared",
        "shared: one optimizer on task loss + weight * R; separate: a second optimizer on R only.",
        choices=AMR_OPTIMIZERS,
        panel=REGULARIZER,
    )
    attribution: str = option(
        "grad_x_input", "Attribution of the shares; amr attributions lists them.", panel=REGULARIZER
    )
    attribution_output: str = option(
        "probability", "Output that is attributed: probability, logit or centered.", choices=OUTPUTS, panel=REGULARIZER
    )
    attribution_pooling: str = option(
        "l2", "Norm over a modality's attributions: l2 or l1.", choices=POOLINGS, panel=REGULARIZER
    )
    attribution_steps: int = option(
        16, "Number of points on the line of integrated gradients.", least=1, panel=REGULARIZER
    )
    hidden: int = option(0, "Units of the head's hidden layer; 0 for the head's default.", least=0, panel=MODEL)
    experts: bool = option(
        False, "A linear classifier of each modality beside the head; all logits are added.", panel=MODEL, since="0.2"
    )
    head_option: tuple[str, ...] = option(
        (), "KEY=VALUE for the head; amr heads lists them. Repeatable.", panel=MODEL, since="0.2"
    )
    method_option: tuple[str, ...] = option(
        (), "KEY=VALUE for the method; amr methods lists them. Repeatable.", panel=MODEL
    )
    recipe: str | None = option(
        None,
        "Published settings of a method on a data set, such as crema-d/ogm-ge; amr methods NAME lists them. It implies "
        "--method; all other options win over it. They are of encoders trained with the head, not of embeddings.",
        panel=MODEL,
        since="0.2",
    )
    label: str = option("label", "Column of the clips to predict.", panel=DATA)
    split_policy: str = option("default", "Split to use: NAME is the column split_NAME; default is split.", panel=DATA)
    split_seed: int = option(
        0,
        "Seed of split-off clips and of folds; the same for all seeds of a sweep, so that runs stay paired.",
        least=0,
        panel=DATA,
    )
    keep_flagged: bool = option(False, "Training on clips that the manifest flags, too.", panel=DATA)
    epochs: int = option(60, "Number of passes over the training clips.", least=1, most=MAX_EPOCHS, panel=TRAINING)
    batch_size: int = option(64, "Clips per batch.", least=1, panel=TRAINING)
    lr: float | None = option(None, "Learning rate; by default the method's own.", above=0, panel=TRAINING)
    optimizer: str | None = option(
        None,
        "Optimizer: adamw, adam, sgd or adamax; by default the method's own.",
        choices=OPTIMIZERS,
        panel=TRAINING,
    )
    momentum: float | None = option(
        None, f"Momentum of --optimizer sgd; {MOMENTUM} by default.", least=0, panel=TRAINING, since="0.2"
    )
    weight_decay: float | None = option(None, "Weight decay; by default the method's own.", least=0, panel=TRAINING)
    lr_step: int | None = option(
        None,
        "Epochs after which the learning rate is multiplied by --lr-factor, each time; 0: never. By default the "
        "method's own.",
        least=0,
        panel=TRAINING,
        since="0.2",
    )
    lr_factor: float | None = option(
        None,
        "Factor of --lr-step; by default the method's own, else 0.1.",
        least=0,
        most=1,
        panel=TRAINING,
        since="0.2",
    )
    embedding_noise: str | None = option(
        None,
        "Gaussian noise on embeddings in training, in deviations over the train clips: 1, or audio=2:video=0.",
        panel=TRAINING,
        separator=":",
        since="0.2",
    )
    select: str = option(
        "accuracy",
        "Epoch to keep: best val accuracy (mAP for labels, MAE for a number), best val loss, or the last.",
        choices=SELECTIONS,
        panel=TRAINING,
    )
    seed: int = option(0, "Seed of initial weights, batches and noise.", least=0, panel=TRAINING)
    device: str = option("auto", "Device: auto, cpu or cuda.", choices=DEVICES, panel=SPEED)
    out: str | None = option(None, "Folder of the result; by default a new one in the workspace.", panel=OUTPUT)
    logger: str | None = option(
        None,
        "Trackers that get each epoch and the test measures: tensorboard, wandb or csv, also several with commas.",
        panel=OUTPUT,
        separator=",",
        since="0.2",
    )

    def __post_init__(self) -> None:
        """Check what can be checked without data and without importing heads and methods."""
        coerce_fields(self)
        if self.recipe is not None:
            find_recipe(self.recipe)
            self.take_recipe()
        if self.amr_ratio is not None and self.amr_ratio.strip().lower() == "none":
            object.__setattr__(self, "amr_ratio", None)
        if self.amr_ratio is not None:
            parse_ratio(self.amr_ratio, name="--amr-ratio")
        if self.embedding_noise is not None:
            parse_amounts(self.embedding_noise)
        check_options(self)
        check_registered("--head", self.head)
        check_registered("--method", self.method)
        check_registered("--attribution", self.attribution)
        if self.momentum != type(self).momentum:
            check_momentum(self.momentum, self.optimizer)
        for name in () if self.logger is None else self.logger.split(","):
            check_registered("--logger", name.strip())

    @property
    def regularizer_weight(self) -> float:
        """Weight of R: the attribution's own if none is given, 0 without a ratio."""
        if self.amr_ratio is None:
            return 0.0
        return own_weight(self.attribution) if self.amr_weight is None else self.amr_weight


@dataclass(frozen=True)
class FitConfig(TrainingConfig):
    """Settings of one fit: cache, head, method, regularizer and training."""

    cache: str | None = option(
        None, "Cache file, or its name in caches/; by default the only one there.", panel=DATA, first=True
    )
    modalities: str | None = option(
        None,
        "Embeddings to use, separated by commas; by default all, in the order of the cache.",
        panel=DATA,
        separator=",",
    )
    condition: str | None = option(
        None, "Modality that conditions the others in --head film; same as --head-option condition=M.", panel=MODEL
    )
    adapter: str = option(
        "none", "Trainable layer on each embedding: none, linear or mlp.", choices=ADAPTERS, panel=MODEL
    )
    adapter_dim: int = option(256, "Output size of each adapter.", least=1, panel=MODEL)
    attribution_baseline: str = option(
        "zero",
        "Values that replace an absent modality, and start of integrated gradients: zero, or the mean over the train "
        "clips.",
        choices=BASELINES,
        panel=REGULARIZER,
    )
    normalize: str = option(
        "standard",
        "standard: by mean and standard deviation of each dimension over train; none: as cached.",
        choices=NORMALIZATIONS,
        panel=DATA,
    )
    task: str = option(
        "multiclass",
        "What to predict: one class per clip (multiclass), any number of labels (multilabel), or a number "
        "(regression).",
        choices=TASKS,
        panel=DATA,
        since="0.2",
    )
    label_separator: str | None = option(
        None,
        "Text between the labels of a cell, such as ';'; implies --task multilabel. An empty cell has no labels, the "
        "word absent leaves a clip out. Without it, --label lists columns of 0 and 1.",
        panel=DATA,
        since="0.2",
    )
    class_weight: str = option(
        "none",
        "Weights of classes in the loss: none, or balanced, by which rare classes count as much as frequent ones.",
        choices=CLASS_WEIGHTS,
        panel=TRAINING,
        since="0.2",
    )
    regression_loss: str = option(
        "mse",
        "Loss of --task regression: squared (mse) or absolute error (l1).",
        choices=REGRESSION_LOSSES,
        panel=TRAINING,
        since="0.2",
    )
    folds: int = option(
        0, "Number of folds for cross-validation over all clips; 0 uses the splits of the cache.", least=0, panel=DATA
    )

    def __post_init__(self) -> None:
        """Check what can be checked without a cache."""
        super().__post_init__()
        self._check_task()
        if self.folds in (1, 2):  # fold k is test, k + 1 is val, the rest train
            raise ValueError(f"--folds must be 0 (none) or at least 3, got {self.folds}. Pass --folds 5.")

    def _check_task(self) -> None:
        if self.label_separator is not None:
            if self.task == "regression":
                raise ValueError(
                    f"--label-separator must be used with --task multilabel, got {self.label_separator!r} with "
                    "regression. Leave one of them out."
                )
            if not self.label_separator:
                raise ValueError(f"--label-separator must not be empty, got {self.label_separator!r}. Pass ';'.")
            object.__setattr__(self, "task", "multilabel")
        if self.task != "regression" and self.regression_loss != FitConfig.regression_loss:
            raise ValueError(
                f"--regression-loss must be used with --task regression, got {self.regression_loss} with {self.task}. "
                "Leave it out."
            )
        if self.task == "regression" and self.class_weight != FitConfig.class_weight:
            raise ValueError(
                f"--class-weight must be used with classes or labels, got {self.class_weight} with --task regression. "
                "Leave it out."
            )

    def to_json(self) -> dict[str, Any]:
        """Settings as in JSON documents: modalities are a list. Without `logger`, which is no setting of the run."""
        settings = asdict(self) | {"modalities": None if self.modalities is None else self.modalities.split(",")}
        del settings["logger"]
        return settings
