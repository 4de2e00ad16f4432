"""Encoders in place of adapters, trained end to end by the trainer of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from amr.common.devices import upload
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.model import FusionModel, ModelShape


class OneRun(nn.Module):
    """Network whose weights and buffers have a leading run axis of size 1, as the trainer needs.

    So methods scale, perturb and clip its gradients like those of adapters.

    Args:
        network: Module from `(batch, ...)` to `(batch, dim)`; its weights are copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            self.register_parameter(_flat(name), nn.Parameter(parameter.detach().clone().unsqueeze(0)))
        for name, buffer in network.named_buffers():
            self.register_buffer(_flat(name), buffer.detach().clone().unsqueeze(0))
        self._network = [network]  # in a list, so that its original weights are not registered

    def forward(self, x: Tensor) -> Tensor:
        """Encode inputs in the store's dtype, `(1, batch, ...)`, to float32 `(1, batch, dim)`."""
        try:
            out = self._call(x.squeeze(0).float(), self.training)
        except ValueError:
            if not self.training:
                raise
            # one value has no variance: batch norm then uses its running statistics
            out = self._call(x.squeeze(0).float(), training=False)
        return out.float().unsqueeze(0)

    def _call(self, x: Tensor, training: bool) -> Tensor:
        network = self._network[0].train(training)
        # bfloat16 has float32's range, so gradients need no scaling
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
            return functional_call(network, self.weights(), (x,))

    def weights(self) -> dict[str, Tensor]:
        """Weights and buffers by the network's own names, without the run axis; views of this module's."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name.replace("/", "."): tensor.squeeze(0) for name, tensor in tensors.items()}


def _flat(name: str) -> str:
    """Name without dots, which modules reserve for their children."""
    return name.replace(".", "/")


class EncoderModel(FusionModel):
    """z^m = encoder(clip), logits = head(z); one run.

    Args:
        shape: Shape of the head; `embed_dims` are those of the encoders.
        seeds: Seed of the head, only one.
        networks: Modality to its network; the weights are copied.
    """

    trains_encoders = True

    def __init__(self, shape: ModelShape, seeds: Sequence[int], networks: Mapping[str, nn.Module]) -> None:
        super().__init__(shape, seeds)
        self.adapters.update({m: OneRun(networks[m]) for m in shape.embed_dims})

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encode each modality: z, `(1, batch, dim)`; 0 if the clip lacks the modality.

        Absent clips skip the encoder: their zeros would enter its batch statistics.
        """
        z = {}
        for i, (m, x) in enumerate(batch.embeddings.items()):
            present = (batch.present if batch.host_present is None else batch.host_present)[0, :, i]
            z[m] = x.new_zeros(1, len(present), self.shape.embed_dims[m], dtype=torch.float32)
            if bool(present.all()):
                z[m] = self.adapters[m](x)
            elif bool(present.any()):
                clips = upload(present.nonzero().squeeze(-1), x.device)
                z[m][:, clips] = self.adapters[m](x[:, clips])
        return z

    @torch.no_grad()
    def encoded(self, clips: Clips) -> tuple[FusionModel, Clips]:
        """The head alone, and the clips with z in place of their media: each clip is encoded once."""
        starts = clips.chunks(1)
        chunks = [self.encode(clips.slice(start, min(start + starts.step, len(clips)), 1)) for start in starts]
        z = {m: torch.cat([chunk[m][0] for chunk in chunks]) for m in self.modalities}
        model = FusionModel(self.shape, [0])
        model.head = self.head
        return model, Clips(z, clips.present, clips.target)
