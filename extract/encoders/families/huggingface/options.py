"""Options of `hf`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from amr.common.registry import unknown
from amr.extract.encoders.crop import NONE, Crop
from amr.extract.encoders.families.huggingface.architectures import POOLS, Architecture
from amr.extract.encoders.weights import check_seed

# option -> kinds that have it
KINDS_WITH = {
    "frames": ("pictures",),
    "rate": ("pictures", "video"),
    "crop": ("pictures", "video"),
    "piece_seconds": ("speech",),
    "long": ("text",),
}
WORDS = {"windows": "windows of sound"}
DEFAULT_FRAMES = 8
DEFAULT_PIECE_SECONDS = 60.0


@dataclass(frozen=True)
class HfOptions:
    """Options of `hf`.

    Args:
        tower: Tower of a model that has two, by its modality: video, audio or text; by default the embedding's name.
        pool: Output: the model's own summary of its input (cls), the mean or the maximum over its tokens, or one
            vector per frame, piece, step of time or token (steps). By default what the model was trained for.
        layer: Layer of the transformer, counted from 1, before any last normalization; by default the model's output.
        frames: Number of frames, spread evenly over the clip (default 8), for models of single pictures.
        rate: Number of frames per second, instead. A model of video then sees pieces of as many frames as it takes,
            the last padded with its last frame.
        crop: Part of the frames that is passed to the model's processor, as fractions left:top:right:bottom.
        max_steps: Maximum number of steps, with pool=steps. More are averaged over this many equal parts.
        piece_seconds: Length of sound that a speech model hears at once (default 60). Longer clips are cut into equal
            pieces, whose steps follow each other.
        long: Text that is longer than the model reads at once: in several windows, all of which count, or cut
            (truncate).
        revision: Branch, tag or commit of a model on the Hub.
        weights: Weights: pretrained, or random.
        seed: Seed of random weights.
    """

    tower: str | None = None
    pool: str | None = None
    layer: int | None = None
    frames: int | None = None
    rate: float | None = None
    crop: str = NONE
    max_steps: int = 64
    piece_seconds: float | None = None
    long: Literal["windows", "truncate"] = "windows"
    revision: str | None = None
    weights: Literal["pretrained", "random"] = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed, self.weights)
        if self.pool is not None and self.pool not in POOLS:
            raise unknown("pool", self.pool, POOLS)
        if self.frames is not None and self.rate is not None:
            raise ValueError(f"frames must be left out with rate, got {self.frames}. Leave out one of them.")
        for name in ("layer", "frames", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. Leave it out for its default.")
        if self.piece_seconds is not None and not 1 <= self.piece_seconds <= 3600:
            raise ValueError(f"piece_seconds must be 1 to 3600, got {self.piece_seconds:g}. Pass piece_seconds=60.")
        Crop.parse(self.crop)

    def check_for(self, model: str, architecture: Architecture) -> None:
        """Refuse options that a tower does not have.

        Raises:
            ValueError: The message names the option.
        """
        for each in fields(self):
            value, kinds = getattr(self, each.name), KINDS_WITH.get(each.name)
            if kinds is not None and value != each.default and architecture.kind not in kinds:
                kind = WORDS.get(architecture.kind, architecture.kind)
                raise ValueError(
                    f"{each.name} must be left out for hf:{model}, a model of {kind}, got {value}. Leave it out."
                )
        if self.layer is not None and not architecture.has_layers:
            raise ValueError(
                f"layer must be left out for hf:{model}, whose layers give no tokens, got {self.layer}. Leave it out."
            )
        pools = architecture.pools(self.layer)
        if self.pool is not None and self.pool not in pools:
            at = "" if self.layer is None else f" at layer={self.layer}"
            raise ValueError(
                f"pool must be {' or '.join(pools)} for hf:{model}{at}, got {self.pool}. Type pool={pools[0]}."
            )

    def pool_for(self, architecture: Architecture, own: str | None = None) -> str:
        """Pooling that is used.

        Args:
            architecture: Tower of the model.
            own: Pooling that the model's folder asks for, if any.
        """
        pools = architecture.pools(self.layer)
        wanted = (self.pool, own, architecture.pool)
        return next(pool for pool in (*wanted, *pools) if pool is not None and pool in pools)

    def described(self) -> dict[str, Any]:
        """Options as saved in `preprocessing`: those that are set, without weights."""
        left_out = ("tower", "pool", "revision", "weights", "seed")
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in left_out and getattr(self, each.name) != each.default
        }
