"""Diagnosing and re-learning (Wei et al. 2024, D&R)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import cluster, purity, relearning_weight
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.measure import over_clips
from amr.fusion.run_axis.axes import mean_over_steps


@dataclass(frozen=True)
class DNROptions:
    """Settings of D&R.

    Args:
        strength: Factor of the gap of purity, lambda in the paper; 0 is naive training.
        every: Share of the epochs between two times that encoders go back; at least one epoch.
        times: Number of times that they do; 0 is naive training.
    """

    strength: float = 3.0
    every: float = 2 / 9
    times: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "strength")
        if not 0 < self.every <= 1:
            raise ValueError(f"--method-option every must be above 0, at most 1, got {self.every}. Pass every=0.2.")
        if self.times < 0:
            raise ValueError(f"--method-option times must be 0 or more, got {self.times}. Pass times=3.")


@methods.register("dnr")
class DiagnosingRelearning(Method):
    """From time to time, each encoder goes back towards its first weights, as far as it overfits (Wei et al. 2024).

        P(S)    = purity of z^m on the clips S: of k-means with a cluster per class, the share of the clips whose
                  class is the most frequent one of their cluster
        gap_m   = |P(train) - P(val)|
        w_m     = tanh(strength gap_m)
        theta_m <- w_m theta_m at the start + (1 - w_m) theta_m               all weights of encoder m

    A modality that has learned what does not generalize forgets more of it; one that has learned little keeps it, and
    gains room while the others start over. In between, training is naive, on the joint loss. Weights stay where they
    are in the optimizer: its momentum is kept, and so are running statistics of batch normalization. The head goes on.

    The source goes back after 21, 41 and 61 of 90 epochs, and the last third of the epochs is for learning; here it is
    after shares of the training, two ninths each, so that 10 epochs have their three times, too. In 2 to 4 epochs, the
    last time is just before the last epoch; 1 epoch is naive training. Lambda is 3. Purities are of
    k-means as in the source, not of the nearest class mean, which would be cheaper: lambda is chosen for the gap of
    these purities, and as clusters are found without labels, a gap says how the encodings differ, not how well class
    means fit the clips that they are the means of. Each k-means is the best of 4 starts. Every dimension of z is scaled
    to -1 to 1 first, apart for train and val.

    Both sets are encoded in evaluation mode and without augmentation; the public code augments the train clips. It
    chooses the epoch on test; BalanceBenchmark takes the gap from test, too. A modality that no train or no val clip
    has stays as it is.

    It exists in `amr train-encoders` alone: an adapter on a cache starts next to its frozen encoder, and has nothing to
    learn anew.
    """

    summary = "from time to time, each encoder goes back towards its first weights, as far as it overfits"
    citation = "Wei et al. 2024, Diagnosing and Re-learning for Balanced Multimodal Learning"
    Options = DNROptions
    optimizer = "sgd"
    lr = 2e-3
    weight_decay = 1e-4
    needs_adapter = True
    needs_encoders = True
    needs_classes = True
    joint = True

    def __init__(self, options: DNROptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.every = epochs_between(options, context.epochs)
        acts = options.strength > 0 and options.times > 0 and context.epochs > self.every
        if acts and len(context.val) == 0:
            raise ValueError(
                "--method dnr must have val clips, on which it measures what generalizes, got none. "
                "Pass another --split-policy, or choose another method."
            )
        self.first = self._weights() if acts else {}
        model = context.model
        shape = len(model.modalities), len(next(model.parameters()))
        self.relearned = torch.zeros(shape, device=context.train.target.device)  # w_m, (modalities, run)

    @classmethod
    def plans_ahead(cls, options: DNROptions) -> bool:
        """Encoders go back after shares of the training."""
        return options.strength > 0 and options.times > 0

    @classmethod
    def notes(cls, options: DNROptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about too few epochs to go back in."""
        if options.strength == 0 or options.times == 0 or epochs > epochs_between(options, epochs):
            return []
        return [f"--epochs {epochs} with every={options.every:.4g}: no encoder ever goes back; pass more --epochs"]

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Move encoders back, if it is time."""
        passed = epoch - 1
        self.relearned = torch.zeros_like(self.relearned)
        if not self.first or passed == 0 or passed % self.every != 0 or passed // self.every > self.options.times:
            return
        train, val = self.context.train, self.context.val
        pull = relearning_weight(self._purities(train), self._purities(val), self.options.strength)
        self.relearned = pull * (train.present.any(0) & val.present.any(0)).unsqueeze(-1)
        weights = dict(self.context.model.named_parameters())
        for m, weight in zip(self.context.model.modalities, self.relearned, strict=True):
            for name in (name for name in self.first if name.startswith(f"adapters.{m}.")):
                value = weights[name]
                value.lerp_(self.first[name], weight.view(-1, *[1] * (value.ndim - 1)).to(value.dtype))

    def epoch_values(self) -> dict[str, Tensor]:
        """Part of the way back that each encoder went at the start of the epoch; 0 if it was not time."""
        pairs = zip(self.context.model.modalities, self.relearned, strict=True)
        return {f"relearned_{m}": weight for m, weight in pairs}

    def _weights(self) -> dict[str, Tensor]:
        """Copy of the weights of all encoders."""
        pairs = self.context.model.named_parameters()
        return {name: value.detach().clone() for name, value in pairs if name.startswith("adapters.")}

    def _purities(self, clips: Clips) -> Tensor:
        """Purity of each modality's encodings of the clips that have it, `(modalities, run)`."""
        num_classes = self.context.model.shape.head_shape.num_classes
        encoded = over_clips(self.context.model, clips, _encodings, dim=1)
        pure = torch.zeros_like(self.relearned)
        for i, z in enumerate(encoded):
            has = clips.present[:, i]
            for run in range(len(z) if has.any() else 0):
                pure[i, run] = purity(cluster(z[run, has], num_classes), clips.target[has])
        return pure


def epochs_between(options: DNROptions, epochs: int) -> int:
    """Number of epochs between two times that encoders go back."""
    return max(1, round(options.every * epochs))


def _encodings(batch: Batch, z: Mapping[str, Tensor]) -> list[Tensor]:
    """z of each modality, `(run, batch, dim)`."""
    return [mean_over_steps(value) for value in z.values()]
