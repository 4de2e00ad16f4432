"""Base class of the encoders of this family."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from amr.extract.encoders.families.huggingface.architectures import Architecture
from amr.extract.encoders.families.huggingface.options import HfOptions
from amr.extract.encoders.families.huggingface.repository import PROCESSORS, Repository
from amr.extract.encoders.families.huggingface.tower import Tower, load_tower
from amr.extract.encoders.model import ModelEncoder, at_most
from amr.extract.encoders.networks import MeanOverRows
from amr.extract.encoders.spec import Spec
from amr.extract.encoders.weights import state_sha256


class HfEncoder(ModelEncoder):
    """Encoder with one tower of a model of transformers.

    Args:
        spec: Spec as it was given.
        repository: Folder of the model.
        architecture: Tower that is used.
        options: Options of the spec.
        own_pool: Pooling that the folder asks for, if any.

    Attributes:
        config: Config of the whole model.
        tower_config: Config of the tower.
        processor_files: Files of the folder that shape the preprocessing, as patterns.
        steps_are_rows: Whether pool=steps has one vector per row of a clip, not one per token.
    """

    model: Tower
    processor_files: tuple[str, ...] = PROCESSORS
    steps_are_rows = True

    def __init__(
        self,
        spec: Spec,
        repository: Repository,
        architecture: Architecture,
        options: HfOptions,
        own_pool: str | None = None,
    ) -> None:
        options.check_for(repository.name, architecture)
        self.modality = architecture.modality
        self.architecture = architecture
        self.keep = options.pool_for(architecture, own_pool)
        self.random_weights = options.weights == "random"
        seed = options.seed if self.random_weights else None
        self.model, self.config = load_tower(repository, architecture, self.keep, options.layer, seed)
        self.tower_config = getattr(self.config, architecture.config) if architecture.config else self.config
        self.weights_sha256 = state_sha256(self.model)
        self.embed_dim = self._embed_dim(options.layer)
        self.max_steps = options.max_steps if self.keep == "steps" else None
        self.spec = spec.canonical(options)
        self.preprocessing = {
            "model_type": repository.config["model_type"],
            "tower": self.modality,
            "pool": self.keep,
            **options.described(),
            "revision": repository.revision,
            "files": repository.files_sha256(("config.json", *self.processor_files)),
        }
        self.to("cpu")

    def _embed_dim(self, layer: int | None) -> int:
        has_summary = "cls" in self.architecture.pools(layer)
        is_summary = self.keep == "cls" or (self.keep == "steps" and self.steps_are_rows and has_summary)
        if self.architecture.features and layer is None and is_summary:
            own = getattr(self.tower_config, "projection_size", None)  # SigLIP's of text
            projects = any(part.endswith("_projection") for part in self.architecture.parts)
            return int(self.config.projection_dim if projects else own or self.tower_config.hidden_size)
        return int(self.tower_config.hidden_size)

    def forward(self, rows: Tensor) -> Tensor:
        """Features `(rows, embed_dim)` on the device, from the pixels of pictures or video."""
        return self.model(rows)

    def pool(self, steps: Tensor) -> Tensor:
        """Pool a clip's rows, `(rows, embed_dim)`, to its embedding."""
        if self.keep == "max":
            return steps.amax(0)
        return at_most(steps, self.max_steps) if self.max_steps is not None else steps.mean(0)

    def network(self) -> MeanOverRows:
        """Trainable module from `(batch, rows, ...)` to `(batch, embed_dim)`."""
        return MeanOverRows(self.model)


def find_processor(load: Any, repository: Repository, what: str) -> Any:
    """The model's own processor.

    Args:
        load: `from_pretrained` of one of the library's classes.
        repository: Folder of the model.
        what: What it is, for errors.

    Raises:
        ValueError: The folder has none.
    """
    try:
        return load(str(repository.folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each class has its own errors for the same thing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"hf must name a folder with the model's own {what}, got {str(repository.folder)!r} ({reason}). "
            "Save it there with save_pretrained."
        ) from error
