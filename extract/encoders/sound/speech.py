"""Speech models as trainable modules, on batches of sounds of different lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from amr.extract.encoders.networks import num_rows, up_to


class MeanOverTime(nn.Module):
    """A layer of a speech model, averaged over each sound's time. Padding does not change the result.

    torchaudio's own `lengths` do not work here: WavLM refuses them, and the first normalization of the BASE models
    is over time, padding included.

    Args:
        model: Wav2Vec2Model of torchaudio, from `(batch, samples)` to `(batch, steps, embed_dim)` at each layer.
        layer: Layer whose output is used, counted from 1.
        fewest_samples: Number of samples that the model needs for one step.
    """

    def __init__(self, model: nn.Module, layer: int, fewest_samples: int) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.fewest_samples = fewest_samples

    def forward(self, sounds: Tensor) -> Tensor:
        """Embeddings `(batch, embed_dim)` float32, from `(batch, samples)`, padded with NaN."""
        lengths = num_rows(sounds).clamp(min=self.fewest_samples)
        features, lengths = self._convolved(sounds.nan_to_num(nan=0.0), lengths)
        valid = up_to(lengths, features.shape[1])  # (batch, steps)
        encoder: Any = self.model.encoder
        steps = encoder.feature_projection(features) * valid[..., None]
        steps = encoder.transformer._preprocess(steps)
        layers = encoder.transformer.layers[: self.layer]
        masks = _masks(layers[0].attention, valid)
        position_bias = None
        for layer in layers:
            steps, position_bias = layer(steps, position_bias=position_bias, **masks)
        return (steps.float() * valid[..., None]).sum(1) / lengths[:, None]

    def _convolved(self, sounds: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(batch, steps, features)` and number of steps of each sound `(batch,)`, from `(batch, samples)`."""
        hidden = sounds[:, None]
        extractor: Any = self.model.feature_extractor
        for block in extractor.conv_layers:
            if not isinstance(block.layer_norm, nn.GroupNorm):
                hidden, lengths = block(hidden, lengths)
                continue
            hidden = block.conv(hidden)
            lengths = (lengths - block.kernel_size) // block.stride + 1
            hidden = functional.gelu(_normalized_over_time(block.layer_norm, hidden, lengths))
        return hidden.transpose(1, 2), lengths


def _masks(attention: nn.Module, valid: Tensor) -> dict[str, Tensor]:
    """Arguments that make a layer ignore padding, from a mask of the valid steps `(batch, steps)`."""
    if isinstance(attention, WavLMSelfAttention):
        return {"key_padding_mask": torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -torch.inf)}
    return {"attention_mask": valid[:, None, None].expand(-1, 1, valid.shape[1], -1)}


def _normalized_over_time(norm: nn.GroupNorm, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Normalize `(batch, channels, time)`, each channel by its mean and variance over a sound's own time."""
    hidden = hidden.float() * up_to(lengths, hidden.shape[2])[:, None]
    mean = hidden.sum(2) / lengths[:, None]  # (batch, channels)
    variance = (hidden.square().sum(2) / lengths[:, None] - mean.square()).clamp(min=0)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return hidden * scale[..., None] + (norm.bias - mean * scale)[..., None]
