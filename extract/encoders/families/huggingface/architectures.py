"""Architectures of transformers that are supported, by `model_type` of their config and by modality.

Each was compared with the library's own forward pass (tests/extract/encoders/families/huggingface).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amr.common.registry import unknown

POOLS = ("cls", "mean", "max", "steps")


@dataclass(frozen=True)
class Architecture:
    """One tower of a model: what it takes, and what it gives.

    Args:
        kind: Kind of encoder: pictures, video, speech, windows (of sound) or text.
        features: Method that runs the tower and projects its summary; "" if the model is a single tower.
        parts: Parts that this method needs; all others are deleted.
        root: Part that is used in place of the whole model, such as the encoder of an encoder and decoder.
        config: Part of the config that describes the tower; "" for all of it.
        is_pooled: Whether `pooler_output` is a summary that the model was trained with.
        has_class_token: Whether the first token is one of the input as a whole.
        num_special: Number of tokens at the front that are no part of the input, without those that the config counts
            as registers.
        has_tokens: Whether there are tokens to pool.
        pool: Pooling that is the default.
    """

    kind: str
    features: str = ""
    parts: tuple[str, ...] = ()
    root: str = ""
    config: str = ""
    is_pooled: bool = False
    has_class_token: bool = False
    num_special: int = 0
    has_tokens: bool = True
    pool: str = "cls"

    @property
    def modality(self) -> str:
        """Modality of the media, "audio", "video" or "text"."""
        return {"pictures": "video", "video": "video", "text": "text"}.get(self.kind, "audio")

    def pools(self, layer: int | None) -> tuple[str, ...]:
        """Ways of pooling that it offers at a layer, None for the last."""
        has_summary = self.has_class_token or (self.is_pooled and layer is None)
        offers = {"cls": has_summary, "mean": self.has_tokens, "max": self.has_tokens, "steps": True}
        return tuple(name for name in POOLS if offers[name])

    @property
    def has_layers(self) -> bool:
        """Whether its layers give tokens."""
        return self.has_tokens


def _tower(kind: str, of: str, parts: str, **more: Any) -> Architecture:
    features = {"vision": "get_image_features", "video": "get_video_features"}.get(of, f"get_{of}_features")
    config = "vision_config" if of == "video" else f"{of}_config"
    return Architecture(kind, features, tuple(parts.split()), config=config, is_pooled=True, **more)


_VIT = Architecture("pictures", has_class_token=True, num_special=1)
_POOLED_VIT = Architecture("pictures", is_pooled=True, has_class_token=True, num_special=1)
_CLIP_TEXT = _tower("text", "text", "text_model text_projection")
_SPEECH = Architecture("speech", pool="mean")
_BERT = Architecture("text", has_class_token=True, pool="mean")

# model_type -> modality -> tower
ARCHITECTURES: dict[str, dict[str, Architecture]] = {
    name: {tower.modality: tower for tower in towers}
    for name, towers in {
        "vit": (_VIT,),
        "deit": (Architecture("pictures", has_class_token=True, num_special=2),),
        "dinov2": (_VIT,),
        "dinov2_with_registers": (_VIT,),
        "dinov3_vit": (_VIT,),
        "clip": (
            _tower("pictures", "vision", "vision_model visual_projection", has_class_token=True, num_special=1),
            _CLIP_TEXT,
        ),
        "clip_vision_model": (_POOLED_VIT,),
        "clip_text_model": (Architecture("text", is_pooled=True),),
        "siglip": (_tower("pictures", "vision", "vision_model"), _tower("text", "text", "text_model")),
        "siglip_vision_model": (Architecture("pictures", is_pooled=True),),
        "videomae": (Architecture("video", pool="mean"),),
        "timesformer": (Architecture("video", has_class_token=True, num_special=1),),
        "xclip": (
            _tower("video", "video", "vision_model visual_projection mit", has_tokens=False),
            _CLIP_TEXT,
        ),
        "wav2vec2": (_SPEECH,),
        "hubert": (_SPEECH,),
        "wavlm": (_SPEECH,),
        "audio-spectrogram-transformer": (
            Architecture("windows", is_pooled=True, has_class_token=True, num_special=2),
        ),
        "whisper": (Architecture("windows", root="encoder", pool="mean"),),
        "clap": (
            _tower("windows", "audio", "audio_model audio_projection", has_tokens=False),
            _tower("text", "text", "text_model text_projection"),
        ),
        **dict.fromkeys(
            ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "albert", "electra", "mpnet"), (_BERT,)
        ),
        **dict.fromkeys(("deberta-v2", "modernbert"), (_BERT,)),
        "t5": (Architecture("text", root="encoder", pool="mean"),),
    }.items()
}


def choose_tower(model: str, model_type: str, tower: str | None, name: str) -> Architecture:
    """Tower of a model that an embedding is made with.

    Args:
        model: Model as it was given, for errors.
        model_type: `model_type` of its config.
        tower: Modality that the option `tower` names, None without it.
        name: Name of the embedding, which selects one of two towers.

    Raises:
        ValueError: The architecture is not supported, or neither option nor name selects a tower.
    """
    if model_type not in ARCHITECTURES:
        raise unknown(f"model_type of hf:{model}", model_type, list(ARCHITECTURES))
    towers = ARCHITECTURES[model_type]
    if tower is not None and tower not in towers:
        raise unknown(f"tower of hf:{model}", tower, list(towers))
    if tower is not None or name in towers or len(towers) == 1:
        return towers[tower or name] if tower is not None or name in towers else next(iter(towers.values()))
    names = " and ".join(towers)
    first = next(iter(towers))
    raise ValueError(
        f"tower must say which of {names} of hf:{model} is meant, got none and the name {name!r}. "
        f"Type {name}=hf:{model},tower={first}, or {first}=hf:{model}."
    )
