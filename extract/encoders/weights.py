"""Find and read weights: from a file, from the libraries' shared caches, or by one download. Seed random weights."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from amr.common.files import replacing
from amr.extract.arrays.torch_files import NOT_SAVED, refused_objects

TIMEOUT_SECONDS = 10.0
RANDOM_SEED = 0
SAFETENSORS = ".safetensors"
CHUNK_BYTES = 1 << 20
# Keys under which training scripts keep the state dict, as timm looks for them.
STATE_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state")
_SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+\Z")  # as torch.hub names files: resnet18-f37072fd.pth
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class WeightsFile:
    """Location of a model's published weights.

    Args:
        url: URL of the file.
        repo: Hugging Face repository that holds it; None if there is none.
        filename: Name of the file in that repository.
    """

    url: str
    repo: str | None = None
    filename: str = "model.safetensors"

    @property
    def place(self) -> Path:
        """Path at which the file is looked for, and to which it is downloaded."""
        name = self.url.rsplit("/", 1)[-1]
        if self.repo is not None:  # the same file name in every repository
            name = self.repo.replace("/", "--") + Path(self.filename).suffix
        return Path(torch.hub.get_dir()) / "checkpoints" / name


def find_weights(option: str, file: WeightsFile | None, model: str) -> Path:
    """Find the file of an option `weights=pretrained` or `weights=FILE`, and download it if necessary.

    Args:
        option: Value of the option: "pretrained", or a path.
        file: Published weights; None if there are none.
        model: Name of the model, for errors.

    Raises:
        FileNotFoundError: The file does not exist, or pretrained weights cannot be downloaded.
        ValueError: The model has no pretrained weights.
    """
    if option != "pretrained":
        path = Path(option).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"weights must be pretrained, random or a file, got {option!r}, which does not exist. "
                "Give the path of a .safetensors or .pt file."
            )
        return path
    if file is None:
        raise ValueError(
            f"weights must be random or a file for {model}, which has no published ones, got pretrained. "
            "Pass weights=FILE."
        )
    return _in_hugging_face_cache(file) or (file.place if file.place.is_file() else _download(file, model))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file or a weights-only .pt file, by name.

    Raises:
        ValueError: The file is damaged, or holds anything other than tensors: reading such objects could run code.
    """
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own errors for the same thing
        raise ValueError(
            f"weights must be a .safetensors file or a .pt file of tensors only, got {str(path)!r}: "
            f"{_reason(error, path)}. Save model.state_dict() with torch.save."
        ) from error
    for key in STATE_KEYS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"weights must be a state dict of tensors, got {str(path)!r}. Save model.state_dict().")
    return {name.removeprefix("module.").removeprefix("_orig_mod."): tensor for name, tensor in state.items()}


def _reason(error: Exception, path: Path) -> str:
    """Reason why a file of weights was not read, in a few words and without advice."""
    text = str(error).strip()
    if "TorchScript" in text:
        return "a TorchScript archive"
    if (kind := refused_objects(error)) is not None:
        return f"{kind}, which cannot be read without running code"
    is_plain = path.suffix == SAFETENSORS or isinstance(error, OSError | RuntimeError)
    return text.split("\n")[0].rstrip(".") if is_plain and "weights_only" not in text else NOT_SAVED


def set_weights(model: nn.Module, path: Path, unused: tuple[str, ...]) -> None:
    """Set a model's weights from a file, which must hold every tensor of the model.

    Args:
        model: Model to change.
        path: File of the weights.
        unused: Prefixes of tensors in the file that the model does not have, such as its classifier's.

    Raises:
        ValueError: The file does not fit the model.
    """
    state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith(unused)}
    own = model.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise misfit(path, wrong)
    model.load_state_dict(state)


def misfit(path: Path, names: list[str]) -> ValueError:
    """Error for a file whose tensors are not the model's."""
    return ValueError(
        f"weights must hold the model's tensors, got {str(path)!r}, where {len(names)} are missing or of another "
        f"shape, such as {names[0]}. Pass a file of this model."
    )


def state_sha256(model: nn.Module) -> str:
    """Checksum of a model's weights: names, types, shapes and values, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_seed(seed: int, weights: str) -> None:
    """Check the option `seed` of random weights.

    Raises:
        ValueError: The seed is negative, or the weights are not random.
    """
    if seed < 0 or (seed != RANDOM_SEED and weights != "random"):
        raise ValueError(
            f"seed must be at least 0 and used with weights=random, got {seed} with weights={weights}. Leave it out."
        )


@contextmanager
def seeded(seed: int = RANDOM_SEED) -> Iterator[None]:
    """Seed torch's random numbers inside the block, and restore their state after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _in_hugging_face_cache(file: WeightsFile) -> Path | None:
    if file.repo is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(file.repo, file.filename)
    return Path(path) if isinstance(path, str) else None


def _download(file: WeightsFile, model: str) -> Path:
    """Download once: libraries that retry block a machine without a network for a minute.

    Raises:
        FileNotFoundError: There is no answer.
        RuntimeError: The content is not what was published.
    """
    place = file.place
    redirects = _Redirects()
    digest = hashlib.sha256()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as partial:
            opened = urllib.request.build_opener(redirects).open(file.url, timeout=TIMEOUT_SECONDS)
            with opened as response, partial.open("wb") as content:
                while part := response.read(CHUNK_BYTES):
                    digest.update(part)
                    content.write(part)
            in_name = _SHA256_IN_NAME.search(place.name)
            published = in_name[1] if in_name is not None and file.repo is None else redirects.sha256
            if not digest.hexdigest().startswith(published):
                raise RuntimeError(
                    f"weights of {model} must have the sha256 {published} that was published with them, got "
                    f"{digest.hexdigest()} from {file.url}. Try again, or pass weights=FILE."
                )
    except OSError as error:  # includes urllib's errors
        reason = getattr(error, "reason", None) or error
        raise FileNotFoundError(
            f"weights of {model} must be at {str(place)!r} if they cannot be downloaded, got no file there and "
            f"no answer ({reason}). Put {file.url} there, or pass weights=FILE."
        ) from error
    return place


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to encrypted places alone. Hugging Face sends the file's sha256 with its first answer."""

    sha256 = ""  # empty: none is known

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """Follow a redirect."""
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"a redirect to {newurl}, which is not encrypted")
        if found := _SHA256.fullmatch(headers.get("X-Linked-Etag", "")):
            self.sha256 = found[1]
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
