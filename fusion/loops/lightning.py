"""AMR for any LightningModule, as a callback.

    trainer = Trainer(callbacks=[amr.LightningAMR({"audio": "audio_net", "video": "visual_net"}, "1:1")])

Lightning has no hook in which a callback may change the loss. So this one replaces the module's `training_step` by one
that adds weight * R to what it returns: from `setup` to `teardown` of a fit, and not in validation.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from torch import nn

from amr.common.registry import unknown
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer
from amr.fusion.attribution.tap.logits import Which
from amr.fusion.attribution.tap.model import Tap
from amr.fusion.attribution.tap.tap import tap
from amr.fusion.choices import own_weight

STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")  # with the whole model in each process
PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # one library under two names, whose callbacks do not mix


def _callback_class() -> Any:
    """`Callback` of the package that is imported already, else of the one that is installed; `object` without one."""
    for name in sorted(PACKAGES, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ModuleNotFoundError:
            continue
    return object


_Callback: Any = _callback_class()


class LightningAMR(_Callback):
    """Callback that adds weight * R, of `AttributionRegularizer`, to the loss of each training step.

    The encoders are tapped as by `amr.tap`: R is that of the last forward pass of the model in `training_step`, and
    trains what comes after them. R and the shares are logged as `amr/regularization` and `amr/share_audio`.

    - Precision, gradient accumulation and clipping treat R as a part of the loss.
    - `DistributedDataParallel`: R is that of each process's batch, and its gradients are averaged. Sharded strategies
      (FSDP, DeepSpeed) are refused.
    - Checkpoints hold nothing of it: a resumed fit has the ratio and the weight of the callback that it is given.
    - Manual optimization is refused; add R in the module's own `training_step`, as in any loop.

    Args:
        modules: Modality to the name of its encoder in the model, as for `amr.tap`.
        ratio: Target shares, as for `AttributionRegularizer`: "1:1" in the order of `modules`, "audio=3:video=1", ...
        weight: Weight of R; by default the attribution's own (.3 for permutation, else 1). With 0 the callback does
            nothing.
        attributor: Attribution to regularize, or its name; by default gradient x input of the probability.
        level: What has the ratio: the mean share of the "batch" (eq. 1), or the share of each "clip".
        model: Name of the module that `training_step` calls as a whole, such as "net" for `self.net(batch)`; by
            default the LightningModule, for `self(batch)`.
        logits: Which output of the model holds the logits, as for `amr.tap`.

    Raises:
        ImportError: Lightning is not installed.
        ValueError: The ratio cannot be read, or the weight is negative.
    """

    def __init__(
        self,
        modules: Mapping[str, str],
        ratio: str | Mapping[str, float],
        *,
        weight: float | None = None,
        attributor: Attributor | str | None = None,
        level: str = "batch",
        model: str = "",
        logits: Which = None,
    ) -> None:
        if _Callback is object:
            raise ImportError(
                "amr.LightningAMR must have Lightning, which is not installed. Run pip install 'amr-fusion[lightning]'."
            )
        super().__init__()
        self.regularizer = AttributionRegularizer(ratio, attributor, level=level)
        self.weight = own_weight(self.regularizer.attributor.attribution) if weight is None else weight
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be 0 or more, got {weight}. Pass 0 for a fit without AMR.")
        self._modules, self._model, self._logits = dict(modules), model, logits
        self._tap: Tap | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Tap the model and replace `training_step`, before a fit.

        Raises:
            ValueError: Optimization is manual, the module is compiled, the strategy is sharded, or a name is unknown.
        """
        self._restore(pl_module)  # of a fit that failed
        if stage != "fit" or self.weight == 0:
            return
        if not pl_module.automatic_optimization:
            raise ValueError(
                "automatic_optimization must be True for LightningAMR, got False. Add weight * regularizer(tap.head, "
                "tap.z) to the loss in training_step, and leave the callback out."
            )
        if getattr(pl_module, "_compiler_ctx", None) is not None:
            raise ValueError(
                "the LightningModule must not be compiled as a whole for LightningAMR, got torch.compile of it. "
                "Compile its encoders instead."
            )
        kinds = [kind.__name__ for kind in type(trainer.strategy).__mro__]
        if not {*kinds} & {*STRATEGIES}:
            raise ValueError(
                f"strategy must keep the whole model in each process for LightningAMR, got {kinds[0]}. "
                'Pass strategy="ddp" or "auto".'
            )
        model = _submodule(pl_module, self._model)
        _refuse_names_of_a_part(model, self._model, self._modules)
        self._tap = tap(model, self._modules, logits=self._logits)
        self._tap.pause()
        pl_module.training_step = self._regularized(pl_module, pl_module.training_step)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore the module."""
        self._restore(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module."""
        self._restore(pl_module)

    def _regularized(self, pl_module: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        """A training step whose loss has weight * R added. Lightning finds the original's signature in it."""

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            taps = self._tap
            if taps is None:  # restored, but another callback had replaced the step since then
                return step(*args, **kwargs)
            taps.resume()
            try:
                output = step(*args, **kwargs)
                skips = output is None or (isinstance(output, Mapping) and "loss" not in output)
                return output if skips else self._added(pl_module, output, taps)
            finally:
                taps.pause()

        training_step.amr_callback = self  # type: ignore[attr-defined]
        return training_step

    def _added(self, pl_module: Any, output: Any, taps: Tap) -> Any:
        """Output of a training step with weight * R added to its loss; logs R and the shares."""
        z = taps.z
        value = self.regularizer(taps.head, z)
        measured = {"regularization": value.detach()} | {f"share_{m}": s for m, s in self.regularizer.share.items()}
        num_clips = len(next(iter(z.values())))
        pl_module.log_dict({f"amr/{name}": v for name, v in measured.items()}, batch_size=num_clips)
        if isinstance(output, Mapping):
            return {**output, "loss": output["loss"] + self.weight * value}
        return output + self.weight * value

    def _restore(self, pl_module: Any) -> None:
        """Give the module its own `training_step` back, and remove the tap."""
        if self._tap is not None:
            self._tap.remove()
            self._tap = None
        current = vars(pl_module).get("training_step")
        if getattr(current, "amr_callback", None) is self:
            original = current.__wrapped__
            del pl_module.training_step
            if original != pl_module.training_step:
                pl_module.training_step = original


def _submodule(pl_module: nn.Module, name: str) -> nn.Module:
    """Module of a LightningModule by its name.

    Raises:
        ValueError: There is none.
    """
    modules = dict(pl_module.named_modules())
    if name not in modules:
        raise unknown("model", name, [each for each in modules if each and each.count(".") <= name.count(".")])
    return modules[name]


def _refuse_names_of_a_part(model: nn.Module, model_name: str, requested: Mapping[str, str]) -> None:
    """Raise ValueError if the requested modules are in a part of the model, and are named as seen from that part."""
    names = {name.partition(":")[0] for name in requested.values() if isinstance(name, str)}
    modules = dict(model.named_modules())
    missing = sorted(names - {*modules})
    part = next((part for part in modules if part and all(f"{part}.{name}" in modules for name in names)), None)
    if not missing or part is None:
        return
    whole = f"{model_name}.{part}" if model_name else part
    raise ValueError(
        f"modules must be named from {model_name or 'the LightningModule'} on, got {missing[0]!r}, which is in {part}. "
        f'Pass model="{whole}" if training_step calls self.{whole}, or name it "{part}.{missing[0]}".'
    )
