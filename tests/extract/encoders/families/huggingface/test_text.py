"""Text: as the library's own documentation computes it, in batches of texts of different lengths."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from .conftest import assert_close
from .tiny import MAX_TOKENS

BERT_LIKE = ("bert", "roberta", "distilbert", "mpnet", "albert", "electra", "deberta-v2", "modernbert")
TOWERS = ("clip", "siglip", "xclip", "clap", "clip_text_model")
TEXTS = ["blue", "red at blue", "a b c d e f g", "zzz"]
LONG = "blue at red now and more words here to be read"


def library_output(folder, texts, **arguments):
    """Output and mask of a batch, padded as the documentation of each model says."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    padding = "max_length" if model.config.model_type == "siglip" else True
    inputs = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    mask = inputs["attention_mask"].bool()
    if padding == "max_length":
        inputs.pop("attention_mask")
        mask = inputs["input_ids"] != tokenizer.pad_token_id
    run = getattr(model, "get_text_features", None) or (model.encoder if model.config.is_encoder_decoder else model)
    with torch.inference_mode():
        return run(**inputs, **arguments), mask


def mean_over_tokens(hidden, mask):
    """Mean pooling as the sentence encoders' pages show it."""
    weights = mask[..., None].float()
    return (hidden * weights).sum(1) / weights.sum(1)


@pytest.mark.parametrize("name", [*BERT_LIKE, "t5"])
def test_each_pooling_equals_the_librarys_output(saved, built, name):
    out, mask = library_output(saved(name), TEXTS)
    hidden = out.last_hidden_state
    expected = {
        "": list(mean_over_tokens(hidden, mask)),
        ",pool=max": list(hidden.masked_fill(~mask[..., None], -torch.inf).amax(1)),
        ",pool=steps": [states[own] for states, own in zip(hidden, mask, strict=True)],
    }
    if name != "t5":
        expected[",pool=cls"] = list(hidden[:, 0])
    for options, wanted in expected.items():
        encoder = built(name, "text", options)
        found = encoder.embed([encoder.prepare.of_text(text) for text in TEXTS])
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)


@pytest.mark.parametrize("name", TOWERS)
def test_towers_give_their_projections(saved, built, name):
    out, mask = library_output(saved(name), TEXTS)
    encoder = built(name, "text")
    found = torch.stack(encoder.embed([encoder.prepare.of_text(text) for text in TEXTS]))
    assert_close(found, out.pooler_output)
    assert encoder.embed_dim == out.pooler_output.shape[-1]
    mean = built(name, "text", ",pool=mean")
    found = torch.stack(mean.embed([mean.prepare.of_text(text) for text in TEXTS]))
    assert_close(found, mean_over_tokens(out.last_hidden_state, mask))


@pytest.mark.parametrize("name", ["bert", "t5", "clip"])
def test_a_layer_is_the_librarys_hidden_state(saved, built, name):
    out, mask = library_output(saved(name), TEXTS, output_hidden_states=True)
    encoder = built(name, "text", ",layer=1,pool=mean")
    found = torch.stack(encoder.embed([encoder.prepare.of_text(text) for text in TEXTS]))
    assert_close(found, mean_over_tokens(out.hidden_states[1], mask))


@pytest.mark.parametrize("name", [*BERT_LIKE, "t5", *TOWERS])
def test_batch_mates_and_padding_have_no_influence(built, name):
    encoder = built(name, "text")
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    inputs = [prepare.of_text(text) for text in [*TEXTS, LONG, "?"]]
    for each, found in zip(inputs, encoder.embed(inputs), strict=True):
        assert_close(found, encoder.embed([each])[0])


@pytest.mark.parametrize("pool", ["cls", "mean", "max", "steps"])
def test_a_long_text_is_read_in_windows_that_all_count(built, pool, monkeypatch):
    encoder = built("bert", "text", f",pool={pool},max_steps=99")
    monkeypatch.setattr(type(encoder), "rows_at_once", 2)
    text = " ".join("abcdefghijklmnopqrstuvwxyz" * 2)
    prepared = encoder.prepare.of_text(text)
    assert prepared.shape == (4, MAX_TOKENS)  # 52 letters, 14 at a time with [CLS] and [SEP]
    letters = prepared[(prepared > 4)]
    assert letters.tolist() == [*range(5, 31)] * 2
    (found, _) = encoder.embed([prepared, encoder.prepare.of_text("a")])
    rows = [row[row >= 0] for row in prepared]
    outputs = [encoder.features(row[None])[0] for row in rows]
    if pool == "cls":
        assert_close(found, torch.stack(outputs).mean(0))
    else:
        steps = torch.cat(outputs)
        assert_close(found, {"mean": steps.mean(0), "max": steps.amax(0), "steps": steps}[pool])
    assert encoder.notes == []


def test_a_long_text_is_read_in_windows_by_the_tokenizer_of_siglip_too(built):
    encoder = built("siglip", "text")
    letters = " ".join("abcdefghijklmnopqrstuvwxyz")
    windows = encoder.prepare.of_text(letters)
    tokens = encoder.prepare.tokenizer(letters, add_special_tokens=False)["input_ids"]
    assert len(tokens) > MAX_TOKENS
    assert windows.shape == (-(-len(tokens) // (MAX_TOKENS - 1)), MAX_TOKENS)  # each with a token at its end
    assert [token for row in windows.tolist() for token in row if token != 2] == tokens


def test_a_text_that_is_cut_on_request_is_noted(built):
    encoder = built("bert", "text", ",long=truncate")
    cut, whole = encoder.embed([encoder.prepare.of_text(LONG), encoder.prepare.of_text("blue")])
    (note,) = encoder.notes
    assert "1 text was longer than the 16 tokens that the model reads at once, and cut" in note
    windows = built("bert", "text")
    assert_close(cut, windows.embed([windows.prepare.of_text(LONG)[:1]])[0])
    assert_close(whole, windows.embed([windows.prepare.of_text("blue")])[0])
    assert encoder.preprocessing["long"] == "truncate"


def test_a_sentence_encoder_brings_its_own_pooling_and_length(saved, built, tmp_path):
    folder = tmp_path / "sentences"
    shutil.copytree(saved("bert"), folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
    types = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = [{"idx": i, "path": f"{i}_{t}", "type": f"sentence_transformers.models.{t}"} for i, t in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))
    encoder = built("bert", "text", "")
    own = type(encoder)  # the same class
    from amr.extract.encoders import build_encoder

    found = build_encoder(f"hf:{folder}", "text")
    assert type(found) is own
    assert (found.preprocessing["pool"], found.preprocessing["max_tokens"]) == ("max", 8)
    assert build_encoder(f"hf:{folder},pool=mean", "text").preprocessing["pool"] == "mean"
    assert any("the layers after pooling (2_Dense) are not used" in note for note in found.notes)
    assert found.prepare.of_text(LONG).shape[1] == 8
    assert found.preprocessing["files"].keys() >= {
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
    }


def test_positions_of_roberta_begin_after_the_padding(built):
    assert built("roberta", "text").preprocessing["max_tokens"] == MAX_TOKENS
    assert built("clap", "text").preprocessing["max_tokens"] == MAX_TOKENS
