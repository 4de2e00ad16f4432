from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder, build_requested
from amr.extract.encoders.families.onnx import pieces
from amr.extract.media.decode import decode
from amr.extract.run import extract_embeddings
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import build_encoders

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)
SOUND = RNG.normal(size=48000).astype(np.float32)
KERNEL = RNG.normal(size=(5, 1, 400)).astype(np.float32)
COLORS = RNG.normal(size=(3, 7)).astype(np.float32)


MAKER: list[Any] = []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: Any) -> Path:
    """The current folder, to which files are relative."""
    monkeypatch.chdir(tmp_path)
    MAKER[:] = [networks]
    return tmp_path


def node(*arguments: Any, **attributes: Any) -> Any:
    return MAKER[0].node(*arguments, **attributes)


def constant(*arguments: Any) -> Any:
    return MAKER[0].constant(*arguments)


def save_network(*arguments: Any, **options: Any) -> None:
    MAKER[0].save(*arguments, **options)


def wave_network(name: str, samples: int | str = "samples", *, steps: bool = False, batch: int | str = "batch") -> None:
    """(batch, samples) to (batch, 5), the mean over time of a convolution, or to (batch, steps, 5)."""
    nodes = [
        node("Unsqueeze", ["x", "axis"], ["x3"]),
        node("Conv", ["x3", "kernel"], ["steps"], strides=[160]),
        node("Transpose", ["steps"], ["time_first"], perm=[0, 2, 1]),
        node("ReduceMean", ["steps"], ["mean"], axes=[2], keepdims=0),
    ]
    output = ("time_first", [batch, "steps", 5]) if steps else ("mean", [batch, 5])
    constants = [constant("kernel", KERNEL), constant("axis", np.array([1]))]
    save_network(name, nodes, [("x", [batch, samples])], [output], constants)


def convolved(sound: np.ndarray) -> torch.Tensor:
    """The same by torch, `(steps, 5)`."""
    return functional.conv1d(torch.from_numpy(sound)[None, None], torch.from_numpy(KERNEL), stride=160)[0].T


def picture_network(name: str, shape: Sequence[int | str], axes: Sequence[int], colors: int = 1) -> None:
    """Means over the axes of pixels and time, then a matrix from three colors to seven numbers."""
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=list(axes), keepdims=0),
        node("MatMul", ["mean", "matrix"], ["y"]),
    ]
    save_network(name, nodes, [("x", shape)], [("y", [shape[0], 7])], [constant("matrix", COLORS)])


def embed(spec: str, *clips: np.ndarray) -> list[torch.Tensor]:
    encoder = build_encoder(spec, "x")
    prepare = pickle.loads(pickle.dumps(encoder.prepare))
    found = encoder.embed([prepare(clip) for clip in clips])
    assert all(each.dtype == torch.float32 and each.shape[-1] == encoder.embed_dim for each in found)
    return found


def test_a_wave_is_what_torch_makes_of_it():
    wave_network("m.onnx")
    short, whole = embed("onnx:m.onnx,input=wave,rate=16000", SOUND[:8000], SOUND)
    torch.testing.assert_close(whole, convolved(SOUND).mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(short, convolved(SOUND[:8000]).mean(0), atol=1e-5, rtol=1e-4)
    (alone,) = embed("onnx:m.onnx,input=wave", SOUND[:8000])
    torch.testing.assert_close(alone, short, rtol=0, atol=0)


def test_attributes():
    wave_network("m.onnx")
    encoder = build_encoder("onnx:m.onnx,input=wave,rate=8000", "voice")
    assert (encoder.modality, encoder.embed_dim, encoder.max_steps) == ("audio", 5, None)
    assert (encoder.prepare.sample_rate_hz, encoder.prepare.sampling) == (8000, None)
    assert encoder.spec == "onnx:m.onnx,input=wave,rate=8000"
    assert encoder.weights_sha256 == hashlib.sha256(Path("m.onnx").read_bytes()).hexdigest()
    assert encoder.preprocessing == {
        "input": "wave",
        "sample_rate": 8000,
        "piece_seconds": 60.0,
        "output": "mean",
        "keep": "mean",
        "max_steps": 64,
    }


def test_steps_of_a_wave():
    wave_network("m.onnx", steps=True)
    (mean,) = embed("onnx:m.onnx", SOUND)
    (steps,) = embed("onnx:m.onnx,keep=steps,max_steps=1000", SOUND)
    (few,) = embed("onnx:m.onnx,keep=steps,max_steps=3", SOUND)
    torch.testing.assert_close(steps, convolved(SOUND), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mean, steps.mean(0))
    torch.testing.assert_close(few, functional.adaptive_avg_pool1d(steps.T, 3).T)


def test_long_sound_goes_through_in_equal_pieces():
    wave_network("m.onnx", steps=True)
    (found,) = embed("onnx:m.onnx,piece_seconds=1,keep=steps,max_steps=999", SOUND[:40000])
    starts = np.arange(3) * 13334
    torch.testing.assert_close(
        found, torch.cat([convolved(SOUND[:40000][s : s + 13334]) for s in starts]), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("batch", [1, 3, "batch"])
def test_fixed_lengths_and_batches(batch):
    wave_network("m.onnx", 16000, batch=batch)
    (found,) = embed("onnx:m.onnx", SOUND[:40000])
    parts = [SOUND[:16000], SOUND[16000:32000], np.pad(SOUND[32000:40000], (0, 8000))]
    torch.testing.assert_close(found, torch.stack([convolved(p).mean(0) for p in parts]).mean(0), atol=1e-5, rtol=1e-4)
    assert "piece_samples" in build_encoder("onnx:m.onnx", "x").preprocessing


def test_a_short_rest_is_left_out_and_a_short_clip_is_not():
    sound = torch.ones(10)
    assert [len(each) for each in pieces(sound[:9], 4, fixed=True)] == [4, 4]
    assert [each.tolist() for each in pieces(sound[:1], 4, fixed=True)] == [[1, 0, 0, 0]]


@pytest.mark.parametrize("batch", [1, 3, "batch"])
@pytest.mark.parametrize(("shape", "axes"), [((3, 20, 20), (2, 3)), (("c", "h", "w"), (2, 3)), ((20, 20, 3), (1, 2))])
def test_pictures(batch, shape, axes):
    picture_network("m.onnx", (batch, *shape), axes)
    layout = ",layout=chw" if shape[0] == "c" else ""
    spec = f"onnx:m.onnx,input=picture,frames=4,mean=0.1:0.2:0.3,std=2{layout}"
    if shape[-1] == "w":
        spec += ",size=20"
    (found,) = embed(spec, CLIP)
    (steps,) = embed(f"{spec},keep=steps", CLIP)
    square = CLIP[:, :, 5:35]  # the middle, 30 x 30, that a square picture shows
    means = ((square / 255).mean((1, 2)) - (0.1, 0.2, 0.3)) / 2  # (frames, 3)
    np.testing.assert_allclose(steps, means @ COLORS, atol=0.01)
    torch.testing.assert_close(found, steps.mean(0))


def test_a_crop_equals_a_clip_cut_before():
    picture_network("m.onnx", (1, 3, 8, 8), (2, 3))
    spec = "onnx:m.onnx,frames=4"
    torch.testing.assert_close(embed(f"{spec},crop=0.5:0:1:0.5", CLIP), embed(spec, CLIP[:, :15, 20:]))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1, 4, 3, 8, 8), (1, 3, 4)), ((1, 3, 4, 8, 8), (2, 3, 4)), (("n", "t", 8, 8, 3), (1, 2, 3))],
)
def test_frames_in_any_order_of_axes(shape, axes):
    picture_network("m.onnx", shape, axes)
    encoder = build_encoder("onnx:m.onnx" + ("" if 4 in shape else ",frames=4"), "x")
    assert (encoder.modality, encoder.prepare.sampling.num_frames) == ("video", 4)
    (found,) = encoder.embed([encoder.prepare(CLIP)])
    np.testing.assert_allclose(found, (CLIP[:, :, 5:35] / 255).mean((0, 1, 2)) @ COLORS, atol=0.01)


def test_colors_that_no_axis_says_must_be_given():
    picture_network("m.onnx", ("n", 3, 3, 8, 8), (2, 3, 4))
    with pytest.raises(
        ValueError, match=r"layout must be given for the input x \(any, 3, 3, 8, 8\), got none. Type lay"
    ):
        build_encoder("onnx:m.onnx", "x")
    assert build_encoder("onnx:m.onnx,layout=cthw", "x").preprocessing["layout"] == "cthw"


def several(name: str) -> None:
    nodes = [node("Relu", ["x"], ["high"]), node("Neg", ["x"], ["low"])]
    shape = ["batch", 16000]
    save_network(name, nodes, [("x", shape)], [("high", shape), ("low", shape)])


def test_an_output_is_chosen_by_name():
    several("m.onnx")
    high, low = (embed(f"onnx:m.onnx,output={name}", SOUND[:16000])[0] for name in ("high", "low"))
    torch.testing.assert_close(high, torch.from_numpy(SOUND[:16000]).relu())
    torch.testing.assert_close(low, -torch.from_numpy(SOUND[:16000]))
    with pytest.raises(ValueError, match=r"got high \(any, 16000\), low \(any, 16000\). Type output=high."):
        build_encoder("onnx:m.onnx", "x")
    with pytest.raises(ValueError, match=r"output must be one of high, low, got 'hgih'. Did you mean high\?"):
        build_encoder("onnx:m.onnx,output=hgih", "x")


def wrong_networks() -> None:
    wave_network("wave.onnx")
    picture_network("picture.onnx", (1, 3, 8, 8), (2, 3))
    save_network("two.onnx", [node("Add", ["a", "b"], ["y"])], [("a", [1, 4]), ("b", [1, 4])], [("y", [1, 4])])
    save_network("map.onnx", [node("Relu", ["x"], ["y"])], [("x", [1, 3, 8, 8])], [("y", [1, 3, 8, 8])])
    save_network("seven.onnx", [node("Relu", ["x"], ["y"])], [("x", [7])], [("y", [7])])
    save_network("ids.onnx", [node("Identity", ["x"], ["y"])], [("x", [1, 9])], [("y", [1, 9])], kind=np.int64)
    evil = node("Execute", ["x"], ["y"], domain="evil.com")
    save_network("custom.onnx", [evil], [("x", [1, 9])], [("y", [1, 9])], domains=["evil.com"])
    branch = node("If", ["flag"], ["y"], then_branch=[evil], else_branch=[evil])
    save_network("hidden.onnx", [branch], [("x", [1, 9])], [("y", [1, 9])], [constant("flag", np.array(True))])
    Path("text.onnx").write_text("no network")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("onnx", "onnx must name a file, got 'onnx'"),
        ("onnx:two.onnx", r"exactly one input, got 2: a \(1, 4\), b \(1, 4\)"),
        ("onnx:ids.onnx", r"floating-point numbers, got the input x \(1, 9\) of tensor\(int64\)"),
        ("onnx:text.onnx", "onnx must be a file of ONNX, got 'text.onnx'"),
        ("onnx:custom.onnx", "operators of ONNX, got 'custom.onnx' with evil.com.Execute, which need code"),
        ("onnx:hidden.onnx", "operators of ONNX, got 'hidden.onnx' with evil.com.Execute"),
        ("onnx:map.onnx", r"shaped \(batch, dim\) or \(batch, steps, dim\), got y of shape \(1, 3, 8, 8\)"),
        ("onnx:seven.onnx", r"wave, a picture or frames: .* got the input x \(7\). Export the network"),
        ("onnx:wave.onnx,input=picture", r"fit input=picture: .* got the input x \(any, any\). Type input=wave."),
        ("onnx:picture.onnx,input=wave", r"fit input=wave: .* got the input x \(1, 3, 8, 8\). Type input=picture."),
        ("onnx:picture.onnx,size=9", "size must be 8x8 for this network, got 9"),
        ("onnx:picture.onnx,layout=hwc", "layout must have an axis of 3 colors, got hwc"),
        ("onnx:picture.onnx,layout=tchw", "layout must be one of chw, hwc, got 'tchw'"),
        ("onnx:picture.onnx,piece_seconds=5", "piece_seconds must be left out for input=picture, got 5"),
        ("onnx:picture.onnx,rate=2,frames=4", "frames must be left out with rate, got 4"),
        ("onnx:picture.onnx,mean=1:2", "mean must be one number or red:green:blue, got '1:2'"),
        ("onnx:picture.onnx,std=0", "std must be one number or red:green:blue, got '0'"),
        ("onnx:wave.onnx,rate=100", "rate must be a sample rate of at least 1000 Hz, got 100. Pass rate=16000."),
        ("onnx:wave.onnx,size=8", "size must be left out for input=wave, got 8"),
        ("onnx:wave.onnx,crop=0:0:1:0.5", "crop must be left out for input=wave"),
        ("onnx:wave.onnx,ouput=y", "Did you mean output"),
    ],
)
def test_wrong_requests_are_refused(spec, message):
    wrong_networks()
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "x")


def test_a_missing_file_suggests_the_closest():
    wave_network("voice.onnx")
    with pytest.raises(
        FileNotFoundError, match=r"onnx must name a file that exists, got 'vioce.onnx'. Did you mean voi"
    ):
        build_encoder("onnx:vioce.onnx", "x")
    with pytest.raises(FileNotFoundError, match=r"Give the path of an .onnx file, relative to the current folder"):
        build_encoder("onnx:other/m.onnx", "x")


def test_weights_in_other_files_count_and_must_lie_beside_it(folder):
    (folder / "inside").mkdir()
    nodes = [node("MatMul", ["x", "matrix"], ["y"])]
    matrix = RNG.normal(size=(400, 6)).astype(np.float32)
    save_network(
        "inside/m.onnx", nodes, [("x", [1, 400])], [("y", [1, 6])], [constant("matrix", matrix)], beside="w.bin"
    )
    encoder = build_encoder("onnx:inside/m.onnx", "x")
    torch.testing.assert_close(
        encoder.embed([torch.from_numpy(SOUND[:400])])[0], torch.from_numpy(SOUND[:400] @ matrix), atol=1e-4, rtol=1e-4
    )
    weights = folder / "inside" / "w.bin"
    content = weights.read_bytes()
    weights.write_bytes(b"\0" * len(content))
    assert build_encoder("onnx:inside/m.onnx", "x").weights_sha256 != encoder.weights_sha256
    weights.rename(folder / "w.bin")
    with pytest.raises(FileNotFoundError, match="onnx must have its weights beside it, got no file"):
        build_encoder("onnx:inside/m.onnx", "x")
    network = Path("inside/m.onnx").read_bytes()
    Path("inside/m.onnx").write_bytes(network.replace(b"w.bin", b"../w1").replace(b"../w1", b"/etcx"))
    with pytest.raises(ValueError, match=r"onnx must have its weights beside it, got .* with weights in '/etcx'"):
        build_encoder("onnx:inside/m.onnx", "x")


def test_an_exported_network_is_not_trained():
    wave_network("m.onnx")
    config = TrainConfig(dataset="synthetic", encoder=("audio=onnx:m.onnx", "video=timm:test_vit,weights=random"))
    with pytest.raises(ValueError, match=r"--encoder audio must have weights that can be trained, got 'onnx:m.onnx'"):
        build_encoders(config)


def test_the_error_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    Path("m.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"onnx must have the package onnx, got .*pip install 'amr-fusion\[onnx\]'"):
        build_encoder("onnx:m.onnx", "x")


def test_real_clips_through_a_network_that_torch_exported(test_data, folder):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs one more package
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, 64, 64),),
            "net.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    clips = sorted((test_data / "vggsound" / "video").glob("*.mp4"))[:5]
    rows = "\n".join(f"{clip},{label}" for clip, label in zip(clips, "ababa", strict=True))
    (folder / "clips.csv").write_text(f"path,label\n{rows}\n")
    wave_network("wave.onnx")
    specs = ("audio=onnx:wave.onnx,rate=16000", "video=onnx:net.onnx,mean=0.5,std=0.5")
    config = ExtractConfig(manifest="clips.csv", encoder=specs, out="c.h5", device="cpu")
    assert extract_embeddings(config).embedded == {"audio": 5, "video": 5}
    encoders = build_requested(config.encoders)
    sampling = encoders["video"].prepare.sampling
    pictures = encoders["video"].prepare(decode(clips[0], samplings=[sampling]).frames[sampling])
    with torch.inference_mode(), Cache.open(Path("c.h5")) as cache:
        expected = model(pictures).mean(0)
        np.testing.assert_allclose(cache.embedding("video")[0], expected, atol=1e-5)
        assert cache.info("video").weights_sha256 == encoders["video"].weights_sha256
