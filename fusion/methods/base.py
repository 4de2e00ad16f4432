"""Base of all methods: how training treats the modalities. One file per method, written as for one run.

Tensors have a leading run axis, and a loss has one value per run. Reductions are over the last axes only, so the code
reads like the paper's equations. The trainer adds the attribution regularizer, so it combines with every method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from amr.common.options import NoOptions
from amr.common.registry import Registry
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS

if TYPE_CHECKING:
    from amr.fusion.model import Fitted

LossFunction = Callable[[FusionModel, Batch, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class MethodContext:
    """Everything that a method may use. The trainer makes one per run group.

    Args:
        model: Model of the run group; its parameters are trained in place.
        train: Training clips.
        val: Validation clips.
        epochs: Total number of epochs.
        noise: Random numbers that depend on the runs' seeds.
        fit_unimodal: Function of a modality that returns its uni-modal runs, one per member, each at its best epoch by
            val. They are trained with the same settings on the clips that have the modality.
        rehearse: Function of a loss, epochs, clips and further parameters that returns a copy of the model, trained
            further on that loss only. The learning rate is that of these epochs, counted from 1. The model itself does
            not change; the further parameters, such as those of a copy of a method's classifiers, do.
        task: What is predicted.
        seeds: Seed of each run.
    """

    model: FusionModel
    train: Clips
    val: Clips
    epochs: int
    noise: Noise
    fit_unimodal: Callable[[str], Fitted]
    rehearse: Callable[[LossFunction, Sequence[int], Clips, Sequence[Tensor]], FusionModel]
    task: Task = MULTICLASS
    seeds: Sequence[int] = ()


# Reasons why a method cannot train for a task.
NEEDS_SOFTMAX = "its formula needs a softmax over classes"
PARTS_ADD_UP = "it trains each modality's part of the prediction to be the whole number, and the parts add up"


class Method:
    """Base class of methods. The trainer makes one instance per run group.

    Attributes:
        summary: One line for `amr methods`.
        citation: Source, for `amr methods`.
        Options: Frozen dataclass of the method's own settings; its defaults are those of the source.
        optimizer, lr, weight_decay: Defaults of the optimizer.
        lr_step: Number of epochs and a factor by which the learning rate is then multiplied, each time; None: never.
        clip_norm: Largest L2 norm of each run's gradient, for adapters and all other parameters separately; None: no
            limit. A method sets it to None if its options make it naive training.
        head: Head that the method requires; None: any. If they have the same `Options`, the method's are the head's.
        needs_adapter: Whether it acts on adapters, and so cannot run without them.
        fuses: Whether modalities meet in one head, so that there is something to balance.
        single_modality: Whether it trains on one modality.
        end_to_end: Whether it can also train encoders (`amr train-encoders --objective joint`).
        needs_encoders: Whether it can only train encoders, because nothing of it is left on a cache.
        fits_unimodal: Whether it learns from uni-modal models (`MethodContext.fit_unimodal`).
        needs_classes: Whether its formula needs a softmax over classes, so that other tasks are refused (`unfit`).
        for_any_task: Method options with which no task is refused, for the error.
        joint: Whether its loss is `joint_loss` of the head's logits at an unchanged z. Adjacent runs may then share z,
            and the task loss may use the forward pass of the attribution. A method sets it if its options make it naive
            training.
        graph_safe: Whether `loss` and `adjust` do the same work at each step: no random numbers, no branch on data, no
            transfer from the host, no state. A GPU may then replay the step as a CUDA graph
            (`amr.fusion.train.graphs`).
        num_turns: Number of optimizer steps on each batch; `begin_turn` precedes each. z is encoded once for all.
    """

    summary: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    Options: ClassVar[type[Any]] = NoOptions
    optimizer: ClassVar[str] = "adamw"
    lr: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    lr_step: ClassVar[tuple[int, float] | None] = None
    head: ClassVar[str | None] = None
    needs_adapter: ClassVar[bool] = False
    fuses: ClassVar[bool] = True
    single_modality: ClassVar[bool] = False
    end_to_end: ClassVar[bool] = True
    needs_encoders: ClassVar[bool] = False
    fits_unimodal: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    for_any_task: ClassVar[tuple[str, ...]] = ()
    clip_norm: float | None = None
    joint: bool = False
    graph_safe: bool = False
    num_turns: int = 1

    def __init__(self, options: Any, context: MethodContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def check(cls, modalities: Sequence[str]) -> None:
        """Raise ValueError for modalities that the method cannot train on."""

    @classmethod
    def acts_on_adapters(cls, options: Any) -> bool:
        """Whether it cannot run without adapters, with these options."""
        return cls.needs_adapter

    @classmethod
    def unfit(cls, options: Any, task: Task) -> str:
        """Why it cannot train for a task with these options; empty if it can."""
        if cls.needs_classes and not task.one_class:
            return NEEDS_SOFTMAX
        return PARTS_ADD_UP if cls.trains_parts(options) and not task.of_logits else ""

    @classmethod
    def trains_parts(cls, options: Any) -> bool:
        """Whether each modality's part of the head's outputs learns the target, with these options."""
        return False

    @classmethod
    def plans_ahead(cls, options: Any) -> bool:
        """Whether an epoch depends on how many follow (`MethodContext.epochs`), with these options.

        A finished training then cannot continue to more epochs.
        """
        return False

    @classmethod
    def notes(cls, options: Any, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Remarks on these settings, for the user.

        Args:
            options: Its own settings.
            optimizer: Name of the optimizer.
            epochs: Total number of epochs.
            modalities: Names of the modalities, in order.
        """
        return []

    def parameters(self) -> list[Tensor]:
        """Parameters that it trains in addition to the model and then discards, each with a leading run axis."""
        return []

    def state(self) -> dict[str, Tensor]:
        """Tensors besides `parameters` that the next epoch depends on, such as measured weights."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `state` returned."""

    def assemble(self) -> bool:
        """Assemble the trained model from others and return True; return False to train by `loss`."""
        return False

    def train_clips(self) -> Clips:
        """Clips to train on; a method may hold some back."""
        return self.context.train

    def begin_epoch(self, epoch: int) -> None:
        """Prepare an epoch, counted from 1."""

    def arrange(self, order: Tensor, batch_size: int) -> Tensor:
        """Order in which an epoch takes the train clips, cut into batches; by default the random one that is given.

        Args:
            order: Permutation of the clips for each run, `(run, clips)`, or `(shared, clips)` if adjacent runs share
                it.
            batch_size: Number of clips per batch.
        """
        return order

    def begin_turn(self, turn: int) -> None:
        """Prepare a step on a batch, counted from 0; only called if there are several (`num_turns`)."""

    def epoch_values(self) -> dict[str, Tensor]:
        """Columns for the history after each epoch: name to `(run,)`."""
        return {}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Task loss of each run on a batch, `(run,)`, given its encodings z; by default that of naive training."""
        return self.joint_loss(model.head(z, batch.present), batch)

    def joint_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Task loss of each run from the joint logits, `(run,)`."""
        return self.context.task.loss(logits, batch.target)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Replace the gradients of a step, given by the names of the model's parameters.

        A parameter that is left out is not touched by the step: no momentum and no weight decay move it.
        """
        return gradients


methods: Registry[type[Method]] = Registry("--method")


def epoch_means(model: FusionModel, seen: Sequence[Tensor], otherwise: float) -> Tensor:
    """Mean over an epoch's batches of one number per modality, `(modalities, run)`.

    Args:
        model: Model of the run group.
        seen: Values of each batch, each `(modalities, run)`.
        otherwise: Value if there are none.
    """
    if seen:
        return torch.stack([*seen]).mean(0)
    first = next(model.parameters())
    return torch.full((len(model.modalities), len(first)), otherwise, device=first.device)


def mean_over(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid clips, 0 if there are none: `(..., batch)` and bool `(..., batch)` to `(...)`."""
    return values.masked_fill(~valid, 0).sum(-1) / valid.sum(-1).clamp_min(1)
