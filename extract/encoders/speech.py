"""Speech models as modules to be trained, on sounds of several lengths side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from amr.extract.encoders.networks import num_rows, up_to


class MeanOverTime(nn.Module):
    """A layer of a speech model averaged over each sound's time; no sound is changed by the zeros that fill it up.

    torchaudio's own `lengths` do not do: WavLM refuses them, and the first normalisation of the BASE models is over
    time, filling included.

    Args:
        model: a torchaudio Wav2Vec2Model; (batch, samples) to (batch, steps, embed_dim) at each layer.
        layer: whose output is used, counted from 1.
        fewest_samples: what the model needs for one step.
    """

    def __init__(self, model: nn.Module, layer: int, fewest_samples: int) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.fewest_samples = fewest_samples

    def forward(self, sounds: Tensor) -> Tensor:
        """(batch, samples) to (batch, embed_dim) float32; a sound ends with its last sample that is not zero."""
        features, lengths = self._convolved(sounds, num_rows(sounds).clamp(min=self.fewest_samples))
        there = up_to(lengths, features.shape[1])  # (batch, steps)
        encoder: Any = self.model.encoder
        steps = encoder.feature_projection(features) * there[..., None]
        steps = encoder.transformer._preprocess(steps)
        layers = encoder.transformer.layers[: self.layer]
        masks = _masks(layers[0].attention, there)
        position_bias = None
        for layer in layers:
            steps, position_bias = layer(steps, position_bias=position_bias, **masks)
        return (steps.float() * there[..., None]).sum(1) / lengths[:, None]

    def _convolved(self, sounds: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) to (batch, steps, features), and how many of the steps each sound has."""
        hidden = sounds[:, None]
        extractor: Any = self.model.feature_extractor
        for block in extractor.conv_layers:
            if not isinstance(block.layer_norm, nn.GroupNorm):
                hidden, lengths = block(hidden, lengths)
                continue
            hidden = block.conv(hidden)
            lengths = (lengths - block.kernel_size) // block.stride + 1
            hidden = functional.gelu(_normalised_over_time(block.layer_norm, hidden, lengths))
        return hidden.transpose(1, 2), lengths


def _masks(attention: nn.Module, there: Tensor) -> dict[str, Tensor]:
    """What keeps a layer from looking at steps (batch, steps) that are not there."""
    if isinstance(attention, WavLMSelfAttention):
        return {"key_padding_mask": torch.zeros(there.shape, device=there.device).masked_fill(~there, -torch.inf)}
    return {"attention_mask": there[:, None, None].expand(-1, 1, there.shape[1], -1)}


def _normalised_over_time(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """(batch, channels, time), each channel by its mean and variance over a sound's own time."""
    hidden = hidden.float() * up_to(lengths, hidden.shape[2])[:, None]
    mean = hidden.sum(2) / lengths[:, None]  # (batch, channels)
    variance = (hidden.square().sum(2) / lengths[:, None] - mean.square()).clamp(min=0)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return hidden * scale[..., None] + (norm.bias - mean * scale)[..., None]
