from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from amr.common.progress import Progress
from amr.extract.cache.reader import Cache
from amr.extract.cache.verify import inspect, verify
from amr.extract.config import ExtractConfig, MergeConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.faces.boxes import Box
from amr.extract.encoders.faces.prepare import FacePrepare
from amr.extract.encoders.families.trained import save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.extract.media.spool import Spool
from amr.extract.run import extract_embeddings
from amr.extract.shards.merge import merge_shards

from ..conftest import is_there
from .test_detect import detector_network
from .test_track import Scripted

CLIP = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
ENCODERS = (
    "frames,frames=4",
    "motion",
    "timm:test_vit,weights=random,frames=4",
    "torchvision:r3d_18,weights=random,frames=4",
)


@pytest.fixture(autouse=True)
def opencv() -> None:
    is_there("cv2", "pip install 'amr-fusion[faces]'")


@pytest.mark.parametrize("spec", ENCODERS)
def test_an_encoder_sees_what_it_would_see_of_frames_that_are_cut_before(spec):
    whole, cut = build_encoder(spec, "video"), build_encoder(f"{spec},face=yes", "video")
    assert isinstance(cut.prepare, FacePrepare)
    prepare = pickle.loads(pickle.dumps(cut.prepare))
    assert prepare.sampling == whole.prepare.sampling
    prepare.detector = Scripted([[Box(20, 10, 40, 30)]] * len(CLIP))
    torch.testing.assert_close(prepare(CLIP), whole.prepare(np.ascontiguousarray(CLIP[:, 5:35, 15:45])))


def test_a_crop_is_a_part_of_the_face():
    """The lower half of the box: the mouth."""
    mouth = build_encoder("frames,frames=4,crop=0:0.5:1:1,face=yes", "video").prepare
    mouth.detector = Scripted([[Box(20, 10, 40, 30)]] * len(CLIP))
    expected = build_encoder("frames,frames=4", "video").prepare(CLIP[:, 20:35, 15:45])
    torch.testing.assert_close(mouth(CLIP), expected)


def test_without_a_face_it_sees_whole_frames_and_says_so():
    plain, prepare = (build_encoder(f"frames,frames=4{face}", "v").prepare for face in ("", ",face=yes"))
    torch.testing.assert_close(prepare(CLIP), plain(CLIP))
    reduce = prepare.begin()
    assert prepare.faces(np.stack([reduce(image) for image in CLIP])) == 0
    prepare.detector = Scripted([[], [Box(0, 0, 9, 9)], [], []])
    reduce = prepare.begin()
    assert prepare.faces(np.stack([reduce(image) for image in CLIP])) == 0.25


def test_many_frames_lie_in_a_file(monkeypatch):
    prepare = build_encoder("timm:test_vit,weights=random,frames=4,face=yes", "v").prepare
    expected = prepare(CLIP)
    monkeypatch.setattr("amr.extract.media.spool.MEMORY_BYTES", 1000)
    monkeypatch.setattr("amr.extract.encoders.faces.prepare.BLOCK_FRAMES", 3)
    spool, reduce = Spool(), prepare.begin()
    for image in CLIP:
        spool.append(reduce(image)[None])
    torch.testing.assert_close(torch.as_tensor(prepare.join(spool.finish()).numpy()), expected)


def test_the_option_enters_spec_and_preprocessing_only_where_it_is_used(tmp_path):
    plain = build_encoder("frames,face=no", "v")
    assert (plain.spec, plain.preprocessing) == ("frames", build_encoder("frames", "v").preprocessing)
    cut = build_encoder("frames,face=yes,grid=8,folder_fps=5", "v")
    assert cut.spec == "frames,grid=8x8,face=yes,folder_fps=5"
    assert build_encoder(cut.spec, "v").preprocessing == cut.preprocessing
    assert cut.preprocessing["face"]["detector"] == "haarcascade_frontalface_alt2.xml"
    assert cut.prepare.folder_fps == 5


def test_a_trained_encoder_sees_the_faces_that_it_was_trained_on(tmp_path):
    encoder = build_encoder("timm:test_vit,weights=random,face=yes", "video")
    assert isinstance(encoder, ModelEncoder)
    save_trained(tmp_path, encoder, encoder.spec)
    again = build_encoder(f"trained:{tmp_path}", "video")
    assert again.preprocessing == encoder.preprocessing
    with pytest.raises(ValueError, match="face must be given once, got it for trained:"):
        build_encoder(f"trained:{tmp_path},face=yes", "video")


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("logmel,face=yes", ValueError, "face must be used with an encoder of frames, got logmel. Leave it out."),
        ("frames,face=ja", ValueError, "face must be no, yes or an .onnx file, got 'ja'. Type face=yes."),
        ("frames,face=none.onnx", FileNotFoundError, "face must name a file that exists, got 'none.onnx'"),
    ],
)
def test_wrong_options_are_refused(spec, kind, message):
    with pytest.raises(kind, match=message):
        build_encoder(spec, "x")


def faceless(folder: Path, name: str) -> Path:
    """A clip of noise, as a folder of images."""
    (folder / name).mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name / f"{number}.png")
    return folder / name


@pytest.fixture
def clips(test_data, tmp_path) -> ExtractConfig:
    """Clips with a face, without one, and without a file."""
    with_face = [min((test_data / "grid" / "clips").glob("*.mp4")), min((test_data / "cremad").glob("*/*.flv"))]
    files = [with_face[0], faceless(tmp_path, "a"), with_face[1], faceless(tmp_path, "b"), tmp_path / "gone.mp4"]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label", *(f"{file},x" for file in files)]))
    return ExtractConfig(
        manifest=str(tmp_path / "clips.csv"),
        encoder=("face=frames,frames=3,face=yes", "video=frames,frames=3"),
        out=str(tmp_path / "c.h5"),
        device="cpu",
        batch_size=2,
    )


def test_clips_without_a_face_are_counted(clips):
    notes: list[str] = []
    progress = Progress()
    progress.note = notes.append  # type: ignore[method-assign]
    result = extract_embeddings(clips, progress)
    note = "face: no face in 2 of 4 clips, whose whole frames were used"
    assert note in notes
    assert note in result.notes
    assert result.to_json()["without_face"] == {"face": 2}
    path = Path(str(clips.out))
    assert verify(path)["problems"] == []
    assert inspect(path)["embeddings"]["face"]["without_face"] == 2
    assert "without_face" not in inspect(path)["embeddings"]["video"]
    with Cache.open(path) as cache:
        np.testing.assert_array_equal(cache.faces("face"), [1, 0, 1, 0, 0])
        assert cache.faces("video") is None
        same = (cache.embedding("face") == cache.embedding("video")).all(axis=1)
    assert same.tolist() == [False, True, False, True, True]
    again = extract_embeddings(clips)
    assert (again.extracted, again.without_face) == (0, {"face": 2})


def test_shards_give_the_same_file(clips, tmp_path):
    extract_embeddings(clips)
    shards = [str(tmp_path / f"{number}.h5") for number in (1, 2)]
    for number, shard in enumerate(shards, start=1):
        extract_embeddings(replace(clips, out=shard, shard=f"{number}/2"))
    merge_shards(MergeConfig(tuple(shards), out=str(tmp_path / "merged.h5")))
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "c.h5").read_bytes()


def test_a_detector_of_the_user_s_own(clips, tmp_path, networks, monkeypatch):
    """It finds a face in the left upper quarter of every frame."""
    monkeypatch.chdir(tmp_path)
    detector_network(networks, tmp_path / "d.onnx", np.array([[0, 0, 0.5, 0.5]]), np.array([[0, 5.0]]), (24, 32))
    result = extract_embeddings(replace(clips, encoder=("face=frames,frames=3,face=d.onnx",), workers=2))
    assert result.without_face == {"face": 0}
    # the box with its margins, moved inside the frame
    expected = replace(clips, encoder=("face=frames,frames=3,crop=0:0:0.75:0.75",), out=str(tmp_path / "part.h5"))
    extract_embeddings(expected)
    with Cache.open(Path(str(clips.out))) as cache, Cache.open(tmp_path / "part.h5") as part:
        np.testing.assert_array_equal(cache.faces("face"), [1, 1, 1, 1, 0])
        np.testing.assert_allclose(cache.embedding("face"), part.embedding("face"), atol=1e-6)
        assert cache.info("face").preprocessing["face"]["detector"] == "onnx"


def test_damage_of_what_was_found_is_seen(clips, tmp_path):
    extract_embeddings(clips)
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["faces/face"][0] = 0.5
    assert any("checksum of faces differs" in problem for problem in verify(tmp_path / "c.h5")["problems"])
