from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils import murmurhash3_32

from amr.extract.encoders import build_encoder


def embedded(text, spec="hashing"):
    return build_encoder(spec, "text").prepare.of_text(text)


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(embedded(a), embedded(b), dim=0))


def test_each_half_has_length_one_and_order_counts():
    both = embedded("the cat sat on the mat").reshape(2, -1)
    assert both.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert not torch.equal(embedded("dog bites man"), embedded("man bites dog"))
    assert torch.equal(embedded("Dog, bites: man!").reshape(2, -1)[0], embedded("dog bites man").reshape(2, -1)[0])


def test_counts_of_words_by_hand():
    """One word, three times: a single bucket, whose sign is that of its hash."""
    words = embedded("go go go", "hashing,words=1")[:512]
    assert words.count_nonzero() == 1
    # twice one word and once another: log 3 and log 2, then length one
    values = embedded("go go on", "hashing,words=1")[:512].abs().sort(descending=True).values[:2]
    expected = np.log([3, 2]) / np.linalg.norm(np.log([3, 2]))
    assert values.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_words_of_one_letter_count_and_related_words_are_near():
    assert not torch.equal(embedded("at f three"), embedded("at g three"))
    assert cosine("she was happily running", "he runs, happy") > cosine(
        "she was happily running", "blue tables at noon"
    )
    assert embedded("早上好").isfinite().all()
    assert embedded("?!").tolist() == pytest.approx(embedded("?!").tolist())


def test_the_same_text_gives_the_same_numbers_everywhere():
    """MurmurHash3 with a fixed seed: no salt of this process."""
    number = murmurhash3_32("amr", seed=0)
    assert embedded("amr", "hashing,words=1")[abs(number) % 512] == np.sign(number)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hashing,buckets=7", "buckets must be even, from 2 to 1,048,576, got 7"),
        ("hashing,words=0", "words must be 1 to 10, got 0. Pass words=2"),
        ("hashing,characters=2", "characters must be 3 to 10, got 2"),
        ("hashing:x", "hashing must be given without a model"),
        ("hashing,size=7", "hashing option must be one of"),
    ],
)
def test_wrong_options(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "text")


def test_options_are_saved():
    encoder = build_encoder("hashing,buckets=64,characters=5,words=2", "text")
    assert (encoder.embed_dim, encoder.spec) == (64, "hashing,buckets=64,characters=5")
    assert encoder.preprocessing["characters"] == 5
    assert build_encoder(encoder.spec, "text").preprocessing == encoder.preprocessing
