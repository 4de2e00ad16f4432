"""`hashing`: counts of a text's words and of their parts, in a fixed number of buckets. No weights, no vocabulary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from amr.extract.encoders.base import PrepareText, WeightFreeEncoder
from amr.extract.encoders.spec import Spec

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import HashingVectorizer

WORD = r"(?u)\w+"  # scikit-learn's own default leaves out words of one letter
FEWEST_CHARACTERS = 3


@dataclass(frozen=True)
class HashingOptions:
    """Options of `hashing`.

    Args:
        buckets: Number of buckets, half of them for words and half for parts of words.
        words: Most words of one count: 2 counts words and pairs of neighbors.
        characters: Most characters of one count: 4 counts parts of words of 3 and of 4 characters.
    """

    buckets: int = 1024
    words: int = 2
    characters: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= 1 << 20 or self.buckets % 2:
            raise ValueError(f"buckets must be even, from 2 to 1,048,576, got {self.buckets}. Pass buckets=1024.")
        for name, least in (("words", 1), ("characters", FEWEST_CHARACTERS)):
            if not least <= getattr(self, name) <= 10:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be {least} to 10, got {getattr(self, name)}. Pass {name}={default}.")


class PrepareHashing(PrepareText):
    """Function from text to `(buckets,)`."""

    def __init__(self, options: HashingOptions) -> None:
        self.options = options

    def of_text(self, text: str) -> Tensor:
        """Counts of one clip's words and parts of words: log(1 + count), each half of length 1, or 0 without words."""
        options = self.options
        halves = [
            _counts(text, "word", 1, options.words, options.buckets // 2),
            _counts(text, "char_wb", FEWEST_CHARACTERS, options.characters, options.buckets // 2),
        ]
        return torch.from_numpy(np.concatenate(halves))


def _counts(text: str, unit: str, fewest: int, most: int, num_buckets: int) -> np.ndarray:
    counts = _vectorizer(unit, fewest, most, num_buckets).transform([text]).toarray()[0]
    scaled = np.sign(counts) * np.log1p(np.abs(counts))
    return (scaled / (float(np.linalg.norm(scaled)) or 1.0)).astype(np.float32)


@cache
def _vectorizer(unit: str, fewest: int, most: int, num_buckets: int) -> HashingVectorizer:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer=unit, ngram_range=(fewest, most), n_features=num_buckets, token_pattern=WORD, norm=None
    )


class Hashing(WeightFreeEncoder):
    """The `hashing` encoder (Weinberger et al. 2009: signed counts, so that collisions cancel on average)."""

    modality = "text"
    max_steps = None

    def __init__(self, spec: Spec) -> None:
        options = spec.read(HashingOptions)
        self.spec = spec.canonical(options)
        self.embed_dim = options.buckets
        self.preprocessing = {**asdict(options), "word": WORD, "fewest_characters": FEWEST_CHARACTERS}
        self.prepare = PrepareHashing(options)


def build(spec: Spec, name: str) -> Hashing:
    """Build the encoder of a spec."""
    if spec.model is not None:
        raise ValueError(f"hashing must be given without a model, got {str(spec)!r}. Type hashing,buckets=512.")
    return Hashing(spec)
