"""Options of every encoder: the audio track, and the frame rate of folders of images."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from amr.extract.cache.reader import Cache
from amr.extract.config import ExtractConfig
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.trained import save_trained
from amr.extract.encoders.media_options import MediaOptions
from amr.extract.encoders.model import ModelEncoder
from amr.extract.pipeline import load as loading
from amr.extract.pipeline.preview import cached_media, decode_media
from amr.extract.run import embed_clips, extract_embeddings

RATE_HZ = 16000
PITCHES_HZ = (300, 1000, 2000)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A clip with three audio tracks of different pitch, and its manifest."""
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in PITCHES_HZ]
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        for stream, pitch_hz in zip(streams, PITCHES_HZ, strict=True):
            wave = (0.4 * np.sin(2 * np.pi * pitch_hz * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
            piece = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = RATE_HZ, 0
            container.mux(stream.encode(piece))
        for stream in (video, *streams):
            container.mux(stream.encode())
    (tmp_path / "clips.csv").write_text("path,label\nclip.mkv,x\n")
    return tmp_path / "clip.mkv"


def config_of(movie: Path, *encoders: str, **changes: object) -> ExtractConfig:
    settings = {"out": movie.parent / "cache.h5", "workers": 0, "device": "cpu", "overwrite": True} | changes
    return ExtractConfig(manifest=movie.parent / "clips.csv", encoder=encoders, **settings)


def rows(config: ExtractConfig) -> dict[str, np.ndarray]:
    extract_embeddings(config)
    with Cache.open(Path(str(config.out))) as cache:
        return {name: cache.embedding(name) for name in cache.names}


def test_the_default_leaves_no_trace_in_spec_and_preprocessing():
    plain = build_encoder("logmel", "a")
    assert (plain.spec, plain.prepare.audio_track) == ("logmel", None)
    assert "audio_track" not in plain.preprocessing
    frames = build_encoder("frames,folder_fps=25", "v")
    assert (frames.spec, frames.preprocessing) == ("frames", build_encoder("frames", "v").preprocessing)


def test_a_spec_with_a_track_builds_the_same_encoder_again():
    encoder = build_encoder("logmel,audio_track=1,bands=20", "a")
    again = build_encoder(encoder.spec, "a")
    assert encoder.spec == again.spec == "logmel,bands=20,audio_track=1"
    assert encoder.preprocessing == again.preprocessing == {**again.preprocessing, "audio_track": 1, "bands": 20}
    assert again.prepare.audio_track == 1
    faster = build_encoder("frames,folder_fps=12.5", "v")
    assert (faster.spec, faster.preprocessing["folder_fps"]) == ("frames,folder_fps=12.5", 12.5)


def test_a_trained_encoder_hears_the_track_that_it_was_trained_on(tmp_path):
    encoder = build_encoder("timm:test_vit,weights=random,audio_track=1", "audio")
    assert isinstance(encoder, ModelEncoder)
    save_trained(tmp_path, encoder, encoder.spec)
    again = build_encoder(f"trained:{tmp_path}", "audio")
    assert (again.prepare.audio_track, again.preprocessing) == (1, encoder.preprocessing)
    assert build_encoder(f"trained:{tmp_path},audio_track=2", "audio").prepare.audio_track == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("frames,audio_track=1", "audio_track must be used with an encoder of audio, got frames. Leave it out."),
        ("logmel,folder_fps=5", "folder_fps must be used with an encoder of video, got logmel. Leave it out."),
        ("logmel,audio_track=-1", "audio_track must be at least 0, got -1"),
        ("logmel,audio_track=one", "audio_track must be a whole number, got 'one'"),
        ("frames,folder_fps=0", "folder_fps must be above 0, got 0.0"),
        ("frames,folder_fps=nan", "folder_fps must be above 0, got nan"),
    ],
)
def test_wrong_options_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(spec, "x")


def test_the_option_holds_for_encoders_that_do_not_say_their_own():
    encoders = {"a": build_encoder("logmel", "a"), "b": build_encoder("logmel,audio_track=2", "b")}
    MediaOptions(audio_track=1).apply_where_unsaid(encoders)
    assert [each.prepare.audio_track for each in encoders.values()] == [1, 2]
    assert [each.spec for each in encoders.values()] == ["logmel,audio_track=1", "logmel,audio_track=2"]
    with pytest.raises(ValueError, match="--audio-track must be used with an encoder of audio, got v=frames"):
        MediaOptions(audio_track=1).apply_where_unsaid({"v": build_encoder("frames", "v")})


def test_each_track_is_another_embedding_and_another_fingerprint(movie):
    tracks = rows(config_of(movie, *(f"t{n}=logmel,audio_track={n}" for n in range(3)), "default=logmel"))
    np.testing.assert_array_equal(tracks["default"], tracks["t0"])
    assert not np.allclose(tracks["t0"], tracks["t1"])
    assert not np.allclose(tracks["t1"], tracks["t2"])
    np.testing.assert_array_equal(rows(config_of(movie, "a=logmel", audio_track=2))["a"], tracks["t2"])
    with pytest.raises(ValueError, match=r"--encoder a must be the one the cache was made with"):
        extract_embeddings(config_of(movie, "a=logmel", overwrite=False))


def test_new_media_are_read_as_the_cache_says(movie):
    cached = rows(config_of(movie, "a=logmel", audio_track=1))["a"]
    with Cache.open(movie.parent / "cache.h5") as cache:
        info, media = cache.info("a"), cached_media(cache, 0)
    found, embedded = embed_clips([str(movie)], {"a": info.encoder}, workers=0, device="cpu")["a"]
    np.testing.assert_array_equal(embedded.values, cached)
    assert found.preprocessing == info.preprocessing
    sound = decode_media(media, 1).sound
    assert np.argmax(np.abs(np.fft.rfft(sound, n=RATE_HZ))) == pytest.approx(PITCHES_HZ[1], abs=5)


def test_a_track_that_a_file_lacks_is_a_failure_of_the_clip(movie):
    result = extract_embeddings(config_of(movie, "a=logmel", "v=frames", audio_track=3))
    assert result.embedded == {"a": 0, "v": 1}
    assert [each["reason"] for each in result.failures] == ["there is no audio track 3: the file has 3, counted from 0"]


def test_a_file_is_decoded_once_for_pictures_and_its_track(movie, monkeypatch, calls):
    decode = loading.decode

    def counting(path, **requested):
        calls.add(requested["audio_track"], len(requested["samplings"]), len(requested["sample_rates_hz"]))
        return decode(path, **requested)

    monkeypatch.setattr(loading, "decode", counting)
    extract_embeddings(config_of(movie, "v=frames", "a=logmel,audio_track=1", "b=logmel,audio_track=1,bands=20"))
    assert calls.all() == [(1, 1, 1)]


def test_frames_of_a_folder_are_shown_at_its_rate(tmp_path):
    (tmp_path / "clip").mkdir()
    for number in range(20):
        Image.fromarray(np.full((32, 32, 3), 12 * number, np.uint8)).save(tmp_path / "clip" / f"{number}.png")
    (tmp_path / "clips.csv").write_text("path,label,start_seconds,end_seconds\nclip,x,1.0,2.0\n")
    for fps, options in ((10, {"folder_fps": 10}), (5, {"folder_fps": 5.0})):
        found = rows(config_of(tmp_path / "clip", "v=frames,frames=1,grid=1", **options))["v"]
        number = np.floor(1.5 * fps)
        np.testing.assert_allclose(found, [[12 * number / 255]], atol=0.01)
    default = extract_embeddings(config_of(tmp_path / "clip", "v=frames,frames=1"))  # 20 frames are 0.8 s long
    assert default.embedded == {"v": 0}
    assert "interval" in default.failures[0]["reason"]


def test_the_rate_of_folders_without_a_folder_is_refused(movie):
    with pytest.raises(ValueError, match="--folder-fps must be used with clips that are folders of images, got 10 "):
        extract_embeddings(config_of(movie, "v=frames", folder_fps=10))
