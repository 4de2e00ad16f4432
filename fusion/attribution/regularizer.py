"""The attribution regularizer (paper, eq. 1): distance of the mean shares from the target ratio."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amr.common.registry import unknown
from amr.fusion.attribution.any_head.call import AnyHead
from amr.fusion.attribution.any_head.derivatives import check_second_derivative
from amr.fusion.attribution.any_head.inputs import named_encodings
from amr.fusion.attribution.attributor import Attributor, as_attributor
from amr.fusion.attribution.base import attributions
from amr.fusion.attribution.ratio import parse_ratio, ratio_parts
from amr.fusion.attribution.share import mean_share
from amr.fusion.choices import LEVELS

SMALLEST_SUM = 1e-8  # of divergences; below, their ratio is that of rounding errors


def regularization(
    share: Tensor, counted: Tensor, ratio: Tensor, *, level: str = "batch", of_sums: bool = False
) -> Tensor:
    """R of the batch, `(...)`: one value per run; i over the N clips with a defined share.

        batch    R = sum_m | (1/N) sum_i s_i^m - r_m |        the paper's eq. 1
        clip     R = (1/N) sum_i sum_m | s_i^m - r_m |        balances each decision

    Args:
        share: Shares `(..., clips, modalities)`, with their graph if R is a loss.
        counted: Bool `(..., clips)`: the clips with a defined share. If there are none, R is 0.
        ratio: Target shares r `(..., modalities)`, summing to 1.
        level: What is balanced: batch or clip.
        of_sums: Whether `share` is not normalized per clip; the share of the batch is then a ratio of sums.

    >>> import torch
    >>> regularization(torch.tensor([[0.75, 0.25]]), torch.tensor([True]), torch.tensor([0.5, 0.5]))
    tensor(0.5000)
    """
    if level == "clip":
        distance = (share - ratio.unsqueeze(-2)).abs().sum(-1).masked_fill(~counted, 0)
        return distance.sum(-1) / counted.sum(-1).clamp_min(1)
    total = share.sum((-2, -1)) if of_sums else counted.sum(-1)
    defined = (total > SMALLEST_SUM).unsqueeze(-1)
    # if no share is defined, divide by 1: 0 / 0 would be NaN, and so would its gradient
    mean = share.sum(-2) / total.unsqueeze(-1).masked_fill(~defined, 1)
    return (mean - ratio).masked_fill(~defined, 0).abs().sum(-1)


def check_level(name: str, level: str, attribution: str) -> None:
    """Raise ValueError for an unknown level, or one that the attribution does not have."""
    if level not in LEVELS:
        raise unknown(name, level, LEVELS)
    if level == "clip" and attributions[attribution].uses_partners:
        raise ValueError(
            f"{name} must be batch for {attribution}, in which a clip has no share, got clip. Leave it out."
        )


class AttributionRegularizer(nn.Module):
    """R of the paper (eq. 1), for any training loop.

    z is detached: R trains the head, never the encoders before it.

    Logits are scores before softmax, `(batch, classes)`. One logit, `(batch, 1)`, is a binary decision, sigmoid(x): its
    attribution is that of the log-odds of the predicted class, |x|. Logits `(batch, ..., classes)`, for example per
    step, are a decision at each position: attributed is the sum of their outputs. Positions that do not count must have
    constant logits, such as 0. Softmax outputs in place of logits change shares by up to .01; log_softmax changes
    nothing.

    What to know of the training loop:

    - `head` is the part of a model after z. If one forward() holds encoders and fusion, `amr.tap` gives both.
    - R is of the mean share of the batch. Over small batches its mean is larger, so gradient accumulation raises it;
      `level="clip"` has no such effect.
    - R runs the head once more. Dropout draws again, and a module that keeps its features keeps those of R's run:
      compute R before the forward pass of the task, or take the features first. If `head` is a module, its buffers,
      such as the statistics of BatchNorm, stay as they were; in a lambda around it they move twice.
    - Hooks that rescale gradients (gradient modulation) and gradient reversal change shares: remove them while R runs.
    - R needs second derivatives. Attention uses torch's math kernel, and compiled modules run uncompiled, while R runs.
      cuDNN's recurrent layers have none: call them under `torch.backends.cudnn.flags(enabled=False)`. Activation
      checkpointing needs `use_reentrant=False`. The first call checks; Shapley and permutation shares need no second
      derivative.
    - By permutation, a modality comes from a random clip of the batch, by torch's default generator. R is 0 where no
      clip has a partner, as in a batch of one, and where no prediction moves.
    - R has a graph under `torch.no_grad`, too.

    Args:
        ratio: Target shares in the order of z: "1:1", "3:1" or (0.7, 0.3). If z is a mapping, shares may be named:
            "audio=3:video=1" or {"audio": 3, "video": 1}. It is not part of the state dict.
        attributor: Attribution to regularize, or its name; by default gradient x input of the probability.
            "permutation" moves what the head uses: weight its R by .3.
        level: What has the ratio: the mean share of the batch (eq. 1), or the share of each clip.

    Raises:
        ValueError: The ratio cannot be read, the attribution is unknown, or the level does not fit it.

    Example:
        >>> head = nn.Linear(8, 3)
        >>> regularizer = AttributionRegularizer("1:1")
        >>> z = {"audio": torch.randn(4, 5), "video": torch.randn(4, 3)}
        >>> loss = regularizer(lambda z: head(torch.cat([z["audio"], z["video"]], dim=-1)), z)
        >>> loss.backward()
        >>> head.weight.grad.shape
        torch.Size([3, 8])

        By permutation, which moves use:

        >>> regularizer = AttributionRegularizer("audio=1:video=4", "permutation")
        >>> loss = 0.3 * regularizer(lambda z: head(torch.cat([z["audio"], z["video"]], dim=-1)), z)
        >>> bool(0 <= loss < 0.6)
        True
    """

    ratio: Tensor

    def __init__(
        self,
        ratio: str | Sequence[float] | Mapping[str, float],
        attributor: Attributor | str | None = None,
        *,
        level: str = "batch",
    ) -> None:
        super().__init__()
        self.names, self._parts = _parts_of(ratio)
        self.attributor = as_attributor(attributor)
        self.level = level
        check_level("level", level, self.attributor.attribution)
        # not in the state dict: the requested ratio wins over that of a checkpoint
        self.register_buffer("ratio", torch.tensor(self._parts), persistent=False)
        self.register_load_state_dict_pre_hook(_ignore_saved_ratio)
        self._checked: set[tuple[object, ...]] = set()
        self._mean: tuple[list[str], Tensor] | None = None

    @property
    def share(self) -> dict[str, Tensor]:
        """Modality to its mean share in the last batch, a scalar, for curves; empty before the first batch.

        NaN if no clip has a share. Without a graph, and still on the device.
        """
        if self._mean is None:
            return {}
        names, share = self._mean
        return dict(zip(names, share.flatten().unbind(), strict=True))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> AttributionRegularizer:
        """Move to a device; `half()` must not round the ratio."""
        super()._apply(fn, recurse)
        self.ratio = torch.tensor(self._parts, device=self.ratio.device)
        return self

    def extra_repr(self) -> str:
        """Target shares and attribution, for `print`."""
        shares = ":".join(f"{part:.3g}" for part in self._parts)
        return f"{shares}, names={self.names}, {self.attributor}"

    def forward(
        self,
        head: Callable[..., Any],
        z: Mapping[str, Tensor] | Sequence[Tensor],
        present: Any = None,
        *,
        mean: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """R of a batch, a scalar.

        Args:
            head: Module or function that returns logits, or an object with `logits`. It is called as `head(z)` with a
                mapping, or as `head(z, present)` if it takes `present`, or as `head(audio, video)` if its parameters
                are the modalities; and as `head(*z)` with a sequence.
            z: Encodings `(batch, dim)` or `(batch, steps, dim)`: a mapping from modality, or a sequence of tensors.
            present: Bool `(batch, modalities)`, in the order of z; None if every clip has every modality.
            mean: Mean of each modality's z over the train clips, for `Attributor(baseline="mean")`.

        Raises:
            ValueError: ratio, z, present and head do not fit together, or z is not finite.
            RuntimeError: An operation of the head has no second derivative.
        """
        with torch.inference_mode(False), torch.enable_grad():
            named = named_encodings(z)
            ratio = self._ratio(list(named))
            call = head if hasattr(head, "closed_form") else AnyHead(head, [*named], as_arguments=not _is_mapping(z))
            _, share, counted = self.attributor.shares(call, named, present, mean=mean, create_graph=True)
            of_sums = self.attributor.uses_partners
            value = regularization(share, counted, ratio.to(share.device), level=self.level, of_sums=of_sums)
            self._mean = [*named], mean_share(share.detach(), counted, of_sums=of_sums)
            if isinstance(call, AnyHead) and call.identity not in self._checked:
                check_second_derivative(value, call.inputs)
                self._checked.add(call.identity)
        if not value.requires_grad:
            warnings.warn(
                "R has no gradient: head has no parameter that requires one, or runs under no_grad", stacklevel=2
            )
        return value

    def _ratio(self, modalities: Sequence[str]) -> Tensor:
        """Target shares in the order of the modalities."""
        if self.names is not None and set(self.names) != set(modalities):
            raise ValueError(
                f"ratio must name the modalities of z ({', '.join(modalities)}), got {', '.join(self.names)}. "
                "Name the same, or pass the ratio in the order of z, such as 3:1."
            )
        if len(self._parts) != len(modalities):
            raise ValueError(
                f"ratio must have one part for each of {', '.join(modalities)}, got {len(self._parts)} parts. "
                f"Pass for example {':'.join('1' for _ in modalities)}."
            )
        return self.ratio if self.names is None else self.ratio[[self.names.index(name) for name in modalities]]


def _parts_of(ratio: object) -> tuple[list[str] | None, tuple[float, ...]]:
    """Names of a ratio, None if it has none, and its target shares in their order."""
    if isinstance(ratio, str):
        names, _ = ratio_parts(ratio)
        return names, parse_ratio(ratio, names)
    try:
        values = list(ratio.values() if isinstance(ratio, Mapping) else ratio)  # type: ignore[call-overload]
        text = ":".join(repr(float(part)) for part in values)
    except (TypeError, ValueError):
        raise ValueError(
            f"ratio must be text, numbers, or numbers by name, got {ratio!r}. "
            "Pass for example '3:1', (3, 1) or {'audio': 3, 'video': 1}."
        ) from None
    return [str(name) for name in ratio] if isinstance(ratio, Mapping) else None, parse_ratio(text)


def _is_mapping(z: object) -> bool:
    return hasattr(z, "keys")


def _ignore_saved_ratio(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Checkpoints of version 0.1 hold the ratio; a strict load must accept them."""
    state_dict.pop(f"{prefix}ratio", None)
