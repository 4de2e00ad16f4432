"""Registry of the encoder families, which builds an encoder from its spec. Nothing here imports torch.

A family's module is imported when one of its encoders is built. Short lists of models are kept here;
tests/extract/encoders/test_registry.py compares them with the libraries.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module

from amr.common.registry import Registry
from amr.extract.encoders.base import Encoder
from amr.extract.encoders.media_options import MediaOptions
from amr.extract.encoders.spec import Spec

# name -> embed_dim
TORCHVISION_MODELS = {
    "r3d_18": 512,
    "mc3_18": 512,
    "r2plus1d_18": 512,
    "s3d": 1024,
    "mvit_v1_b": 768,
    "mvit_v2_s": 768,
    "swin3d_t": 768,
    "swin3d_s": 768,
    "swin3d_b": 1024,
}
TORCHAUDIO_BUNDLES = {
    "WAV2VEC2_BASE": 768,
    "WAV2VEC2_LARGE": 1024,
    "WAV2VEC2_LARGE_LV60K": 1024,
    "WAV2VEC2_XLSR53": 1024,
    "WAV2VEC2_XLSR_300M": 1024,
    "WAV2VEC2_XLSR_1B": 1280,
    "WAV2VEC2_XLSR_2B": 1920,
    "HUBERT_BASE": 768,
    "HUBERT_LARGE": 1024,
    "HUBERT_XLARGE": 1280,
    "WAVLM_BASE": 768,
    "WAVLM_BASE_PLUS": 768,
    "WAVLM_LARGE": 1024,
    "WAV2VEC2_ASR_BASE_10M": 768,
    "WAV2VEC2_ASR_BASE_100H": 768,
    "WAV2VEC2_ASR_BASE_960H": 768,
    "WAV2VEC2_ASR_LARGE_10M": 1024,
    "WAV2VEC2_ASR_LARGE_100H": 1024,
    "WAV2VEC2_ASR_LARGE_960H": 1024,
    "WAV2VEC2_ASR_LARGE_LV60K_10M": 1024,
    "WAV2VEC2_ASR_LARGE_LV60K_100H": 1024,
    "WAV2VEC2_ASR_LARGE_LV60K_960H": 1024,
    "HUBERT_ASR_LARGE": 1024,
    "HUBERT_ASR_XLARGE": 1280,
    "VOXPOPULI_ASR_BASE_10K_DE": 768,
    "VOXPOPULI_ASR_BASE_10K_EN": 768,
    "VOXPOPULI_ASR_BASE_10K_ES": 768,
    "VOXPOPULI_ASR_BASE_10K_FR": 768,
    "VOXPOPULI_ASR_BASE_10K_IT": 768,
}
# name -> embed_dim
PANNS_MODELS = {"Cnn14": 2048, "Cnn14_16k": 2048}
# name -> number of functionals
OPENSMILE_SETS = {"eGeMAPSv02": 88, "GeMAPSv01b": 62, "ComParE_2016": 6373}
# well-known names -> modality, embed_dim, kind
HF_MODELS = {
    "openai/clip-vit-base-patch32": ("video|text", 512, "CLIP: pictures or text"),
    "google/siglip-base-patch16-224": ("video|text", 768, "SigLIP: pictures or text"),
    "facebook/dinov2-base": ("video", 768, "DINOv2: pictures"),
    "google/vit-base-patch16-224": ("video", 768, "ViT: pictures"),
    "MCG-NJU/videomae-base": ("video", 768, "VideoMAE: pieces of 16 frames"),
    "microsoft/xclip-base-patch32": ("video|text", 512, "X-CLIP: pieces of 8 frames, or text"),
    "facebook/timesformer-base-finetuned-k400": ("video", 768, "TimeSformer: pieces of 8 frames"),
    "facebook/wav2vec2-base": ("audio", 768, "wav2vec 2.0: speech"),
    "facebook/hubert-base-ls960": ("audio", 768, "HuBERT: speech"),
    "microsoft/wavlm-base-plus": ("audio", 768, "WavLM: speech"),
    "MIT/ast-finetuned-audioset-10-10-0.4593": ("audio", 768, "AST: any sound"),
    "openai/whisper-base": ("audio", 512, "Whisper's encoder: speech"),
    "laion/clap-htsat-unfused": ("audio|text", 512, "CLAP: any sound, or text"),
    "google-bert/bert-base-uncased": ("text", 768, "BERT"),
    "FacebookAI/xlm-roberta-base": ("text", 768, "XLM-RoBERTa: text in 100 languages"),
    "sentence-transformers/all-MiniLM-L6-v2": ("text", 384, "MiniLM: sentences"),
    "intfloat/multilingual-e5-small": ("text", 384, "E5: sentences in 100 languages"),
}


@dataclass(frozen=True)
class EncoderInfo:
    """One line of `amr encoders`.

    Args:
        spec: Spec to type; `<model>` means any model of the family.
        modality: Modality, "audio", "video" or "text", or several, such as "audio|video".
        embed_dim: Length of an embedding; None if it is known only after the model is built.
        summary: Short description.
    """

    spec: str
    modality: str
    embed_dim: int | None
    summary: str


@dataclass(frozen=True)
class Family:
    """Family of encoders.

    Args:
        module: Module with `build(spec: Spec, name: str) -> Encoder`.
        models: Models to list.
        has_more: Whether the models are too many to list without a pattern. Then the module has
            `list_models() -> Iterable[EncoderInfo]`.
    """

    module: str
    models: tuple[EncoderInfo, ...]
    has_more: bool = False

    @property
    def build(self) -> Callable[[Spec, str], Encoder]:
        """Function that builds one of its encoders for an embedding of the given name."""
        return import_module(self.module).build

    def every_model(self) -> Iterable[EncoderInfo]:
        """All models; imports the module if they are not listed here."""
        return import_module(self.module).list_models() if self.has_more else self.models


families: Registry[Family] = Registry("encoder family")
families.register("logmel")(
    Family(
        "amr.extract.encoders.families.weightless.logmel",
        (EncoderInfo("logmel", "audio", 800, "log-mel bands over the parts of a clip; no weights"),),
    )
)
families.register("frames")(
    Family(
        "amr.extract.encoders.families.weightless.frames",
        (EncoderInfo("frames", "video", 2560, "a few frames on a coarse grid; no weights"),),
    )
)
families.register("motion")(
    Family(
        "amr.extract.encoders.families.weightless.motion",
        (EncoderInfo("motion", "video", 640, "frame differences on a grid, over the parts of a clip; no weights"),),
    )
)
families.register("opensmile")(
    Family(
        "amr.extract.encoders.families.weightless.opensmile",
        tuple(
            EncoderInfo(
                f"opensmile:{name}", "audio", dim, "acoustic features of voice; pip install 'amr-fusion[opensmile]'"
            )
            for name, dim in OPENSMILE_SETS.items()
        ),
    )
)
families.register("hashing")(
    Family(
        "amr.extract.encoders.families.weightless.hashing",
        (EncoderInfo("hashing", "text", 1024, "words and parts of words, counted in buckets; no weights"),),
    )
)
families.register("timm")(
    Family(
        "amr.extract.encoders.families.timm",
        (
            EncoderInfo(
                "timm:<model>",
                "audio|video",
                None,
                "an image model on frames or on log-mel pictures; amr encoders PATTERN lists them",
            ),
        ),
        has_more=True,
    )
)
families.register("torchvision")(
    Family(
        "amr.extract.encoders.families.torchvision",
        tuple(
            EncoderInfo(f"torchvision:{name}", "video", dim, "a video model trained on Kinetics-400")
            for name, dim in TORCHVISION_MODELS.items()
        ),
    )
)
families.register("torchaudio")(
    Family(
        "amr.extract.encoders.families.torchaudio",
        tuple(
            EncoderInfo(f"torchaudio:{name}", "audio", dim, "a speech model on the waveform")
            for name, dim in TORCHAUDIO_BUNDLES.items()
        ),
    )
)
families.register("onnx")(
    Family(
        "amr.extract.encoders.families.onnx",
        (
            EncoderInfo(
                "onnx:<file>",
                "audio|video",
                None,
                "an exported network of one input, wave, picture or frames; pip install 'amr-fusion[onnx]'",
            ),
        ),
    )
)
families.register("vggish")(
    Family(
        "amr.extract.encoders.families.vggish",
        (EncoderInfo("vggish", "audio", 128, "a model of sound events trained on YouTube-8M"),),
    )
)
families.register("panns")(
    Family(
        "amr.extract.encoders.families.panns",
        tuple(
            EncoderInfo(f"panns:{name}", "audio", dim, "a model of sound events trained on AudioSet")
            for name, dim in PANNS_MODELS.items()
        ),
    )
)
families.register("resemblyzer")(
    Family(
        "amr.extract.encoders.families.resemblyzer",
        (EncoderInfo("resemblyzer", "audio", 256, "a speaker encoder; pip install --no-deps Resemblyzer"),),
    )
)
families.register("hf")(
    Family(
        "amr.extract.encoders.families.huggingface.build",
        (
            EncoderInfo(
                "hf:<model or folder>",
                "audio|video|text",
                None,
                "a model of transformers, such as those below; pip install 'amr-fusion[hf]'",
            ),
            *(EncoderInfo(f"hf:{name}", modality, dim, what) for name, (modality, dim, what) in HF_MODELS.items()),
        ),
    )
)
families.register("trained")(
    Family(
        "amr.extract.encoders.families.trained",
        (EncoderInfo("trained:<run>", "audio|video", None, "an encoder of your own, from amr train-encoders"),),
    )
)


def build_encoder(spec: str, name: str) -> Encoder:
    """Build the encoder that a spec describes.

    Args:
        spec: Spec, `family[:model][,option=value]...`.
        name: Name of the embedding. "audio", "video" or "text" sets the modality of models that have several.

    Raises:
        ValueError: The family, model or option is unknown, a value is wrong, or the weights do not fit the model.
        FileNotFoundError: The weights do not exist and cannot be downloaded.
    """
    from amr.extract.encoders.faces.prepare import FaceOption  # imports torch

    media, own = MediaOptions.split(Spec.parse(spec))
    face, own = FaceOption.split(own)
    encoder = families[own.family].build(own, name)
    face.apply(encoder)
    media.apply(encoder)
    return encoder


def build_requested(specs: Mapping[str, str]) -> dict[str, Encoder]:
    """Build the encoders that a user requested by `--encoder`, which errors name.

    Args:
        specs: Embedding name -> spec.

    Raises:
        ValueError: As for `build_encoder`.
        FileNotFoundError: As for `build_encoder`.
    """
    encoders = {}
    for name, spec in specs.items():
        try:
            encoders[name] = build_encoder(spec, name)
        except ValueError as error:
            raise ValueError(f"--encoder {name}={spec}: {error}") from error
    return encoders


def list_encoders(pattern: str | None = None) -> list[EncoderInfo]:
    """List the encoders.

    Args:
        pattern: Part of a name, or a pattern with `*`, in upper or lower case; None lists all but single timm models.
    """
    if pattern is None:
        return [info for _, family in families.items() for info in family.models]
    glob = (pattern if any(each in pattern for each in "*?[") else f"*{pattern}*").lower()
    every = [info for _, family in families.items() for info in family.every_model()]
    return [info for info in every if fnmatch.fnmatchcase(info.spec.lower(), glob)]
