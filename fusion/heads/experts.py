"""Any head beside one linear classifier per modality, logits added (Madaan et al. 2024, I2M2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.axes import mean_over_steps, of_runs
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


def build_head(name: str, shape: HeadShape, draws: Draws) -> Head:
    """A registered head; with experts if the shape has them, and the same initial values as without."""
    head = heads[name](shape, draws)
    return ExpertsHead(head, draws) if shape.experts else head


class ExpertsHead(Head):
    """A product of experts: one that sees all modalities, and one for each that sees it alone.

        log p = log softmax F(z) + sum_m log softmax(W_m z_m + b_m) - log Z,    F any head; so
        logits = F(z) + sum_m (W_m z_m + b_m)

    The paper trains all parts together from trained ones; here they are trained together from the start. For a linear
    head, the function is no new one. A deep head need not learn what each modality says by itself. Experts see the
    mean over the steps of a modality. If it is absent, z_m = 0 and b_m remains, as in any linear layer.

    The fused representation is that of F and all z_m, so that dropout acts on experts as it does in `sum`.

    Args:
        inner: Head that sees all modalities, F.
        draws: Initial values of the experts.
    """

    def __init__(self, inner: Head, draws: Draws) -> None:
        super().__init__(inner.shape, draws)
        self.inner = inner
        dims = inner.shape.embed_dims.values()
        self.experts = nn.ModuleList(StackedLinear(dim, inner.shape.num_classes, draws) for dim in dims)
        self._sizes = [inner.num_features, *dims]
        self.num_features = sum(self._sizes)
        self.closed_form = inner.closed_form and not inner.takes_steps
        self.takes_steps, self.shares_inputs = inner.takes_steps, inner.shares_inputs

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Features of the inner head, then each z_m, `(run, batch, num_features)`."""
        features = self.inner.fuse(z, present)
        inputs = [of_runs(mean_over_steps(z[m]), len(features)) for m in self.modalities]
        return torch.cat([features, *inputs], dim=-1)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        of_inner, *inputs = features.split(self._sizes, dim=-1)
        logits = [layer(x) for layer, x in zip(self.experts, inputs, strict=True)]
        return torch.stack([self.inner.classify(of_inner), *logits]).sum(0)

    def modality_logits(self, z: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Part of each modality in the inner head's logits, if they are a sum, and its expert's; else None."""
        parts = self.inner.modality_logits(z)
        if parts is None:
            return None
        return {
            m: parts[m] + layer(mean_over_steps(z[m])) for m, layer in zip(self.modalities, self.experts, strict=True)
        }

    def scale_modalities(self, factors: Sequence[float]) -> bool:
        """Multiply the weights of each modality, in the inner head and its expert; False if the former cannot."""
        if not self.inner.scale_modalities(factors):
            return False
        with torch.no_grad():
            for layer, factor in zip(cast("list[StackedLinear]", self.experts), factors, strict=True):
                layer.weight.mul_(factor)
        return True

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """Cotangent `(run, batch, classes)` to the gradient of each z, `(run, batch, dim)`."""
        gradients = self.inner.input_gradient(features[..., : self.inner.num_features], cotangent)
        layers = zip(self.modalities, cast("list[StackedLinear]", self.experts), strict=True)
        return {m: gradients[m] + layer.input_gradient(cotangent) for m, layer in layers}
