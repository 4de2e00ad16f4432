"""Augmentation of clips: sound is cropped, shifted and masked in time, frames are cropped, shifted and mirrored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.common.devices import upload
from amr.fusion.end_to_end.config import AugmentConfig
from amr.fusion.run_axis.seeds import generator

SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]  # torchvision's defaults: area and aspect ratio of a resized crop


class Augment:
    """Random changes of clips. Draws come from one stream on the CPU, so that devices agree.

    The resized crop is torchvision's `RandomResizedCrop` (Szegedy et al. 2015, section 6), one per clip. Masks are
    those of SpecAugment (Park et al. 2019), one in time and one in frequency. The width is uniform between 0 and the
    configured maximum, the position is uniform. Sound is cropped first, then shifted, then masked: a mask is a part of
    the time that is left. A strength of 0 draws nothing.

    Args:
        config: Strengths of the changes.
        modalities: Embedding name to "audio" or "video".
        seed: Seed of the random stream.
    """

    def __init__(self, config: AugmentConfig, modalities: Mapping[str, str], seed: int) -> None:
        self.config = config
        self._modalities = dict(modalities)
        self._generator = generator(seed, "augmentation")

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Change the clips of an embedding, each independently; returns x itself if nothing is to be done.

        The result has the shape of x, except that sound with a time crop is shorter.

        Args:
            name: Name of the embedding.
            x: Pictures `(run, batch, rows, channels, height, width)`: frames, or pictures of sound with time from
                left to right; pieces of video `(run, batch, pieces, channels, frames, height, width)`; or waveforms
                `(run, batch, samples)`. float16 or float32.
        """
        is_video = self._modalities[name] == "video"
        if x.ndim not in ((6, 7) if is_video else (3, 6)):
            raise ValueError(
                f"{name} must be pictures, pieces of video or waveforms to be augmented, got {tuple(x.shape)}. "
                "Leave out --time-mask, --frequency-mask, --shift, --flip, --resized-crop and --time-crop."
            )
        if is_video:
            return self._video(x)
        return self._waveform(x) if x.ndim == 3 else self._pictures_of_sound(x)

    def state(self) -> Tensor:
        """State of the random stream."""
        return self._generator.get_state()

    def set_state(self, state: Tensor) -> None:
        """Continue the random stream from a state."""
        self._generator.set_state(state)

    def _video(self, x: Tensor) -> Tensor:
        """Crop and resize frames, shift them, repeating the pixels at the edges, and mirror them.

        All frames of a clip are changed in the same way.
        """
        if self.config.resized_crop:
            x = self._resized_crop(x)
        if self.config.shift == 0 and not self.config.flip:
            return x
        clips, (height, width) = x.shape[:2], x.shape[-2:]
        rows = (torch.arange(height) + self._offsets(clips, height)).clamp(0, height - 1)
        columns = (torch.arange(width) + self._offsets(clips, width)).clamp(0, width - 1)
        if self.config.flip:
            mirrored = torch.rand(*clips, 1, generator=self._generator) < 0.5
            columns = torch.where(mirrored, columns.flip(-1), columns)
        return _pick(x, rows, columns)

    def _resized_crop(self, x: Tensor) -> Tensor:
        """Resize a random box of each clip to the whole picture, bilinear, with antialiasing."""
        from torchvision.transforms.v2.functional import resized_crop  # slow: it imports the compiler of torch

        clips, (height, width) = x.flatten(0, 1), x.shape[-2:]
        boxes = self._boxes(clips)
        cropped = [
            resized_crop(clip, *box, [height, width], antialias=True) for clip, box in zip(clips, boxes, strict=True)
        ]
        return torch.stack(cropped).view(x.shape)

    def _boxes(self, clips: Tensor) -> list[tuple[int, int, int, int]]:
        """Top, left, height and width of a random box of each clip, drawn by torchvision."""
        from torchvision.transforms import RandomResizedCrop

        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._generator.get_state())  # it draws from the global stream only
            boxes = [RandomResizedCrop.get_params(clip, SCALE, RATIO) for clip in clips]
            self._generator.set_state(torch.get_rng_state())
        return boxes

    def _pictures_of_sound(self, x: Tensor) -> Tensor:
        """Crop in time, roll in time, then mask with the mean of each channel."""
        clips, (height, width) = x.shape[:2], x.shape[-2:]
        if self.config.time_crop < 1:
            width = self._cropped(width)
            columns = self._starts(torch.full((*clips, 1), x.shape[-1] - width)) + torch.arange(width)
            x = _pick(x, torch.arange(height).expand(*clips, -1), columns)
        if self.config.shift > 0:
            columns = (torch.arange(width) + self._offsets(clips, width)) % width
            x = _pick(x, torch.arange(height).expand(*clips, -1), columns)
        if self.config.time_mask == 0 and self.config.frequency_mask == 0:
            return x
        times = self._strips(x.shape[:3], width, self.config.time_mask)[..., None, :]
        pitches = self._strips(x.shape[:3], height, self.config.frequency_mask)[..., :, None]
        masked = upload((times | pitches).unsqueeze(3), x.device)  # (run, batch, rows, 1, height, width)
        mean = x.mean((-2, -1), keepdim=True, dtype=torch.float32).to(x.dtype)
        return torch.where(masked, mean, x)

    def _waveform(self, x: Tensor) -> Tensor:
        """Crop in time, then silence one stretch of time; padding, which is NaN, stays."""
        if self.config.time_crop < 1:
            x = self._cropped_waveform(x)
        if self.config.time_mask == 0:
            return x
        silent = upload(self._strips(x.shape[:2], x.shape[2], self.config.time_mask), x.device)
        return x.masked_fill(silent & ~x.isnan(), 0)

    def _cropped_waveform(self, x: Tensor) -> Tensor:
        """Crop each waveform to the same part of its own length, and pad it with NaN."""
        lengths = (~x.isnan()).sum(-1, keepdim=True).cpu()  # (run, batch, 1); the starts are drawn there
        cropped = (self.config.time_crop * lengths.double()).round().long().clamp(min=1)
        positions = torch.arange(self._cropped(x.shape[2]))
        samples = self._starts((lengths - cropped).clamp(min=0)) + positions
        x = x.gather(2, upload(samples.clamp(max=x.shape[2] - 1), x.device))
        return x.masked_fill(upload(positions >= cropped, x.device), torch.nan)

    def _cropped(self, size: int) -> int:
        """Size of a cropped sound, at least 1."""
        return max(1, round(self.config.time_crop * size))

    def _starts(self, last: Tensor) -> Tensor:
        """Random integers from 0 to `last`, inclusive."""
        draws = torch.rand(last.shape, generator=self._generator, dtype=torch.float64)
        return (draws * (last + 1)).floor().long()

    def _offsets(self, clips: torch.Size, size: int) -> Tensor:
        """Random integers `(run, batch, 1)` of at most shift * size in either direction."""
        if self.config.shift == 0:
            return torch.zeros(*clips, 1, dtype=torch.long)
        most = int(self.config.shift * size)
        return torch.randint(-most, most + 1, (*clips, 1), generator=self._generator)

    def _strips(self, pictures: torch.Size, size: int, most: float) -> Tensor:
        """Random strips to mask, at most `most` of the size: bool `(*pictures, size)`."""
        if most == 0:
            return torch.zeros(*pictures, size, dtype=torch.bool)
        draws = torch.rand(2, *pictures, 1, generator=self._generator, dtype=torch.float64)
        length = (draws[0] * (int(most * size) + 1)).floor()
        start = (draws[1] * (size - length + 1)).floor()
        positions = torch.arange(size)
        return (positions >= start) & (positions < start + length)


def _pick(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rearrange rows and columns of pictures.

    Args:
        x: Pictures, `(run, batch, ..., height, width)`.
        rows: Source index of each row of the result, `(run, batch, rows)`.
        columns: Source index of each column of the result, `(run, batch, columns)`.

    Returns:
        Pictures, `(run, batch, ..., rows, columns)`.
    """
    planes = x.reshape(rows.shape[0] * rows.shape[1], -1, *x.shape[-2:])  # (clips, planes, height, width)
    clip = torch.arange(len(planes), device=x.device)[:, None, None, None]
    plane = torch.arange(planes.shape[1], device=x.device)[:, None, None]
    row = upload(rows, x.device).reshape(len(planes), 1, -1, 1)
    column = upload(columns, x.device).reshape(len(planes), 1, 1, -1)
    return planes[clip, plane, row, column].view(*x.shape[:-2], rows.shape[-1], columns.shape[-1])
