"""Encoders in the place of adapters: what the trainer of heads trains end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from amr.fusion.data.clips import Batch
from amr.fusion.model import FusionModel, ModelShape


class OneRun(nn.Module):
    """A network as the trainer wants it: every weight and buffer with a leading run axis, of one.

    Methods then scale, perturb and clip its gradients as they do those of adapters.

    Args:
        network: `(batch, ...)` to `(batch, dim)`; its weights are copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            self.register_parameter(_flat(name), nn.Parameter(parameter.detach().clone().unsqueeze(0)))
        for name, buffer in network.named_buffers():
            self.register_buffer(_flat(name), buffer.detach().clone().unsqueeze(0))
        self._network = [network]  # in a list, so that the weights it came with are nobody's

    def forward(self, x: Tensor) -> Tensor:
        """`(1, batch, ...)` as stored to `(1, batch, dim)` float32."""
        try:
            out = self._call(x.squeeze(0).float(), self.training)
        except ValueError:
            if not self.training:
                raise
            # of one value there is no variance: a lone clip takes the statistics so far
            out = self._call(x.squeeze(0).float(), training=False)
        return out.float().unsqueeze(0)

    def _call(self, x: Tensor, training: bool) -> Tensor:
        network = self._network[0].train(training)
        # bfloat16 has float32's range, so that no gradient needs a scale
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
            return functional_call(network, self.weights(), (x,))

    def weights(self) -> dict[str, Tensor]:
        """The network's weights and buffers by its own names, without the run axis; views of this module's."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name.replace("/", "."): tensor.squeeze(0) for name, tensor in tensors.items()}


def _flat(name: str) -> str:
    """A name without points, which a module keeps for its children."""
    return name.replace(".", "/")


class EncoderModel(FusionModel):
    """z^m = encoder(clip), logits = head(z); one run.

    Args:
        shape: of the head; `embed_dims` are those of the encoders.
        seeds: of the head; one.
        networks: modality to its network, whose weights are copied.
    """

    def __init__(self, shape: ModelShape, seeds: Sequence[int], networks: Mapping[str, nn.Module]) -> None:
        super().__init__(shape, seeds)
        self.adapters.update({m: OneRun(networks[m]) for m in shape.embed_dims})

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Each modality's z, `(1, batch, dim)`; 0 where the clip lacks the modality.

        Absent clips do not go through the encoder: their zeros would enter its batch statistics.
        """
        z = {}
        for i, (m, x) in enumerate(batch.embeddings.items()):
            there = batch.present[0, :, i]
            z[m] = x.new_zeros(1, len(there), self.shape.embed_dims[m], dtype=torch.float32)
            if bool(there.all()):
                z[m] = self.adapters[m](x)
            elif bool(there.any()):
                z[m][:, there] = self.adapters[m](x[:, there])
        return z
