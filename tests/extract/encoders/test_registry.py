from __future__ import annotations

import subprocess
import sys

import pytest

from amr.extract.encoders import build_encoder, list_encoders
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
        "timm",
        "torchvision",
        "torchaudio",
        "trained",
    }
    assert len(overview) < 60
    assert [info.spec for info in list_encoders("r2plus1d")] == ["torchvision:r2plus1d_18"]
    assert len(list_encoders("resnet")) > 20
    assert [info.spec for info in list_encoders("timm:resnet18.a1*")] == ["timm:resnet18.a1_in1k"]
    assert {info.spec for info in list_encoders("wavlm")} == {
        "torchaudio:WAVLM_BASE",
        "torchaudio:WAVLM_BASE_PLUS",
        "torchaudio:WAVLM_LARGE",
    }
    assert list_encoders("no such thing") == []


def test_weight_free_dims_equal_the_list():
    for info in list_encoders():
        if info.spec in ("logmel", "frames"):
            encoder = build_encoder(info.spec, "x")
            assert (encoder.embed_dim, encoder.modality) == (info.embed_dim, info.modality)


def test_an_unknown_family():
    with pytest.raises(ValueError, match=r"encoder family must be one of .*, got 'logmle'. Did you mean logmel\?"):
        build_encoder("logmle", "audio")


def test_the_overview_imports_no_torch():
    code = (
        "import sys; from amr.extract.encoders import list_encoders, Spec; import amr.extract.media.decode; "
        "list_encoders(); sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
