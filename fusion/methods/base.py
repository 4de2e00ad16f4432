"""What a method is: how training treats the modalities. One file a method, written as for one run.

Tensors carry a leading run axis, and a loss has one value a run; reductions go over the last axes only, so the code
reads as the paper's equations do. The attribution regularizer is the trainer's: it combines with every method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from amr.common.registry import Registry
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.seeds import Noise

if TYPE_CHECKING:
    from amr.fusion.model import Fitted

LossFunction = Callable[[FusionModel, Batch, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class NoOptions:
    """A method without settings."""


@dataclass(frozen=True)
class Setting:
    """What a method may use: the trainer makes one for each group of runs.

    Args:
        model: the group's model; its parameters are trained in place.
        train, val: the clips.
        epochs: in all.
        noise: random numbers that belong to the runs' seeds.
        fit_alone: modality to its uni-modal runs, one a member, trained with the same settings on the clips that
            have it, each at its best epoch by val.
        rehearse: a loss, a number of epochs and clips, to a copy of the model trained on that loss alone from where
            the model is now; the model itself stays as it is.
    """

    model: FusionModel
    train: Clips
    val: Clips
    epochs: int
    noise: Noise
    fit_unimodal: Callable[[str], Fitted]
    rehearse: Callable[[LossFunction, int, Clips], FusionModel]


class Method:
    """Base of all methods; one is made for each group of runs.

    Attributes:
        summary, citation: Texts of `amr methods`.
        Options: frozen dataclass of the method's own settings; its defaults are the source's.
        optimizer, lr, weight_decay: what it trains with, where the user asks for nothing else.
        lr_step: every so many epochs the learning rate is multiplied by the factor; None: never.
        clip_norm: each run's gradient is scaled down to this L2 norm, adapters and the rest apart; None: never.
        head: the head it must have, whatever is asked for; None: any.
        needs_adapter: it acts on adapters, and refuses to run without them.
        fuses: Whether modalities meet in one head, so that there is something to balance.
        single_modality: It trains on one modality.
        end_to_end: It can train encoders, too (`amr train-encoders --objective joint`).
        joint: its loss is `joint_loss` of the head's logits at z as it is. Runs in a row may then share z, and the
            task may share the attribution's forward pass. Options at which a method is naive training turn it on.
        graph_safe: its loss and `adjust` do the same at each step: they draw no numbers, take no branch on data, bring
            nothing from the host and keep nothing. A GPU may then replay the step (`fusion/capture.py`).
    """

    summary: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    Options: ClassVar[type[Any]] = NoOptions
    optimizer: ClassVar[str] = "adamw"
    lr: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 1e-2
    lr_step: ClassVar[tuple[int, float] | None] = None
    clip_norm: ClassVar[float | None] = None
    head: ClassVar[str | None] = None
    needs_adapter: ClassVar[bool] = False
    fuses: ClassVar[bool] = True
    single_modality: ClassVar[bool] = False
    end_to_end: ClassVar[bool] = False
    joint: bool = False
    graph_safe: bool = False

    def __init__(self, options: Any, setting: Setting) -> None:
        self.options = options
        self.setting = setting

    @classmethod
    def check(cls, modalities: Sequence[str]) -> None:
        """Refuse modalities that the method cannot train on."""

    @classmethod
    def notes(cls, optimizer: str) -> list[str]:
        """What people should know of these settings, in words."""
        return []

    def parameters(self) -> list[Tensor]:
        """What it trains beside the model and leaves behind, each with a leading run axis."""
        return []

    def assemble(self) -> bool:
        """Put the trained model together, for a method without a training of its own; False: train by `loss`."""
        return False

    def train_clips(self) -> Clips:
        """What `loss` is trained on; a method may hold clips back."""
        return self.setting.train

    def begin_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 1."""

    def epoch_values(self) -> dict[str, Tensor]:
        """What the history is to say of the method after each epoch: name to `(run,)`."""
        return {}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """`(run,)`: the task loss of each run on a batch whose encodings are `z`; by default that of naive training."""
        return self.joint_loss(model.head(z, batch.present), batch)

    def joint_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """`(run,)`: the task loss from the joint logits."""
        return cross_entropy(logits, batch.target)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The gradients that the step is to take instead, by the names of the model's parameters."""
        return gradients


methods: Registry[type[Method]] = Registry("--method")


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the clips: `(..., batch, classes)` and `(..., batch)` to `(...)`."""
    return -logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1).mean(-1)


def mean_over(values: Tensor, there: Tensor) -> Tensor:
    """Mean over the clips that count, 0 where none does: `(..., batch)` and bool `(..., batch)` to `(...)`."""
    return values.masked_fill(~there, 0).sum(-1) / there.sum(-1).clamp_min(1)
