"""`trained:<run>`: an encoder of one's own, as `amr train-encoders` keeps it and as `amr extract` uses it.

A folder holds `weights.safetensors`, the state dict of the encoder's model, and `encoder.json`, what it belongs to.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from amr.common.files import replacing, write_json
from amr.common.workspace import encoders_dir
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.registry import build_encoder
from amr.extract.encoders.spec import Spec
from amr.extract.encoders.weights import load_all, state_sha256

ENCODER = "encoder.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TrainedInfo:
    """What `encoder.json` says.

    Args:
        encoder: the spec that builds the model, with random weights.
        modality: "audio" or "video".
        embed_dim: length of an embedding.
        weights_sha256: of the weights, as `state_sha256` has it.
        preprocessing: what the encoder did to clips when it was trained.
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
        """From a folder's `encoder.json`.

        Raises:
            ValueError: it is damaged.
        """
        try:
            told = json.loads((folder / ENCODER).read_text(encoding="utf-8"))
            return cls(**{each.name: told[each.name] for each in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError is a ValueError
            raise ValueError(
                f"{ENCODER} must be as amr train-encoders wrote it, got {str(folder / ENCODER)!r}, which is damaged "
                f"({type(error).__name__}: {error}). Train the encoder again."
            ) from error


def save_trained(folder: Path, encoder: ModelEncoder, base_spec: str) -> None:
    """Keep an encoder with the weights it has now, in place of what the folder held.

    A kill leaves the one or the other, or a folder that is told to be damaged; never the wrong weights in silence.

    Args:
        folder: made if it is not there.
        encoder: to keep.
        base_spec: what it was built from, with any weights; that may be a `trained:` encoder, too.
    """
    base = Spec.parse(encoder.base_spec or base_spec)
    info = TrainedInfo(
        encoder=str(Spec(base.family, base.model, {**base.options, "weights": "random"})),
        modality=encoder.modality,
        embed_dim=encoder.embed_dim,
        weights_sha256=state_sha256(encoder.model),
        preprocessing=encoder.preprocessing,
    )
    # copies, as tensors that share their memory cannot be saved
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in encoder.model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as partial:
        save_file(state, partial)
    write_json(folder / ENCODER, asdict(info))


def build(spec: Spec, name: str) -> ModelEncoder:
    """The encoder in a folder; where that holds several, the one of the embedding's name.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is damaged, or it is not clear which of its encoders is meant.
    """
    if spec.options:
        raise ValueError(
            f"trained must be given without options, got {str(spec)!r}. Options are those it was trained with; "
            f"type trained:{spec.model}."
        )
    folder = find_trained(spec.model, name)
    info = TrainedInfo.read(folder)
    encoder = build_encoder(info.encoder, info.modality)
    if not isinstance(encoder, ModelEncoder):
        raise _damaged(folder, f"{info.encoder} has no weights")
    try:
        load_all(encoder.model, folder / WEIGHTS, unused=())
    except ValueError as error:
        raise _damaged(folder, f"{WEIGHTS} cannot be read, or is another model's") from error
    encoder.weights_sha256 = state_sha256(encoder.model)
    for key in ("modality", "embed_dim", "weights_sha256", "preprocessing"):
        told, found = getattr(info, key), json.loads(json.dumps(getattr(encoder, key)))
        if told != found:
            raise _damaged(folder, _difference(key, told, found))
    encoder.spec, encoder.base_spec = str(spec), info.encoder
    encoder.random_weights = False
    return encoder


def find_trained(path: str | None, name: str) -> Path:
    """The folder of the encoder that is meant.

    Args:
        path: of a run's or an encoder's folder, or its name in encoders/.
        name: of the embedding: chooses among the encoders of a run.

    Raises:
        FileNotFoundError: no such folder, or none with an encoder in it.
        ValueError: a run has several that could be meant.
    """
    for folder in (Path(path).expanduser(), encoders_dir() / path) if path else ():
        if (folder / ENCODER).is_file():
            return folder
        if there := {each.parent.name: each.parent for each in sorted(folder.glob(f"*/{ENCODER}"))}:
            return _one_of(there, name, f"trained:{path}")
    runs = sorted(each.name for each in encoders_dir().glob("*") if each.is_dir())
    close = difflib.get_close_matches(path or "", runs, n=1)
    hint = f"Did you mean trained:{close[0]}? " if close else ""
    raise FileNotFoundError(
        f"trained must be given a folder with an encoder, or the name of one in {encoders_dir()} "
        f"({', '.join(runs) or 'none'}), got {path!r}. {hint}Make one with amr train-encoders."
    )


def _one_of(there: Mapping[str, Path], name: str, spec: str) -> Path:
    """The encoder of that name, else the only one of that modality, else the only one for a name of one's own."""
    if name in there:
        return there[name]
    modalities = {each: TrainedInfo.read(folder).modality for each, folder in there.items()}
    fitting = [each for each, modality in modalities.items() if name == modality or name not in ("audio", "video")]
    if len(fitting) == 1:
        return there[fitting[0]]
    raise ValueError(
        f"{spec} must hold one encoder for {name!r}, got {', '.join(fitting or there)}. "
        f"Type {spec}/{(fitting or [*there])[0]}."
    )


def _difference(key: str, told: Any, found: Any) -> str:
    if isinstance(told, dict):
        (key, *_) = [each for each in {**told, **found} if told.get(each) != found.get(each)]
        told, found = told.get(key), found.get(key)
    return f"{key} is {_short(found)}, not {_short(told)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"{WEIGHTS} must be what {ENCODER} describes, got {str(folder)!r}, where {reason}. "
        "Bring both files of one training, or train the encoder again."
    )
