"""Information acquisition regulation (Huang et al. 2025, InfoReg)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import (
    acquisition_growth,
    inforeg_coefficients,
    modality_losses,
    squared_norm,
    unimodal_logits,
)
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import at_target


@dataclass(frozen=True)
class InfoRegOptions:
    """Settings of InfoReg.

    Args:
        beta: Strength with which the leading encoder is held; 0 leaves it out.
        window: Share of the epochs over which the growth of the Fisher trace is measured; at least one epoch.
        growth: Growth over a window, as a part of its mean, above which a modality is in its prime learning window.
        unimodal: Weight of the losses of the modalities; with beta 0 as well, 0 is naive training.
    """

    beta: float = 0.95
    window: float = 0.2
    growth: float = 0.5
    unimodal: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "beta", "growth", "unimodal")
        if not 0 < self.window <= 1:
            raise ValueError(f"--method-option window must be above 0, at most 1, got {self.window}. Pass window=0.2.")


@methods.register("inforeg")
class InfoReg(Method):
    """While the leading modality still takes in much, its encoder is held back (Huang et al. 2025).

        loss    = L + unimodal sum_m L_m
        T_m     = mean over the batches of an epoch of |gradient of encoder m|^2                  the Fisher trace
        prime_m : (T_m now - T_m a window ago) / mean of T_m over the window > growth;     true in the first epoch
        s_m     = mean of softmax(out_m)_y over the clips of the batch that have m
        lead_m  = s_m - mean of the other modalities' s
        c_m     = beta exp(tanh(lead_m)) if prime_m and lead_m > 0, else 0
        g      <- g + c_m (theta_m - theta_m at the start of the epoch)              g: gradient of encoder m

    So the encoder of a modality that leads moves less per epoch, in the early window in which it takes in most. out_m
    are the uni-modal logits (`unimodal_logits`), L_m their losses. The added term is not part of the trace.

    The public code measures the growth of audio's trace alone, whichever modality leads; here each has its own. It
    counts the added term in the trace. Its traces are means over the weights of each layer, summed over layers; here
    each weight counts once, as in the trace of the matrix. Its s are sums over the batch, so that tanh is 1 as soon as
    one modality leads by two clips; here they are means. beta is .95 for audio and .1 for video in the code, fixed by
    name and not by who leads; here it is .95 for any. The window is 10 of 50 epochs and the growth .05 per epoch, which
    is half of the mean over a window; here both are parts, so that they mean the same in a training of 10 epochs.
    Traces before the first epoch count as 0, as in the code, by which the first window is prime unless the trace
    collapses. Its optimizer is SGD with lr 2e-3, a tenth of it after 30 epochs, and it chooses the epoch on test.

    It exists in `amr train-encoders` alone: it is about how encoders begin to learn.
    """

    summary = "the leading modality's encoder is held near its weights while its Fisher trace grows; uni-modal losses"
    citation = "Huang et al. 2025, Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition"
    Options = InfoRegOptions
    optimizer = "sgd"
    lr = 2e-3
    weight_decay = 1e-4
    lr_step = (30, 0.1)
    needs_adapter = True
    needs_encoders = True
    needs_classes = True

    def __init__(self, options: InfoRegOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = options.beta == 0 and options.unimodal == 0
        self.window = max(1, round(options.window * context.epochs))
        model, device = context.model, context.train.target.device
        names = [name for name, _ in model.named_parameters()]
        self.names = [[name for name in names if name.startswith(f"adapters.{m}.")] for m in model.modalities]
        self.none = torch.zeros(len(self.names), len(next(model.parameters())), device=device)
        self.traces = self.none[None][:0]  # of the epochs before this one, (epochs, modalities, run)
        self.norms: list[Tensor] = []  # squared norm of the gradients of each batch of the epoch
        self.prime = self.none > 0
        self.start: dict[str, Tensor] = {}  # weights of encoders at the start of the epoch
        self.coefficients = self.none  # of the last batch
        self.seen: list[Tensor] = []  # the coefficients of each batch of the epoch

    @classmethod
    def plans_ahead(cls, options: InfoRegOptions) -> bool:
        """The window is a share of the training."""
        return options.beta > 0

    @property
    def measured(self) -> Tensor:
        """Fisher traces of as many last epochs as matter, this one's included, `(epochs, modalities, run)`."""
        now = [torch.stack(self.norms).mean(0)] if self.norms else []
        return torch.stack([*self.traces, *now])[-self.window - 1 :] if len(self.traces) + len(now) else self.traces

    def state(self) -> dict[str, Tensor]:
        """The traces."""
        return {"traces": self.measured}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the traces."""
        self.traces = state["traces"].to(self.none.device)

    def begin_epoch(self, epoch: int) -> None:
        """Decide which modalities are in their prime window, and keep the weights of their encoders."""
        self.traces, self.norms, self.seen = self.measured, [], []
        if self.options.beta == 0:
            return
        first = len(self.traces) == 0
        self.prime = ~self.prime if first else acquisition_growth(self.traces, self.window) > self.options.growth
        weights = dict(self.context.model.named_parameters())
        held = [name for names, prime in zip(self.names, self.prime.any(1), strict=True) if prime for name in names]
        self.start = {name: weights[name].detach().clone() for name in held}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss plus the weighted losses of the modalities, `(run,)`; also computes the coefficients."""
        joint, o = super().loss(model, batch, z), self.options
        if self.joint:
            return joint
        out = unimodal_logits(model.head, z, batch.present)  # (modalities, run, batch, classes)
        if o.beta > 0:
            present = batch.present.movedim(-1, 0)
            scores = mean_over(at_target(out.detach().softmax(-1), batch.target), present)
            self.coefficients = inforeg_coefficients(scores, self.prime, o.beta, present.any(-1))
            self.seen.append(self.coefficients)
        if o.unimodal == 0:
            return joint
        each = modality_losses(out, batch.target, batch.present, self.context.task)
        return joint + o.unimodal * each.sum(0)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Add the pull to the weights at the start of the epoch; also measures the traces."""
        if self.options.beta == 0:
            return gradients
        norms = [squared_norm([gradients[name] for name in names]) for names in self.names]
        self.norms.append(torch.stack(norms))
        weights, adjusted = dict(self.context.model.named_parameters()), dict(gradients)
        for names, c in zip(self.names, self.coefficients, strict=True):
            for name in (name for name in names if name in self.start):
                moved = weights[name].detach() - self.start[name]
                adjusted[name] = gradients[name] + c.view(-1, *[1] * (moved.ndim - 1)) * moved
        return adjusted

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean coefficient of each modality over the epoch, and its Fisher trace."""
        held = torch.stack(self.seen).mean(0) if self.seen else self.none
        traces = self.measured[-1] if self.norms else self.none
        columns = zip(self.context.model.modalities, held, traces, strict=True)
        return {f"{k}_{m}": v for m, h, t in columns for k, v in (("held", h), ("fisher_trace", t))}
