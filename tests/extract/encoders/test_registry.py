from __future__ import annotations

import subprocess
import sys

import pytest

from amr.extract.encoders import build_encoder, build_requested, list_encoders
from amr.extract.encoders.registry import TORCHAUDIO_BUNDLES, TORCHVISION_MODELS


def test_the_lists_equal_those_of_the_libraries():
    import torchvision
    from torchaudio import pipelines

    assert set(TORCHVISION_MODELS) == set(torchvision.models.list_models(torchvision.models.video))
    bundles = {
        name: bundle._params["encoder_embed_dim"]
        for name, bundle in vars(pipelines).items()
        if isinstance(bundle, pipelines.Wav2Vec2Bundle) and name != "MMS_FA"  # that one aligns text
    }
    assert bundles == TORCHAUDIO_BUNDLES


def test_overview_and_patterns():
    overview = list_encoders()
    assert {info.spec.split(":")[0] for info in overview} == {
        "logmel",
        "frames",
        "motion",
        "opensmile",
        "hashing",
        "hf",
        "timm",
        "torchvision",
        "torchaudio",
        "vggish",
        "panns",
        "resemblyzer",
        "onnx",
        "trained",
    }
    assert len(overview) < 100
    assert [info.spec for info in list_encoders("r2plus1d")] == ["torchvision:r2plus1d_18"]
    assert len(list_encoders("resnet")) > 20
    assert [info.spec for info in list_encoders("timm:resnet18.a1*")] == ["timm:resnet18.a1_in1k"]
    assert {info.spec for info in list_encoders("wavlm")} == {
        "torchaudio:WAVLM_BASE",
        "torchaudio:WAVLM_BASE_PLUS",
        "torchaudio:WAVLM_LARGE",
        "hf:microsoft/wavlm-base-plus",
    }
    assert list_encoders("no such thing") == []


def test_weight_free_dims_equal_the_list():
    for info in list_encoders():
        if info.spec in ("logmel", "frames", "motion", "hashing"):
            encoder = build_encoder(info.spec, "x")
            assert (encoder.embed_dim, encoder.modality) == (info.embed_dim, info.modality)


def test_an_unknown_family():
    with pytest.raises(ValueError, match=r"encoder family must be one of .*, got 'logmle'. Did you mean logmel\?"):
        build_encoder("logmle", "audio")


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("LogMel", "logmel"),
        ("Frames", "frames"),
        ("timm:Test_ViT,weights=random", "timm:test_vit,weights=random"),
        ("torchvision:R3D_18,weights=random", "torchvision:r3d_18,weights=random"),
        ("torchaudio:wav2vec2_base,weights=random,layer=1", "torchaudio:WAV2VEC2_BASE,layer=1,weights=random"),
    ],
)
def test_names_are_found_whatever_their_case(written, spec, monkeypatch):
    from torchaudio import pipelines

    bundle = pipelines.WAV2VEC2_BASE
    monkeypatch.setattr(bundle, "_params", {**bundle._params, "encoder_num_layers": 1})
    assert build_encoder(written, "x").spec == spec


@pytest.mark.parametrize(
    ("written", "closest"),
    [
        ("logmell", "logmel"),
        ("Framse", "frames"),
        ("timm:resnt18", "timm:resnet18"),
        ("torchvision:R3D18", "torchvision:r3d_18"),
        ("torchaudio:wav2vec2_bsae", "torchaudio:WAV2VEC2_BASE"),
    ],
)
def test_an_unknown_name_gets_the_closest_one(written, closest):
    with pytest.raises(ValueError, match=rf"Did you mean {closest}\?"):
        build_encoder(written, "x")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("logmel,bands=0", "--encoder a=logmel,bands=0: bands must be at least 1, got 0"),
        ("logmle", "--encoder a=logmle: encoder family must be one of .*Did you mean logmel"),
        ("timm:", "--encoder a=timm:: encoder must be family"),
    ],
)
def test_errors_of_requested_encoders_name_the_option(spec, message):
    with pytest.raises(ValueError, match=message):
        build_requested({"a": spec})


def test_the_overview_imports_no_torch():
    code = (
        "import sys; from amr.extract.encoders import list_encoders, Spec; import amr.extract.media.decode; "
        "list_encoders(); sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
