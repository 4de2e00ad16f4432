from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from amr.common.files import remove_checksums
from amr.common.workspace import encoders_dir
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import verify
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.trained import ENCODER, WEIGHTS, save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.extract.run import extract_embeddings

BASE = "timm:test_resnet,size=32,weights=random"
CLIP = np.random.default_rng(0).integers(0, 256, (8, 40, 50, 3), dtype=np.uint8)
SOUND = np.random.default_rng(0).normal(size=9000).astype(np.float32) * 0.1
MEDIA = {"audio": SOUND, "video": CLIP}


def trained(modality: str, seed: int = 0, base: str = BASE) -> ModelEncoder:
    """An encoder whose weights and statistics were changed after it was built."""
    encoder = build_encoder(base, modality)
    assert isinstance(encoder, ModelEncoder)
    generator = torch.Generator().manual_seed(seed)
    for tensor in encoder.model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
    return encoder


@pytest.fixture
def run(workspace: Path) -> Path:
    """encoders/adverb with an encoder of sound and one of frames."""
    folder = encoders_dir() / "adverb"
    for modality in MEDIA:
        save_trained(folder / modality, trained(modality), BASE)
    return folder


@pytest.mark.parametrize("modality", MEDIA)
def test_a_saved_encoder_is_built_again(run, modality):
    before = trained(modality)
    path = run / modality
    for spec, name in (
        ("trained:adverb", modality),
        (f"trained:adverb/{modality}", "other"),
        (f"trained:{run}", modality),
        (f"trained:{path}", "other"),
    ):
        after = build_encoder(spec, name)
        assert (after.spec, after.random_weights) == (spec, False)
        assert (after.modality, after.embed_dim, after.max_steps) == (modality, before.embed_dim, None)
        assert after.preprocessing == before.preprocessing
        inputs = [before.prepare(MEDIA[modality])]
        torch.testing.assert_close(after.prepare(MEDIA[modality]), inputs[0])
        torch.testing.assert_close(after.embed(inputs)[0], before.embed(inputs)[0], rtol=0, atol=0)
    assert sorted(each.name for each in path.iterdir()) == ["SHA256SUMS", ENCODER, WEIGHTS]


def test_saving_replaces_an_encoder_and_may_start_from_a_trained_one(run):
    first = build_encoder("trained:adverb", "audio")
    save_trained(run / "audio", trained("audio", seed=1), BASE)
    second = build_encoder("trained:adverb", "audio")
    assert first.weights_sha256 != second.weights_sha256
    shutil.copytree(run, encoders_dir() / "gone")
    third = trained("audio", seed=2, base="trained:gone/audio")
    shutil.rmtree(encoders_dir() / "gone")
    save_trained(run / "again", third, "trained:gone/audio")
    info = json.loads((run / "again" / ENCODER).read_text())
    assert info["encoder"] == BASE
    torch.testing.assert_close(
        build_encoder("trained:adverb/again", "x").embed([third.prepare(SOUND)]), third.embed([third.prepare(SOUND)])
    )


def test_the_base_is_saved_without_its_weights(workspace):
    save_trained(workspace / "mine", trained("video"), "timm:test_resnet,size=32,weights=some/file.pt")
    assert json.loads((workspace / "mine" / ENCODER).read_text())["encoder"] == BASE


def test_the_name_selects_an_encoder_of_a_run(run):
    (run / "audio").rename(run / "voice")
    assert build_encoder("trained:adverb", "audio").modality == "audio"
    assert build_encoder("trained:adverb", "voice").modality == "audio"
    with pytest.raises(ValueError, match=r"must hold one encoder for 'x', got video, voice. Type trained:adverb/video"):
        build_encoder("trained:adverb", "x")
    shutil.rmtree(run / "voice")
    assert build_encoder("trained:adverb", "x").modality == "video"
    with pytest.raises(ValueError, match="must hold one encoder for 'audio', got video"):
        build_encoder("trained:adverb", "audio")


def test_missing_folders(run):
    with pytest.raises(FileNotFoundError, match=r"\(adverb\), got 'advreb'. Did you mean trained:adverb\?"):
        build_encoder("trained:advreb", "audio")
    with pytest.raises(FileNotFoundError, match=r"got None\. Make one with amr train-encoders"):
        build_encoder("trained", "audio")
    (run / "audio" / ENCODER).unlink()
    with pytest.raises(FileNotFoundError, match="trained must name a folder with an encoder"):
        build_encoder("trained:adverb/audio", "audio")


def test_options_are_refused(run):
    with pytest.raises(ValueError, match="trained must be given without options"):
        build_encoder("trained:adverb,keep=steps", "audio")


def test_damaged_and_swapped_files(run):
    audio, video = run / "audio", run / "video"
    whole = json.loads((audio / ENCODER).read_text())
    (audio / ENCODER).write_text(json.dumps({**whole, "embed_dim": 7}))
    with pytest.raises(ValueError, match=r"encoder\.json must be as .*, which is damaged .*SHA256SUMS"):
        build_encoder("trained:adverb", "audio")
    remove_checksums(audio, [ENCODER])
    for key, value, message in (
        ("weights_sha256", "ab", "weights_sha256 is"),
        ("embed_dim", 7, "embed_dim is"),
        ("preprocessing", {**whole["preprocessing"], "frames": 5}, "frames is 1, not 5"),
        ("modality", 3, "damaged"),
        ("encoder", "logmel", "logmel,weights=random|has no weights"),
        ("encoder", "timm:test_vit,weights=random", "cannot be read, or belongs to another model"),
    ):
        (audio / ENCODER).write_text(json.dumps({**whole, key: value}))
        with pytest.raises(ValueError, match=message):
            build_encoder("trained:adverb", "audio")
    (audio / ENCODER).write_text("{")
    with pytest.raises(ValueError, match="must be as amr train-encoders wrote it"):
        build_encoder("trained:adverb", "audio")
    (audio / ENCODER).write_text(json.dumps(whole))
    save_trained(video, trained("video", seed=3), BASE)
    shutil.copy(video / WEIGHTS, audio / WEIGHTS)
    with pytest.raises(ValueError, match=r"must be what encoder\.json describes"):
        build_encoder("trained:adverb", "audio")
    (audio / WEIGHTS).write_bytes((audio / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        build_encoder("trained:adverb", "audio")


def test_a_cache_made_with_it(run, tmp_path):
    sounds = [(SOUND * 10000 * (i + 1)).astype("<i2") for i in range(3)]
    for i, sound in enumerate(sounds):
        with wave.open(str(tmp_path / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    (tmp_path / "clips.csv").write_text("path,label,split\n" + "".join(f"{i}.wav,{i % 2},train\n" for i in range(3)))
    out = tmp_path / "cache.h5"
    options = {"manifest": str(tmp_path / "clips.csv"), "out": str(out), "workers": 0, "device": "cpu"}
    assert extract_embeddings(ExtractConfig(encoder=("audio=trained:adverb",), **options)).embedded == {"audio": 3}
    before = trained("audio")
    with Cache.open(out) as cache:
        info = cache.info("audio")
        rows = cache.embedding("audio")
    assert (info.encoder, info.random_weights) == ("trained:adverb", False)
    assert verify(out)["problems"] == []
    for other_name in (f"trained:{run}/audio", "trained:adverb/audio"):  # its weights decide, not its name
        again = extract_embeddings(ExtractConfig(encoder=(f"audio={other_name}",), **options))
        assert (again.extracted, again.embedded) == (0, {"audio": 3})
    assert verify(out)["problems"] == []
    expected = before.embed([before.prepare(sound.astype(np.float32) / 32768) for sound in sounds])
    np.testing.assert_allclose(rows, torch.stack(expected), rtol=2e-3, atol=2e-3)
    save_trained(run / "audio", trained("audio", seed=5), BASE)
    for name in ("adverb", "adverb/audio"):
        with pytest.raises(ValueError, match="weights_sha256"):
            extract_embeddings(ExtractConfig(encoder=(f"audio=trained:{name}",), **options))


@pytest.mark.usefixtures("power_cuts")
def test_a_power_cut_loses_no_trained_encoder(tmp_path):
    before = trained("video")
    save_trained(tmp_path / "mine", before, BASE)
    after = build_encoder(f"trained:{tmp_path / 'mine'}", "video")
    assert isinstance(after, ModelEncoder)
    for name, tensor in after.model.state_dict().items():
        assert torch.equal(tensor, before.model.state_dict()[name])
