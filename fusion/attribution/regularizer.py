"""The attribution regularizer (paper, eq. 1): distance of the mean shares from the target ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.ratio import parse_ratio, ratio_parts
from amr.fusion.attribution.share import mean_share


def regularization(share: Tensor, counted: Tensor, ratio: Tensor) -> Tensor:
    """R = sum_m | (1/N) sum_i s_i^m - r_m |, `(...)`: one value per run; i over the N clips with a defined share.

    Args:
        share: Shares `(..., clips, modalities)`, with their graph if R is a loss.
        counted: Bool `(..., clips)`: the clips with a defined share. If there are none, R is 0.
        ratio: Target shares r `(..., modalities)`, summing to 1.

    >>> import torch
    >>> regularization(torch.tensor([[0.75, 0.25]]), torch.tensor([True]), torch.tensor([0.5, 0.5]))
    tensor(0.5000)
    """
    any_counted = counted.any(-1, keepdim=True)
    # if no share is defined, divide by the number of all clips: 0 / 0 would be NaN, and so would its gradient
    distance = (mean_share(share, counted | ~any_counted) - ratio).masked_fill(~any_counted, 0)
    return distance.abs().sum(-1)


class AttributionRegularizer(nn.Module):
    """R of the paper (eq. 1), for any training loop.

    z is detached: R trains the head, never the encoders before it.

    Args:
        ratio: Target shares in the order of z: "1:1", "3:1" or (0.7, 0.3). If z is a mapping, shares may be named:
            "audio=3:video=1" or {"audio": 3, "video": 1}.
        attributor: Attribution to regularize; by default gradient x input of the probability.

    Example:
        >>> head = nn.Linear(8, 3)
        >>> regularizer = AttributionRegularizer("1:1")
        >>> z = {"audio": torch.randn(4, 5), "video": torch.randn(4, 3)}
        >>> loss = regularizer(lambda z: head(torch.cat([z["audio"], z["video"]], dim=-1)), z)
        >>> loss.backward()
        >>> head.weight.grad.shape
        torch.Size([3, 8])
    """

    ratio: Tensor

    def __init__(
        self, ratio: str | Sequence[float] | Mapping[str, float], attributor: Attributor | None = None
    ) -> None:
        super().__init__()
        if isinstance(ratio, Mapping):
            text = ":".join(f"{name}={float(part)!r}" for name, part in ratio.items())
        else:
            text = ratio if isinstance(ratio, str) else ":".join(repr(float(part)) for part in ratio)
        self.names, _ = ratio_parts(text)
        self.attributor = Attributor() if attributor is None else attributor
        self.register_buffer("ratio", torch.tensor(parse_ratio(text, self.names)))

    def extra_repr(self) -> str:
        """Target shares and attribution, for `print`."""
        shares = ":".join(f"{part:.3g}" for part in self.ratio.tolist())
        return f"{shares}, names={self.names}, {self.attributor}"

    def forward(
        self,
        head: Callable[..., Tensor],
        z: Mapping[str, Tensor] | Sequence[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        """R of a batch, a scalar.

        Args:
            head: Function of z that returns logits `(batch, classes)`. It is called as `head(z)` with a mapping, and as
                `head(*z)` with a sequence. It must be differentiable (no `no_grad` inside).
            z: Encodings `(batch, dim)` or `(batch, steps, dim)`: a mapping from modality, or a sequence of tensors.
            present: Bool `(batch, modalities)`; None if every clip has every modality.

        Raises:
            ValueError: The ratio does not fit z.
        """
        if isinstance(z, Mapping):
            named, call = z, lambda x, _: head(x)
        else:
            named, call = {str(i): value for i, value in enumerate(z)}, lambda x, _: head(*x.values())
        ratio = self._ratio(named)
        first = next(iter(named.values()))
        if present is None:
            present = torch.ones(len(first), len(named), dtype=torch.bool, device=first.device)
        _, share, counted = self.attributor.shares(call, named, present, create_graph=True)
        return regularization(share, counted, ratio)

    def _ratio(self, z: Mapping[str, Tensor]) -> Tensor:
        """Target shares in the order of z."""
        if self.names is not None and set(self.names) != set(z):
            raise ValueError(
                f"ratio must name the modalities of z ({', '.join(z)}), got {', '.join(self.names)}. "
                "Name the same, or pass the ratio in the order of z, such as 3:1."
            )
        if len(self.ratio) != len(z):
            raise ValueError(
                f"ratio must have one part for each of {', '.join(z)}, got {len(self.ratio)} parts. "
                f"Pass for example {':'.join('1' for _ in z)}."
            )
        return self.ratio if self.names is None else self.ratio[[self.names.index(name) for name in z]]
