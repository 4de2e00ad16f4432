"""Where weights come from: a file, the caches that the libraries share, one download, or chance if asked for."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from amr.common.files import replacing

TIMEOUT_SECONDS = 10.0
RANDOM_SEED = 0
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class WeightsFile:
    """Where a model's pretrained weights are published.

    Args:
        url: of the file.
        repo: the Hugging Face repository that holds it; None where it is not there.
        filename: the file's name in that repository.
    """

    url: str
    repo: str | None = None
    filename: str = "model.safetensors"

    @property
    def place(self) -> Path:
        """Where the file is looked for, and where it goes when it is fetched."""
        name = self.url.rsplit("/", 1)[-1]
        if self.repo is not None:  # there, every file has the same name
            name = self.repo.replace("/", "--") + Path(self.filename).suffix
        return Path(torch.hub.get_dir()) / "checkpoints" / name


def find_weights(option: str, file: WeightsFile | None, model: str) -> Path:
    """The file of weights that an option `weights=pretrained` or `weights=FILE` means.

    Args:
        option: "pretrained", or a path.
        source: where the pretrained ones are; None where there are none.
        model: the model's name, for errors.

    Raises:
        FileNotFoundError: no such file, or it is nowhere on this machine and could not be fetched.
        ValueError: the model has no pretrained weights, or the file is of a kind that is not read.
    """
    if option != "pretrained":
        path = Path(option).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"weights must be pretrained, random or a file, got {option!r}, which is not there. "
                "Give the path of a .safetensors or .pt file."
            )
        return path
    if file is None:
        raise ValueError(
            f"weights must be given for {model}, of which no pretrained ones are published. Pass weights=FILE."
        )
    return _in_hugging_face_cache(file) or (file.place if file.place.is_file() else _fetch(file, model))


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or a weights-only .pt file, by name.

    Raises:
        ValueError: it is damaged, or holds anything but tensors (which would be run as code to be read).
    """
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own errors for the same thing
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"weights must be a .safetensors file or a .pt file of tensors alone, got {str(path)!r}: {reason} "
            "Save model.state_dict()."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"weights must be a state dict of tensors, got {str(path)!r}. Save model.state_dict().")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def load_all(model: nn.Module, path: Path, unused: tuple[str, ...]) -> None:
    """Load a file into a model; every tensor of the model must be in it.

    Args:
        model: whose weights to set.
        path: the file.
        unused: names that tensors of the file may begin with which the model does not have (its classifier).

    Raises:
        ValueError: the file and the model do not fit.
    """
    state = {name: tensor for name, tensor in load_state(path).items() if not name.startswith(unused)}
    own = model.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise misfit(path, wrong)
    model.load_state_dict(state)


def misfit(path: Path, names: list[str]) -> ValueError:
    """The error for a file whose tensors are not the model's."""
    return ValueError(
        f"weights must hold the model's tensors, got {str(path)!r}, where {len(names)} are missing or of another "
        f"shape, such as {names[0]}. Give the file of this very model."
    )


def state_sha256(model: nn.Module) -> str:
    """Checksum of a model's weights: of names, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_seed(seed: int, weights: str) -> None:
    """Check the option `seed`, which is that of random weights.

    Raises:
        ValueError: it is negative, or the weights are not random.
    """
    if seed < 0 or (seed != RANDOM_SEED and weights != "random"):
        raise ValueError(f"seed must be 0 or more, and with weights=random, got {seed} with {weights}. Leave it out.")


@contextmanager
def seeded(seed: int = RANDOM_SEED) -> Iterator[None]:
    """Chance that is the same every time, and that leaves the program's own as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _in_hugging_face_cache(file: WeightsFile) -> Path | None:
    if file.repo is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(file.repo, file.filename)
    return Path(path) if isinstance(path, str) else None


def _fetch(file: WeightsFile, model: str) -> Path:
    """One try: libraries that ask again and again keep a machine without a network waiting for a minute."""
    place = file.place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(place) as partial,
            urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as response,
            partial.open("wb") as content,
        ):
            shutil.copyfileobj(response, content, 1 << 20)
    except OSError as error:  # urllib's errors are of this kind too
        reason = getattr(error, "reason", None) or error
        raise FileNotFoundError(
            f"weights of {model} must be at {str(place)!r} where they cannot be fetched, got no file there and "
            f"no answer ({reason}). Bring {file.url} and put it there, or pass weights=FILE."
        ) from error
    return place
