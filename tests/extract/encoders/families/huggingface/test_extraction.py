"""Models of transformers in an extraction: three modalities of real clips in one command, from a run to new clips."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import build_encoders
from amr.fusion.fit import fit
from amr.fusion.predict import predict

WORDS = {"b": "blue", "r": "red"}


@pytest.fixture
def clips(workspace: Path, test_data: Path, saved, monkeypatch) -> Path:
    """Twelve sentences of GRID with the color of each as text, and models beside them; the last clip has no text."""
    monkeypatch.chdir(workspace)
    for name in ("clip", "whisper", "bert"):
        os.symlink(saved(name), workspace / name)
    media = sorted((test_data / "grid/clips").glob("*.mp4"))
    chosen = [path for path in media if path.stem[1] == "b"][:6] + [path for path in media if path.stem[1] == "r"][:6]
    rows = [f"{path},{path.stem[1]},{WORDS[path.stem[1]]} at {path.stem[3]}" for path in chosen]
    rows[-1] = rows[-1].rpartition(",")[0] + ","
    (workspace / "clips.csv").write_text("\n".join(["path,label,text", *rows, ""]))
    return workspace / "clips.csv"


def extract(manifest: Path, *encoders: str, **settings):
    return extract_embeddings(
        ExtractConfig(**{"manifest": str(manifest), "encoder": encoders, "workers": 1, "device": "cpu", **settings})
    )


def test_three_modalities_of_real_clips_from_the_manifest_to_new_clips(clips):
    encoders = ("text=hf:clip", "audio=hf:whisper,pool=steps,max_steps=8", "video=hf:clip,frames=3")
    result = extract(clips, *encoders, batch_size=5)
    assert result.failures == []
    assert result.embedded == {"text": 11, "audio": 12, "video": 12}
    assert verify(result.cache)["ok"]
    again = extract(clips, *encoders, batch_size=5)
    assert again.extracted == 0
    one_by_one = extract(clips, *encoders, batch_size=1, out="one")
    with Cache.open(result.cache) as cache, Cache.open(one_by_one.cache) as other:
        info = {name: cache.info(name) for name in cache.names}
        for name in cache.names:
            np.testing.assert_allclose(cache.embedding(name), other.embedding(name), rtol=1e-5, atol=1e-5)
            assert info[name].fingerprint == other.info(name).fingerprint
        assert (info["text"].modality, info["text"].embed_dim, info["audio"].max_steps) == ("text", 12, 8)
        assert len(info["video"].weights_sha256) == 64
        assert info["text"].weights_sha256 != info["video"].weights_sha256
        first = cache.table()["path"][0]
        ids = cache.table()["id"].tolist()
    run = fit(FitConfig(cache=str(result.cache), epochs=2, device="cpu", amr_ratio="1:1:1", folds=3)).run
    (clips.parent / "new.csv").write_text(f"id,path,text\nnew,{first},blue at {Path(first).stem[3]}\n")
    cached, new = predict(run, [ids[0], "new.csv"], "cpu")
    assert new.probabilities == pytest.approx(cached.probabilities, abs=1e-4)
    assert set(new.share) == {"text", "audio", "video"}


def test_another_path_of_the_same_folder_is_the_same_encoder_but_other_weights_are_not(clips):
    first = extract(clips, "text=hf:bert")
    same = extract(clips, f"text=hf:{clips.parent / 'bert'}")
    assert (same.extracted, same.cache) == (0, first.cache)
    with pytest.raises(ValueError, match=r"--encoder text must be the one the cache was made with \(.*weights_sha256"):
        extract(clips, "text=hf:bert,weights=random")
    with pytest.raises(ValueError, match=r"preprocessing.pool mean\), got max"):
        extract(clips, "text=hf:bert,pool=max")


def test_texts_that_were_cut_are_noted_after_the_extraction(clips):
    clips.write_text(clips.read_text().replace("blue at", "blue at red and all that is said beside it at"))
    result = extract(clips, "text=hf:bert,long=truncate")
    assert any("6 texts were longer than the 16 tokens that the model reads at once" in note for note in result.notes)


def test_models_of_pictures_are_trained_and_others_are_refused_by_name(clips):
    config = TrainConfig(manifest=str(clips), encoder=("video=hf:clip,frames=2",))
    assert build_encoders(config)["video"].embed_dim == 12
    for spec, message in (
        ("audio=hf:whisper", "--encoder audio must be one that can be trained, got 'hf:whisper'"),
        ("text=hf:bert", "--encoder text must be an encoder of sound or pictures to be trained, got 'hf:bert'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_encoders(TrainConfig(manifest=str(clips), encoder=(spec,)))
