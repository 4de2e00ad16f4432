"""`trained:<run>`: your own encoders, saved by `amr train-encoders` and used by `amr extract`.

A folder holds `weights.safetensors`, the state dict of the encoder's model, and `encoder.json`, which describes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save

from amr.common.files import checksummed, read_checked, replacing, write_json
from amr.common.registry import closest
from amr.common.workspace import encoders_dir
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.registry import build_encoder
from amr.extract.encoders.spec import Spec
from amr.extract.encoders.weights import set_weights, state_sha256

ENCODER = "encoder.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TrainedInfo:
    """Content of `encoder.json`.

    Args:
        encoder: Spec that builds the model, with random weights.
        modality: Modality, "audio" or "video".
        embed_dim: Length of an embedding.
        weights_sha256: Checksum of the weights, by `state_sha256`.
        preprocessing: Preprocessing of clips when the encoder was trained.
    """

    encoder: str
    modality: str
    embed_dim: int
    weights_sha256: str
    preprocessing: dict[str, Any]

    def __post_init__(self) -> None:
        for name, kind in (("encoder", str), ("modality", str), ("preprocessing", dict)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}.")

    @classmethod
    def read(cls, folder: Path) -> TrainedInfo:
        """Read a folder's `encoder.json`.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            saved = json.loads(read_checked(folder / ENCODER))
            return cls(**{each.name: saved[each.name] for each in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError is a ValueError
            raise ValueError(
                f"{ENCODER} must be as amr train-encoders wrote it, got {str(folder / ENCODER)!r}, which is damaged "
                f"({type(error).__name__}: {error}). Train the encoder again."
            ) from error


def save_trained(folder: Path, encoder: ModelEncoder, base_spec: str) -> None:
    """Save an encoder with its present weights, replacing one in the folder.

    A kill leaves the old encoder, the new one, or a folder that is recognized as damaged, never wrong weights that
    go unnoticed.

    Args:
        folder: Folder of the encoder, created if necessary.
        encoder: Encoder to save.
        base_spec: Spec that it was built from, with any weights; also that of a `trained:` encoder.
    """
    base = Spec.parse(encoder.base_spec or base_spec)
    info = TrainedInfo(
        encoder=str(Spec(base.family, base.model, {**base.options, "weights": "random"})),
        modality=encoder.modality,
        embed_dim=encoder.embed_dim,
        weights_sha256=state_sha256(encoder.model),
        preprocessing=encoder.preprocessing,
    )
    # copies, because tensors that share memory cannot be saved
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in encoder.model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with checksummed(folder, WEIGHTS, ENCODER):
        with replacing(folder / WEIGHTS, durable=True) as partial:
            partial.write_bytes(save(state))
        write_json(folder / ENCODER, asdict(info), durable=True)


def build(spec: Spec, name: str) -> ModelEncoder:
    """Build the encoder in a folder. If the folder holds several, the embedding's name selects one.

    Raises:
        FileNotFoundError: The folder does not exist or holds no encoder.
        ValueError: The encoder is damaged, or the folder holds several and `name` selects none.
    """
    if spec.options:
        raise ValueError(
            f"trained must be given without options, got {str(spec)!r}. Its options are those of its training; "
            f"type trained:{spec.model}."
        )
    folder = find_trained(spec.model, name)
    info = TrainedInfo.read(folder)
    encoder = build_encoder(info.encoder, info.modality)
    if not isinstance(encoder, ModelEncoder):
        raise _damaged(folder, f"{info.encoder} has no weights")
    try:
        set_weights(encoder.model, folder / WEIGHTS, unused=())
    except ValueError as error:
        raise _damaged(folder, f"{WEIGHTS} cannot be read, or belongs to another model") from error
    encoder.weights_sha256 = state_sha256(encoder.model)
    for key in ("modality", "embed_dim", "weights_sha256", "preprocessing"):
        saved, found = getattr(info, key), json.loads(json.dumps(getattr(encoder, key)))
        if saved != found:
            raise _damaged(folder, _difference(key, saved, found))
    encoder.spec, encoder.base_spec = str(spec), info.encoder
    encoder.random_weights = False
    return encoder


def find_trained(path: str | None, name: str) -> Path:
    """Find the folder of an encoder.

    Args:
        path: Folder of a run or of an encoder, or its name in encoders/.
        name: Name of the embedding, which selects among the encoders of a run.

    Raises:
        FileNotFoundError: The folder does not exist or holds no encoder.
        ValueError: The run has several encoders that could be meant.
    """
    for folder in (Path(path).expanduser(), encoders_dir() / path) if path else ():
        if (folder / ENCODER).is_file():
            return folder
        if encoders := {each.parent.name: each.parent for each in sorted(folder.glob(f"*/{ENCODER}"))}:
            return _one_of(encoders, name, f"trained:{path}")
    runs = sorted(each.name for each in encoders_dir().glob("*") if each.is_dir())
    close = closest(path or "", runs)
    hint = "" if close is None else f"Did you mean trained:{close}? "
    raise FileNotFoundError(
        f"trained must name a folder with an encoder, or one in {encoders_dir()} "
        f"({', '.join(runs) or 'none'}), got {path!r}. {hint}Make one with amr train-encoders."
    )


def _one_of(encoders: Mapping[str, Path], name: str, spec: str) -> Path:
    """Folder of the encoder with that name, else of the only one that fits. A name that is no modality fits any."""
    if name in encoders:
        return encoders[name]
    modalities = {each: TrainedInfo.read(folder).modality for each, folder in encoders.items()}
    fitting = [each for each, modality in modalities.items() if name == modality or name not in ("audio", "video")]
    if len(fitting) == 1:
        return encoders[fitting[0]]
    raise ValueError(
        f"{spec} must hold one encoder for {name!r}, got {', '.join(fitting or encoders)}. "
        f"Type {spec}/{(fitting or [*encoders])[0]}."
    )


def _difference(key: str, saved: Any, found: Any) -> str:
    if isinstance(saved, dict):
        (key, *_) = [each for each in {**saved, **found} if saved.get(each) != found.get(each)]
        saved, found = saved.get(key), found.get(key)
    return f"{key} is {_short(found)}, not {_short(saved)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"{WEIGHTS} must be what {ENCODER} describes, got {str(folder)!r}, where {reason}. "
        "Copy both files of one training, or train the encoder again."
    )
