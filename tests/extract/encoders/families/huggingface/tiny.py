"""Tiny models of each architecture, saved as the library saves them: random weights, and a real processor."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import sentencepiece
import torch
import transformers

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
PICTURES = {"image_size": 32, "patch_size": 8}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    *("##" + c for c in LETTERS),
    "blue",
    "red",
    "at",
    "now",
]
MAX_TOKENS = 16
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": MAX_TOKENS, "pad_token_id": 0}
OWN_IDS = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}  # of `clip_tokenizer`
CONVOLUTIONS = {
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 4, 4),
    "num_conv_pos_embeddings": 4,
}
CONVOLUTIONS |= {"num_conv_pos_embedding_groups": 2}


def bert_tokenizer(folder: Path) -> Any:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    made = transformers.BertTokenizer(str(vocabulary), model_max_length=MAX_TOKENS)
    made.save_pretrained(folder)
    vocabulary.unlink()
    return made


def clip_tokenizer(folder: Path) -> Any:
    """Letters, whose padding is the token at the end of a text, as that of CLIP is."""
    names = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    made = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_TOKENS)
    made.save_pretrained(folder)
    return made


def siglip_tokenizer(folder: Path) -> Any:
    """The one tokenizer that is not of the library tokenizers."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS) + " blue red at now"] * 99),
        model_writer=model,
        vocab_size=34,
        pad_id=1,
        eos_id=2,
        unk_id=0,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    made = transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=MAX_TOKENS)
    made.save_pretrained(folder)
    return made


def picture_processor(kind: str, **settings: Any) -> Any:
    sizes = {"size": {"height": 32, "width": 32}}
    if kind in ("BitImageProcessor", "CLIPImageProcessor", "VideoMAEImageProcessor"):
        sizes = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    return getattr(transformers, kind)(**sizes, **settings)


def of_pictures(name: str, folder: Path) -> None:
    kinds = {
        "vit": ("ViTConfig", "ViTModel", "ViTImageProcessor"),
        "deit": ("DeiTConfig", "DeiTModel", "ViTImageProcessor"),
        "dinov2": ("Dinov2Config", "Dinov2Model", "BitImageProcessor"),
        "dinov2_with_registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", "BitImageProcessor"),
        "dinov3_vit": ("DINOv3ViTConfig", "DINOv3ViTModel", "BitImageProcessor"),
        "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessor"),
        "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", "SiglipImageProcessor"),
    }
    config, model, processor = kinds[name]
    size = SMALL | PICTURES
    if name.startswith("dinov2"):
        size = {key: value for key, value in size.items() if key != "intermediate_size"} | {"mlp_ratio": 2}
    save(folder, model, getattr(transformers, config)(**size))
    picture_processor(processor).save_pretrained(folder)


def of_video(name: str, folder: Path) -> None:
    config = {"videomae": "VideoMAEConfig", "timesformer": "TimesformerConfig"}[name]
    own = {"tubelet_size": 2} if name == "videomae" else {}
    save(
        folder,
        config.replace("Config", "Model"),
        getattr(transformers, config)(**SMALL, **PICTURES, num_frames=4, **own),
    )
    picture_processor("VideoMAEImageProcessor").save_pretrained(folder)


def of_speech(name: str, folder: Path) -> None:
    config = {"wav2vec2": "Wav2Vec2Config", "hubert": "HubertConfig", "wavlm": "WavLMConfig"}[name]
    own = {"feat_extract_norm": "layer"} if name == "wavlm" else {}
    made = getattr(transformers, config)(**SMALL, **CONVOLUTIONS, **own)
    save(folder, config.replace("Config", "Model"), made)
    extractor = transformers.Wav2Vec2FeatureExtractor(
        do_normalize=name != "hubert", return_attention_mask=name == "wavlm"
    )
    extractor.save_pretrained(folder)


def of_sound(name: str, folder: Path) -> None:
    if name == "audio-spectrogram-transformer":
        config = transformers.ASTConfig(
            **SMALL, patch_size=8, frequency_stride=8, time_stride=8, max_length=64, num_mel_bins=16
        )
        save(folder, "ASTModel", config)
        transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=16).save_pretrained(folder)
    if name == "whisper":
        config = transformers.WhisperConfig(
            vocab_size=60, num_mel_bins=20, d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=24, max_source_positions=50,
            max_target_positions=10, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        )  # fmt: skip
        save(folder, "WhisperModel", config)
        transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1).save_pretrained(folder)


def of_words(name: str, folder: Path) -> None:
    kinds = {
        "bert": ("BertConfig", "BertModel", {}),
        "roberta": ("RobertaConfig", "RobertaModel", {"max_position_embeddings": MAX_TOKENS + 2, "pad_token_id": 1}),
        "distilbert": (
            "DistilBertConfig",
            "DistilBertModel",
            {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
        ),
        "mpnet": ("MPNetConfig", "MPNetModel", {"max_position_embeddings": MAX_TOKENS + 2}),
        "albert": ("AlbertConfig", "AlbertModel", {"embedding_size": 8}),
        "electra": ("ElectraConfig", "ElectraModel", {"embedding_size": 8}),
        "deberta-v2": (
            "DebertaV2Config",
            "DebertaV2Model",
            {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        ),
        "modernbert": (
            "ModernBertConfig",
            "ModernBertModel",
            {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
        ),
        "t5": ("T5Config", "T5Model", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}),
        "clip_text_model": ("CLIPTextConfig", "CLIPTextModel", OWN_IDS),
    }
    config, model, own = kinds[name]
    settings = {**TEXT, **own}
    if name in ("distilbert", "t5"):
        settings = {"vocab_size": len(WORDS), "pad_token_id": 0, **own}
    save(folder, model, getattr(transformers, config)(**settings))
    (clip_tokenizer if name == "clip_text_model" else bert_tokenizer)(folder)


def of_towers(name: str, folder: Path) -> None:
    words = {**TEXT, **OWN_IDS, "projection_dim": 12}
    looks = {**SMALL, **PICTURES, "projection_dim": 12}
    reads = {"siglip": siglip_tokenizer, "clap": bert_tokenizer}.get(name, clip_tokenizer)(folder)
    if name == "clip":
        save(folder, "CLIPModel", transformers.CLIPConfig(text_config=words, vision_config=looks, projection_dim=12))
        transformers.CLIPProcessor(picture_processor("CLIPImageProcessor"), reads).save_pretrained(folder)
    if name == "siglip":
        save(folder, "SiglipModel", transformers.SiglipConfig(text_config=words, vision_config=looks))
        transformers.SiglipProcessor(picture_processor("SiglipImageProcessor"), reads).save_pretrained(folder)
    if name == "xclip":
        moves = looks | {
            "num_frames": 4,
            "mit_hidden_size": 12,
            "mit_intermediate_size": 24,
            "mit_num_attention_heads": 2,
        }
        config = transformers.XCLIPConfig(
            text_config=words, vision_config=moves, projection_dim=12, prompt_num_attention_heads=2
        )
        save(folder, "XCLIPModel", config)
        transformers.XCLIPProcessor(picture_processor("VideoMAEImageProcessor"), reads).save_pretrained(folder)
    if name == "clap":
        hears = {
            "window_size": 4, "num_mel_bins": 16, "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4],
            "num_classes": 2, "hidden_size": 16, "projection_dim": 12, "depths": [1, 1], "num_attention_heads": [2, 2],
            "num_hidden_layers": 2, "patch_embeds_hidden_size": 8,
        }  # fmt: skip
        read = {**TEXT, "max_position_embeddings": MAX_TOKENS + 2, "pad_token_id": 1}
        save(folder, "ClapModel", transformers.ClapConfig(text_config=read, audio_config=hears, projection_dim=12))
        extractor = transformers.ClapFeatureExtractor(
            feature_size=16, sampling_rate=8000, hop_length=128, max_length_s=1, fft_window_size=256,
            frequency_max=4000, truncation="rand_trunc", padding="repeatpad",
        )  # fmt: skip
        transformers.ClapProcessor(extractor, reads).save_pretrained(folder)


MAKERS = {
    **dict.fromkeys(
        ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "clip_vision_model", "siglip_vision_model"),
        of_pictures,
    ),
    **dict.fromkeys(("videomae", "timesformer"), of_video),
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm"), of_speech),
    **dict.fromkeys(("audio-spectrogram-transformer", "whisper"), of_sound),
    **dict.fromkeys(
        (
            "bert",
            "roberta",
            "distilbert",
            "mpnet",
            "albert",
            "electra",
            "deberta-v2",
            "modernbert",
            "t5",
            "clip_text_model",
        ),
        of_words,
    ),
    **dict.fromkeys(("clip", "siglip", "xclip", "clap"), of_towers),
}


def save(folder: Path, model: str, config: Any) -> None:
    torch.manual_seed(0)
    made = getattr(transformers, model)(config).eval()
    with torch.no_grad():  # of this spread, no output is next to constant
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    made.save_pretrained(folder)


def make(name: str, folder: Path) -> Path:
    """Save a tiny model and its processor; an existing one is used again."""
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        MAKERS[name](name, folder)
    return folder
