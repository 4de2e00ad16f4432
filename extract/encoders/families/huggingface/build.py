"""Build an encoder of this family from its spec."""

from __future__ import annotations

from importlib.util import find_spec

from amr.extract.encoders.families.huggingface.architectures import choose_tower
from amr.extract.encoders.families.huggingface.options import HfOptions
from amr.extract.encoders.families.huggingface.repository import find_repository
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.spec import Spec

INSTALL = "pip install 'amr-fusion[hf]'"


def build(spec: Spec, name: str) -> ModelEncoder:
    """Build the encoder of a spec. The embedding's name selects one of two towers if the spec does not.

    Raises:
        FileNotFoundError: The model does not exist and cannot be downloaded.
        ValueError: An option does not fit the model, the model is refused, or transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise ValueError(f"hf must be used where transformers is installed, got none. Install it with: {INSTALL}")
    options = spec.read(HfOptions)
    repository = find_repository(spec.model, options.revision)
    model_type = repository.config["model_type"]
    architecture = choose_tower(repository.name, model_type, options.tower, name)
    from amr.extract.encoders.families.huggingface import pictures, sound, text  # seconds, so after what may be refused

    encoders = {
        "pictures": pictures.HfPictures,
        "video": pictures.HfVideo,
        "speech": sound.HfSpeech,
        "windows": sound.HfWhisper if model_type == "whisper" else sound.HfWindows,
        "text": text.HfText,
    }
    return encoders[architecture.kind](spec, repository, architecture, options)
