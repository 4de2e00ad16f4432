"""Models of sound: speech models on waveforms, and models of spectrograms on windows of sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from amr.extract.encoders.base import Prepare
from amr.extract.encoders.families.huggingface.architectures import Architecture
from amr.extract.encoders.families.huggingface.encoder import HfEncoder, find_processor
from amr.extract.encoders.families.huggingface.options import DEFAULT_PIECE_SECONDS, HfOptions
from amr.extract.encoders.families.huggingface.repository import Repository
from amr.extract.encoders.families.huggingface.tower import quiet
from amr.extract.encoders.file_tensor import as_tensor
from amr.extract.encoders.model import rows_of_all
from amr.extract.encoders.sound.waveforms import PooledSteps, WaveformEncoder, normalized
from amr.extract.encoders.spec import Spec
from amr.extract.media.spool import Spool, blocks, mapping_of

NORMALIZATION_EPS = 1e-7  # of the library's own extractor
FEWEST_SPECTRUM_SAMPLES = 400  # one window of a spectrogram
WHISPER_HOPS = 2  # columns of a spectrogram in one step of Whisper's encoder


class PrepareWaveform(Prepare):
    """Function from `(samples,)` to `(samples,)`, by the model's own extractor.

    Args:
        extractor: Feature extractor of transformers.
        fewest_samples: Number of samples that the model needs; shorter sound is padded with silence.
    """

    waveform = True

    def __init__(self, extractor: Any, fewest_samples: int) -> None:
        self.extractor = extractor
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.fewest_samples = fewest_samples

    def __call__(self, media: np.ndarray) -> Tensor:
        """Prepare one clip's sound."""
        if mapping_of(media) is not None:  # the extractor would take several times its size in memory
            return as_tensor(normalized(media, NORMALIZATION_EPS).finish() if self.extractor.do_normalize else media)
        values = self.extractor(media, sampling_rate=self.sample_rate_hz, return_tensors="np")["input_values"][0]
        sound = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        return functional.pad(sound, (0, max(0, self.fewest_samples - len(sound))))


class HfSpeech(HfEncoder, WaveformEncoder):
    """Encoder of waveforms: wav2vec 2.0, HuBERT, WavLM."""

    steps_are_rows = False
    trainable = False

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options)
        extractor = _extractor(repository)
        self.fewest_samples = _receptive_field(self.config.conv_kernel, self.config.conv_stride)
        self.most_samples = round((options.piece_seconds or DEFAULT_PIECE_SECONDS) * extractor.sampling_rate)
        self.prepare = PrepareWaveform(extractor, self.fewest_samples)

    def num_steps(self, num_samples: int) -> int:
        """Number of steps of a sound."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def forward(self, rows: Tensor) -> Tensor:
        """Output of the chosen layer, `(clips, steps, embed_dim)`, from `(clips, samples)`."""
        return self.model.tokens(input_values=rows)


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Number of samples that convolutions need for one output.

    >>> _receptive_field((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    400
    """
    num = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        num = (num - 1) * stride + kernel
    return num


class PrepareWindows(Prepare):
    """Function from `(samples,)` to windows of a spectrogram, `(windows, *shape)`, by the model's own extractor.

    The sound is cut so that the extractor neither truncates nor draws parts at random.

    Args:
        extractor: Feature extractor of transformers.
        key: Name of the model's input.
        most_samples: Number of samples in one window.
        is_padded: Whether windows are full ones, the last of which the extractor pads with silence. Then a last row
            is added to each, which says how many columns of it are sound. Else they are equal pieces.
    """

    def __init__(self, extractor: Any, key: str, most_samples: int, *, is_padded: bool) -> None:
        self.extractor = extractor
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.key = key
        self.most_samples = most_samples
        self.is_padded = is_padded

    def __call__(self, media: np.ndarray) -> Tensor:
        """Spectrograms of one clip's sound."""
        if len(media) < FEWEST_SPECTRUM_SAMPLES:
            media = np.pad(media, (0, FEWEST_SPECTRUM_SAMPLES - len(media)))
        length = self.most_samples
        if not self.is_padded:
            length = math.ceil(len(media) / math.ceil(len(media) / length))
        windows = Spool()
        for part in blocks(media, length):
            found = self.extractor(part, sampling_rate=self.sample_rate_hz, return_tensors="np")[self.key][0]
            window = np.asarray(found, np.float32)
            if self.is_padded:
                columns = math.ceil(len(part) / self.extractor.hop_length)
                window = np.concatenate([window, np.full((1, window.shape[1]), columns, np.float32)])
            windows.append(window[None])
        return as_tensor(windows.finish())


class HfWindows(HfEncoder):
    """Encoder of windows of a spectrogram as a whole: AST, CLAP."""

    rows_at_once = 16
    trainable = False

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options)
        extractor = _extractor(repository)
        self.is_fused = getattr(extractor, "truncation", "") == "fusion"
        self.is_clap = architecture.features != ""
        key = "input_features" if self.is_clap else "input_values"
        self.prepare: PrepareWindows = PrepareWindows(extractor, key, _window(extractor), is_padded=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Features `(windows, embed_dim)`, from spectrograms."""
        if not self.is_clap:
            return self.model(rows, "input_values")
        # for a single clip, the library's extractor marks it as longer if the model fuses several scales
        is_longer = torch.full((len(rows), 1), self.is_fused, device=rows.device)
        return self.model(rows, "input_features", is_longer=is_longer)


def _extractor(repository: Repository) -> Any:
    """Feature extractor of a model."""
    with quiet():
        return find_processor(transformers.AutoFeatureExtractor.from_pretrained, repository, "feature extractor")


def _window(extractor: Any) -> int:
    """Number of samples that an extractor takes without cutting them."""
    if hasattr(extractor, "nb_max_samples"):  # CLAP's
        return int(extractor.nb_max_samples)
    return int(extractor.max_length * extractor.sampling_rate // 100)  # AST's columns are 10 ms apart


class HfWhisper(HfEncoder):
    """Encoder of Whisper on windows of 30 s. The steps of the silence that pads the last one are left out."""

    rows_at_once = 16
    steps_are_rows = False
    trainable = False

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options)
        extractor = _extractor(repository)
        self.prepare = PrepareWindows(extractor, "input_features", int(extractor.n_samples), is_padded=True)

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pass the windows of all clips through the model together, then pool each clip's steps.

        Args:
            inputs: Windows of each clip, `(windows, mels + 1, columns)`.
        """
        num_steps = [[math.ceil(float(window[-1, 0]) / WHISPER_HOPS) for window in clip] for clip in inputs]
        pooled = [PooledSteps(self.keep, sum(steps), self.max_steps) for steps in num_steps]
        places = [(clip, num) for clip, steps in enumerate(num_steps) for num in steps]
        first = 0
        for rows in rows_of_all(inputs, self.rows_at_once):
            for (clip, num), steps in zip(places[first:], self.features(rows[:, :-1]), strict=False):
                pooled[clip].add(steps[:num])
            first += len(rows)
        return [each.result() for each in pooled]

    def forward(self, rows: Tensor) -> Tensor:
        """Steps of 20 ms, `(windows, steps, embed_dim)`, from `(windows, mels, columns)`."""
        return self.model.tokens(input_features=rows)
