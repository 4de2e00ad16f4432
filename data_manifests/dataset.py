"""A dataset known by name, and the registry of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amr.common.registry import Registry

if TYPE_CHECKING:
    from amr.data_manifests.coverage import ManifestReport
    from amr.data_manifests.manifest import Manifest

WEIGHTLESS = {"audio": "logmel", "video": "frames"}
# for speech and faces
EMOTION = {"audio": "torchaudio:WAVLM_BASE_PLUS", "video": "timm:vit_small_patch14_dinov2.lvd142m"}
# for any sound, not only speech, and for nameable things
ANY_CONTENT = {
    "audio": "timm:convnext_tiny.in12k_ft_in1k,modality=audio",
    "video": "timm:vit_base_patch16_clip_224.openai",
}
# for what people do: a model of movement, trained on Kinetics-400
ACTIONS = {"audio": ANY_CONTENT["audio"], "video": "torchvision:mvit_v2_s"}
# Choices of --preset for clips of any kind; `pretrained` is the one that fits the dataset.
PRESETS = {"weightless": WEIGHTLESS, "emotion": EMOTION, "sound-events": ANY_CONTENT, "actions": ACTIONS}


# of clips of one's own that have text: preset -> SPEC
TEXT_ENCODERS = {"weightless": "hashing", "pretrained": "hf:sentence-transformers/all-MiniLM-L6-v2"}


@dataclass(frozen=True)
class Dataset:
    """A dataset known by name.

    Args:
        name: Name, as in --dataset.
        summary: One line for listings.
        licence: License of its media and lists.
        homepage: Address of its media; "" if they are rendered here.
        modalities: Modalities of its clips, in alphabetical order.
        build: Function from the root to the manifest and the report of what was found there.
        presets: Name of a preset -> {name of the embedding: encoder SPEC}.
    """

    name: str
    summary: str
    licence: str
    homepage: str
    modalities: tuple[str, ...]
    build: Callable[[Path], tuple[Manifest, ManifestReport]]
    presets: dict[str, dict[str, str]]


datasets: Registry[Dataset] = Registry("--dataset")
