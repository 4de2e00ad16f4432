"""Models of text: BERT-like ones, sentence encoders, and the text towers of CLIP, SigLIP, X-CLIP and CLAP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from amr.extract.encoders.base import PrepareText
from amr.extract.encoders.families.huggingface.architectures import Architecture
from amr.extract.encoders.families.huggingface.encoder import HfEncoder, find_processor
from amr.extract.encoders.families.huggingface.options import HfOptions
from amr.extract.encoders.families.huggingface.repository import SENTENCES, TOKENIZERS, VOCABULARIES, Repository
from amr.extract.encoders.families.huggingface.tower import quiet
from amr.extract.encoders.sound.waveforms import PooledSteps
from amr.extract.encoders.spec import Spec

PADDING = -1  # in place of a token
DEFAULT_TOKENS = 512  # at once, for models with relative positions whose tokenizer sets no limit
NO_LIMIT = 1_000_000  # a tokenizer's way to say that it has none
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "clap_text_model")  # count from pad + 1
ALWAYS_PADDED = ("siglip",)  # trained on texts padded to one length, without a mask


class PrepareTokens(PrepareText):
    """Function from text to the tokens of its windows, `(windows, tokens)`, padded with `PADDING`.

    Args:
        tokenizer: Tokenizer of transformers.
        max_tokens: Number of tokens that the model reads at once, special ones included.
        pad_all: Whether the model sees padding as tokens.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, *, pad_all: bool) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.pad_all = pad_all

    def of_text(self, text: str) -> Tensor:
        """Tokens of one clip's text. Every window has the special tokens of a text of its own."""
        windows = self._windows(text) if self.tokenizer.is_fast else self._windows_of_sentencepiece(text)
        if self.pad_all:
            padding = self.tokenizer.pad_token_id
            windows = [each + [padding] * (self.max_tokens - len(each)) for each in windows]
        return pad_sequence([torch.tensor(each) for each in windows], batch_first=True, padding_value=PADDING)

    def _windows(self, text: str) -> list[list[int]]:
        return self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_tokens,
            return_overflowing_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]

    def _windows_of_sentencepiece(self, text: str) -> list[list[int]]:
        """The same with a tokenizer that the library has in Python alone, as for SigLIP."""
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        length = self.max_tokens - self.tokenizer.num_special_tokens_to_add()
        parts = [tokens[first : first + length] for first in range(0, max(1, len(tokens)), length)]
        return [self.tokenizer.build_inputs_with_special_tokens(part) for part in parts]


class HfText(HfEncoder):
    """Encoder of text.

    Attributes:
        num_cut: Number of texts of which the rest was left out, as long=truncate asks for.
    """

    rows_at_once = 32
    steps_are_rows = False
    trainable = False
    processor_files = (*TOKENIZERS, *SENTENCES)
    num_cut = 0

    def __init__(self, spec: Spec, repository: Repository, architecture: Architecture, options: HfOptions) -> None:
        super().__init__(spec, repository, architecture, options, _own_pool(repository))
        tokenizer = _tokenizer(repository)
        self.cuts = options.long == "truncate"
        self.max_tokens = _max_tokens(repository, tokenizer, self.config, self.tower_config)
        self.pad_all = repository.config["model_type"] in ALWAYS_PADDED
        self.padding_token = tokenizer.pad_token_id or 0
        self.prepare = PrepareTokens(tokenizer, self.max_tokens, pad_all=self.pad_all)
        self.preprocessing |= {"max_tokens": self.max_tokens}
        modules = repository.read_json("modules.json") or []
        self.left_out = [each["path"] for each in modules if str(each.get("type", "")).endswith("Dense")]

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """Messages about texts that were cut, and parts of the model that are not used."""
        found = []
        if self.num_cut:
            texts = "1 text was" if self.num_cut == 1 else f"{self.num_cut:,} texts were"
            found.append(
                f"{self.spec}: {texts} longer than the {self.max_tokens} tokens that the model reads at once, and cut. "
                "Without long=truncate, all of it counts."
            )
        if self.left_out:
            found.append(f"{self.spec}: the layers after pooling ({', '.join(self.left_out)}) are not used")
        return found

    def embed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Pass the windows of all clips through the model, those of texts of similar length together.

        Args:
            inputs: Tokens of the windows of each clip, `(windows, tokens)`.
        """
        if self.cuts:
            self.num_cut += sum(len(clip) > 1 for clip in inputs)
            inputs = [clip[:1] for clip in inputs]
        order = sorted(range(len(inputs)), key=lambda at: int((inputs[at] >= 0).sum()))
        embeddings: dict[int, Tensor] = {}
        pooled: dict[int, PooledSteps] = {}
        left = {at: len(inputs[at]) for at in order}
        for places, rows in self._batches(inputs, order):
            for at, row, output in zip(places, rows, self.features(rows), strict=True):
                steps = output[None] if self.keep == "cls" else output[self._is_text(row)]
                if at not in pooled:
                    num_steps = len(inputs[at]) if self.keep == "cls" else int(self._is_text(inputs[at]).sum())
                    pooled[at] = PooledSteps(self.keep, num_steps, self.max_steps)
                pooled[at].add(steps)
                left[at] -= 1
                if not left[at]:
                    embeddings[at] = pooled.pop(at).result()
        return [embeddings[at] for at in range(len(inputs))]

    def _is_text(self, tokens: Tensor) -> Tensor:
        """Mask of the tokens that are pooled: all but padding."""
        return (tokens >= 0) & (tokens != self.padding_token) if self.pad_all else tokens >= 0

    def _batches(self, inputs: Sequence[Tensor], order: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield windows `(rows, tokens)`, each with the index of its clip."""
        windows = [(at, row[row >= 0]) for at in order for row in inputs[at]]
        for first in range(0, len(windows), self.rows_at_once):
            some = windows[first : first + self.rows_at_once]
            yield (
                [at for at, _ in some],
                pad_sequence([row for _, row in some], batch_first=True, padding_value=PADDING),
            )

    def forward(self, rows: Tensor) -> Tensor:
        """Summaries `(rows, embed_dim)`, or tokens `(rows, tokens, embed_dim)`, from tokens `(rows, tokens)`."""
        valid = rows >= 0
        inputs = {"input_ids": rows.masked_fill(~valid, self.padding_token)}
        if not self.pad_all:
            inputs["attention_mask"] = valid.long()
        return self.model.summary(**inputs) if self.keep == "cls" else self.model.tokens(**inputs)


def _tokenizer(repository: Repository) -> Any:
    if not repository.files_sha256(VOCABULARIES):
        raise ValueError(
            f"hf must name a folder with the model's own tokenizer, got {str(repository.folder)!r} without vocabulary "
            f"({', '.join(VOCABULARIES)}). Save it there with save_pretrained."
        )
    with quiet():
        return find_processor(transformers.AutoTokenizer.from_pretrained, repository, "tokenizer")


def _own_pool(repository: Repository) -> str | None:
    """Pooling that the folder of a sentence encoder asks for."""
    pooling = repository.read_json("1_Pooling/config.json") or {}
    names = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
    return next((pool for pool, name in names.items() if pooling.get(name)), None)


def _max_tokens(repository: Repository, tokenizer: Any, config: Any, tower_config: Any) -> int:
    """Number of tokens that a model reads at once."""
    limits = [int((repository.read_json("sentence_bert_config.json") or {}).get("max_seq_length") or NO_LIMIT)]
    limits.append(tokenizer.model_max_length or NO_LIMIT)
    if positions := getattr(tower_config, "max_position_embeddings", None):
        after_padding = {config.model_type, tower_config.model_type} & {*POSITIONS_AFTER_PADDING}
        limits.append(positions - (tower_config.pad_token_id + 1 if after_padding else 0))
    most = min(limits)
    return DEFAULT_TOKENS if most >= NO_LIMIT else int(most)
