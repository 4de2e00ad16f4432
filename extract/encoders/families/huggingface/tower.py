"""One tower of a model: its weights, and the part of its output that is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from amr.extract.encoders.families.huggingface.architectures import Architecture
from amr.extract.encoders.families.huggingface.repository import Repository
from amr.extract.encoders.weights import seeded

UNUSED = ("pooler", "pooler_activation")  # heads of other trainings, whose weights may be missing


class Tower(nn.Module):
    """Tower of a model, from its inputs to a summary of each or to its tokens.

    Args:
        model: Model of transformers, or the part of it that is used.
        architecture: What the tower is.
        num_special: Number of tokens at the front that are left out of the tokens.
        pool: Pooling: cls for the summary, mean and max over tokens, steps for whatever the kind of encoder makes of
            it.
        layer: Number of the layer, None for the model's output.
    """

    def __init__(
        self, model: nn.Module, architecture: Architecture, num_special: int, pool: str, layer: int | None
    ) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.num_special = num_special
        self.pool = pool
        self.layer = layer

    def summary(self, **inputs: Any) -> Tensor:
        """The model's own summary of each input, `(rows, embed_dim)`."""
        output = self._run(**inputs)
        if self.layer is None and self.architecture.is_pooled:
            return output.pooler_output
        return self._hidden(output)[:, 0]

    def tokens(self, **inputs: Any) -> Tensor:
        """Tokens of each input, `(rows, tokens, embed_dim)`."""
        return self._hidden(self._run(**inputs))[:, self.num_special :]

    def forward(self, rows: Tensor, name: str = "pixel_values", **inputs: Any) -> Tensor:
        """Features of each row of the input `name`, `(rows, embed_dim)`."""
        inputs[name] = rows
        if self.pool == "cls" or (self.pool == "steps" and "cls" in self.architecture.pools(self.layer)):
            return self.summary(**inputs)
        tokens = self.tokens(**inputs)
        return tokens.amax(1) if self.pool == "max" else tokens.mean(1)

    def _run(self, **inputs: Any) -> Any:
        run: Any = getattr(self.model, self.architecture.features or "forward")
        return run(**inputs, output_hidden_states=self.layer is not None, return_dict=True)

    def _hidden(self, output: Any) -> Tensor:
        return output.last_hidden_state if self.layer is None else output.hidden_states[self.layer]


def load_tower(
    repository: Repository, architecture: Architecture, pool: str, layer: int | None, random_seed: int | None
) -> tuple[Tower, Any]:
    """Load the weights of a tower, or draw them, and delete all other parts of the model.

    Args:
        repository: Folder of the model.
        architecture: Tower that is used.
        pool: Pooling.
        layer: Number of the layer, None for the model's output.
        random_seed: Seed of random weights; None to read them.

    Returns:
        The tower, and the config of the whole model.

    Raises:
        FileNotFoundError: There are no weights.
        ValueError: The weights are no .safetensors, are damaged, or are not those of the tower, or there is no such
            layer.
    """
    folder = str(repository.folder)
    with quiet():
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tower_config = getattr(config, architecture.config) if architecture.config else config
        _check_layer(repository, tower_config, layer)
        missing: set[str] = set()
        if random_seed is None:
            repository.check_weights()
            model, missing = _read(repository, folder)
        else:
            with seeded(random_seed):
                model = transformers.AutoModel.from_config(config, trust_remote_code=False).float()
    prefix = f"{architecture.root}." if architecture.root else ""
    kept = _kept(getattr(model, architecture.root) if architecture.root else model, architecture)
    lost = sorted(prefix + name for name in kept.state_dict() if prefix + name in missing)
    if lost:
        raise ValueError(
            f"weights must hold the tower of {architecture.modality} of hf:{repository.name}, got a file without "
            f"{len(lost)} of its tensors, such as {lost[0]}. Name another model."
        )
    num_special = architecture.num_special + (getattr(config, "num_register_tokens", None) or 0)
    return Tower(kept, architecture, num_special, pool, layer), config


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from printing bars and remarks meanwhile: whatever is wrong with a model is an error here."""
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _check_layer(repository: Repository, config: Any, layer: int | None) -> None:
    if layer is not None and layer > config.num_hidden_layers:
        most = config.num_hidden_layers
        raise ValueError(f"layer must be 1 to {most} for hf:{repository.name}, got {layer}. Pass layer={most}.")


def _read(repository: Repository, folder: str) -> tuple[Any, set[str]]:
    """Model with its weights, and the names of those that no file holds or that have another shape."""
    try:
        model, info = transformers.AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # the formats have errors of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"weights must be those of hf:{repository.name}, got {folder!r}: {reason}. Copy the folder again."
        ) from error
    mismatched = {each[0] if isinstance(each, tuple) else each for each in info["mismatched_keys"]}
    return model, {*info["missing_keys"]} | mismatched


def _kept(model: Any, architecture: Architecture) -> Any:
    """The model without the parts that the tower does not need."""
    if architecture.parts:
        for name in [name for name, _ in model.named_children() if name not in architecture.parts]:
            delattr(model, name)
        for name in [*model._parameters]:  # such as the temperature of a contrastive loss
            delattr(model, name)
    elif not architecture.is_pooled:
        for name in UNUSED:
            if hasattr(model, name):
                setattr(model, name, None)
    return model
