"""`onnx:<file>`: any exported network of one input, run by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from amr.extract.encoders.base import Encoder, Prepare
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.file_tensor import as_tensor, forget_all
from amr.extract.encoders.model import at_most
from amr.extract.encoders.optional.exported_file import read_exported
from amr.extract.encoders.optional.exported_network import Network, Port
from amr.extract.encoders.optional.network_frames import PrepareFrames, layout_of
from amr.extract.encoders.spec import Spec, height_and_width
from amr.extract.media.sampling import FrameSampling

if TYPE_CHECKING:
    from typing import Self

RANKS = {2: "wave", 3: "wave", 4: "picture", 5: "frames"}  # number of axes of the input
OWN = {  # options of some kinds of input only
    "piece_seconds": ("wave",),
    "frames": ("picture", "frames"),
    "size": ("picture", "frames"),
    "mean": ("picture", "frames"),
    "std": ("picture", "frames"),
    "crop": ("picture", "frames"),
    "layout": ("picture", "frames"),
    "rate": ("wave", "picture"),
}
DEFAULT_FRAMES = {"picture": 8, "frames": 16}
SAMPLE_RATE_HZ = 16000
SIZE = "224"
ROWS_AT_ONCE = 16
PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class OnnxOptions:
    """Options of `onnx`.

    Args:
        input: Input of the network, wave `(batch, samples)`, picture `(batch, 3, height, width)` or frames
            `(batch, frames, 3, height, width)`; by default by its number of axes.
        rate: Sample rate of a wave in Hz (default 16000); number of pictures per second, instead of `frames`.
        piece_seconds: Length of sound that the network hears at once, if it takes any length. Longer clips are cut
            into equal pieces.
        frames: Number of frames, spread evenly over the clip; by default the network's own, else 8 pictures or 16
            frames.
        size: Size of a picture in pixels, N or HxW; by default the network's own, else 224.
        mean: Mean that is subtracted from values from 0 to 1, one number or three, red:green:blue.
        std: Number by which they are then divided, one or three, red:green:blue.
        crop: Part of the frames that is used, as fractions left:top:right:bottom; none for all of it.
        layout: Order of the axes of pictures; by default, the axis of length 3 is that of the colors.
        output: Name of the output; required if there are several.
        keep: Output: the mean over pieces, pictures and steps, or one vector for each (steps).
        max_steps: Maximum number of steps, with keep=steps.
    """

    input: Literal["wave", "picture", "frames"] | None = None
    rate: float | None = None
    piece_seconds: float = 60.0
    frames: int | None = None
    size: str | None = None
    mean: str = "0"
    std: str = "1"
    crop: str = NONE
    layout: Literal["chw", "hwc", "tchw", "cthw", "thwc"] | None = None
    output: str | None = None
    keep: Literal["mean", "steps"] = "mean"
    max_steps: int = 64

    def __post_init__(self) -> None:
        for name in ("frames", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. Leave it out for its default.")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be above 0, got {self.rate:g}. Leave it out for its default.")
        if not 1 <= self.piece_seconds <= 3600:
            raise ValueError(f"piece_seconds must be 1 to 3600, got {self.piece_seconds:g}. Pass piece_seconds=60.")
        if self.input is not None:
            self.check_kind(self.input)
        for name in ("mean", "std"):
            self.colors(name)
        Crop.parse(self.crop)
        if self.size is not None:
            height, width = height_and_width("size", self.size, SIZE)
            object.__setattr__(self, "size", str(height) if height == width else f"{height}x{width}")

    def check_kind(self, kind: str) -> None:
        """Refuse options that this kind of input does not have.

        Raises:
            ValueError: There is one.
        """
        for name, kinds in OWN.items():
            value = getattr(self, name)
            if kind not in kinds and value != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{name} must be left out for input={kind}, got {value}. Leave it out.")
        if kind == "wave" and self.rate is not None and not (self.rate >= 1000 and self.rate.is_integer()):
            raise ValueError(f"rate must be a sample rate of at least 1000 Hz, got {self.rate:g}. Pass rate=16000.")
        if kind == "picture" and self.rate is not None and self.frames is not None:
            raise ValueError(f"frames must be left out with rate, got {self.frames}. Leave out one of them.")

    def colors(self, name: str) -> tuple[float, ...]:
        """Value of `mean` or `std` for red, green and blue.

        Raises:
            ValueError: It is neither one finite number nor three, or a std is 0.
        """
        text = getattr(self, name)
        try:
            values = [float(each) for each in text.split(":")]
        except ValueError:
            values = []
        if len(values) not in (1, 3) or not all(map(math.isfinite, values)) or (name == "std" and 0 in values):
            example = "0.485:0.456:0.406" if name == "mean" else "0.229:0.224:0.225"
            raise ValueError(f"{name} must be one number or red:green:blue, got {text!r}. Type {name}={example}.")
        return tuple(values * (3 // len(values)))


class PrepareWave(Prepare):
    """Function from `(samples,)` to `(samples,)`."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def __call__(self, media: np.ndarray) -> Tensor:
        """The sound as it is."""
        return as_tensor(media)


class Onnx(Encoder):
    """The `onnx` encoder. Each clip goes through the network alone, so that no other can change its embedding."""

    def __init__(self, spec: Spec) -> None:
        options = spec.read(OnnxOptions)
        file = read_exported(spec.model, "onnx")
        self.network = Network(file, "onnx")
        self.port = self.network.only_input()
        self.kind = _kind(self.port, options)
        options.check_kind(self.kind)
        self.output = self.network.output_named(options.output).name
        self.spec = spec.canonical(options)
        self.weights_sha256 = file.sha256
        self.modality = "audio" if self.kind == "wave" else "video"
        self.keep = options.keep
        self.prepare, described = self._prepare(options)
        self.embed_dim = self._probe()
        one = self.kind == "frames"  # one step of a clip
        self.max_steps = None if self.keep == "mean" else 1 if one else options.max_steps
        self.preprocessing = {
            "input": self.kind,
            **described,
            "output": self.output,
            "keep": self.keep,
            "max_steps": options.max_steps,
        }

    def _prepare(self, options: OnnxOptions) -> tuple[Prepare, dict[str, Any]]:
        """Prepare of this kind of input, and its settings for `preprocessing`."""
        if self.kind == "wave":
            rate = int(options.rate or SAMPLE_RATE_HZ)
            fixed = self.port.shape[-1]
            self.most_samples = fixed or round(options.piece_seconds * rate)
            own = {"piece_samples": fixed} if fixed else {"piece_seconds": options.piece_seconds}
            return PrepareWave(rate), {"sample_rate": rate, **own}
        layout = layout_of(self.port, self.kind, options.layout)
        sizes = dict(zip(layout, self.port.shape[1:], strict=True))
        height, width = _agreed(options.size, sizes["h"], sizes["w"])
        frames = options.frames or DEFAULT_FRAMES[self.kind]
        if (own_frames := sizes.get("t")) is not None:
            if options.frames not in (None, own_frames):
                raise ValueError(f"frames must be {own_frames} for {self.port}, got {options.frames}. Leave it out.")
            frames = own_frames
        sampling = FrameSampling(num_frames=frames) if options.rate is None else FrameSampling(rate_hz=options.rate)
        mean, std = options.colors("mean"), options.colors("std")
        described = {
            "frames": sampling.num_frames,
            "rate": options.rate,
            "size": [height, width],
            "mean": list(mean),
            "std": list(std),
            "crop": options.crop,
            "layout": layout,
        }
        return PrepareFrames(sampling, Crop.parse(options.crop), (height, width), mean, std, layout), described

    def _probe(self) -> int:
        """Length of an embedding, from a first run on noise.

        Raises:
            ValueError: The network cannot be run on this input, or gives something other than a vector for each row.
        """
        noise = np.random.default_rng(0).random(_filled(self.port, self.prepare, self.kind), dtype=np.float32)
        try:
            found = self._run(noise)
        except Exception as error:
            reason = str(error).strip().split("\n")[0].rpartition(" : ")[2].rstrip(". ")
            raise ValueError(
                f"onnx must be able to run on input={self.kind} of shape {noise.shape}, got {reason}. "
                "Give size=, frames= or rate= as the network was exported."
            ) from error
        if found.ndim not in (2, 3) or len(found) != len(noise) or found.dtype.kind != "f":
            others = ", ".join(str(each) for each in self.network.outputs if each.name != self.output)
            advice = f"Choose another output: {others}" if others else "Export the network with such an output"
            raise ValueError(
                "output must be numbers shaped (batch, dim) or (batch, steps, dim), got "
                f"{self.output} of shape {found.shape} for a batch of {len(noise)}. {advice}."
            )
        return int(found.shape[-1])

    def to(self, device: torch.device | str) -> Self:
        """Run on a device."""
        self.network.to(device)
        return self

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Embed each clip.

        Args:
            inputs: Sound `(samples,)`, pictures `(pictures, ...)`, or frames `(1, ...)` of each clip.
        """
        return [self._embed(each) for each in inputs]

    def _embed(self, clip: Tensor) -> Tensor:
        """Embedding of one clip; long ones go through in parts, of which only means are kept."""
        total, num, kept = torch.zeros(self.embed_dim, dtype=torch.float64), 0, []
        for rows in self._rows(clip):
            steps = torch.from_numpy(self._run(rows).astype(np.float32))
            if self.kind != "wave" and steps.ndim == 3:
                steps = steps.mean(1)  # tokens of a picture
            steps = steps.flatten(0, -2)  # (steps, embed_dim)
            total, num = total + steps.sum(0, dtype=torch.float64), num + len(steps)
            kept += [] if self.max_steps is None else [at_most(steps, self.max_steps)]
            forget_all([clip])
        return (total / num).float() if self.max_steps is None else at_most(torch.cat(kept), self.max_steps)

    def _rows(self, clip: Tensor) -> Iterator[np.ndarray]:
        """Parts of a clip that go through the network at once."""
        if self.kind != "wave":
            for first in range(0, len(clip), ROWS_AT_ONCE):
                yield clip[first : first + ROWS_AT_ONCE].numpy()
            return
        for piece in pieces(clip, self.most_samples, fixed=self.port.shape[-1] is not None):
            yield piece.numpy()[None] if len(self.port.shape) == 2 else piece.numpy()[None, None]

    def _run(self, rows: np.ndarray) -> np.ndarray:
        """Output for rows, `(rows, ...)`. A network of a fixed batch gets as many, padded with zeros."""
        size = self.port.shape[0] or len(rows)
        found = []
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            padded = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])
            found.append(self.network.run(padded, [self.output])[self.output][: len(batch)])
        return np.concatenate(found)


def build(spec: Spec, name: str) -> Onnx:
    """Build the encoder of a spec."""
    if spec.model is None:
        raise ValueError(f"onnx must name a file, got {str(spec)!r}. Type onnx:model.onnx,input=picture.")
    return Onnx(spec)


def pieces(sound: Tensor, num_samples: int, *, fixed: bool) -> Iterator[Tensor]:
    """Cut a sound into pieces that go through a network.

    Args:
        sound: Sound, `(samples,)`.
        num_samples: Number of samples of a piece.
        fixed: Whether every piece must have that number: then the last is padded with silence, or left out if it is
            shorter than half and not the only one. Otherwise, pieces are of equal length, and at most that long.

    >>> [piece.tolist() for piece in pieces(torch.arange(1.0, 6.0), 3, fixed=True)]
    [[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]
    >>> [len(piece) for piece in pieces(torch.zeros(10), 4, fixed=False)]
    [4, 4, 2]
    """
    step = num_samples
    if not fixed:
        step = math.ceil(len(sound) / math.ceil(len(sound) / num_samples))
    for start in range(0, len(sound), step):
        piece = sound[start : start + step]
        if fixed and len(piece) < step:
            if start and 2 * len(piece) < step:
                return
            piece = torch.nn.functional.pad(piece, (0, step - len(piece)))
        yield piece


def _kind(port: Port, options: OnnxOptions) -> str:
    """Kind of input, which must fit the number of axes."""
    kind = RANKS.get(len(port.shape))
    if kind is None or (options.input or kind) != kind or (len(port.shape) == 3 and port.shape[1] not in (1, None)):
        advice = (
            f"Type input={kind}." if kind not in (None, options.input) else "Export the network with such an input."
        )
        wanted = f"fit input={options.input}" if options.input else "be a wave, a picture or frames"
        raise ValueError(
            f"onnx must {wanted}: (batch, samples), (batch, 3, height, width) or (batch, frames, 3, height, width), "
            f"got the input {port}. {advice}"
        )
    return kind


def _agreed(size: str | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width of a picture: the network's own where it has them."""
    asked = height_and_width("size", size or SIZE, SIZE)
    own = (height or asked[0], width or asked[1])
    if size is not None and own != asked:
        raise ValueError(f"size must be {own[0]}x{own[1]} for this network, got {size}. Leave it out.")
    return own


def _filled(port: Port, prepare: Prepare, kind: str) -> tuple[int, ...]:
    """Shape of an input, its free axes filled as clips will fill them."""
    batch = port.shape[0] or 2
    if kind == "wave":
        assert prepare.sample_rate_hz is not None
        samples = port.shape[-1] or round(PROBE_SECONDS * prepare.sample_rate_hz)
        return (batch, samples) if len(port.shape) == 2 else (batch, 1, samples)
    assert isinstance(prepare, PrepareFrames)
    return (batch, *prepare.row_shape)
