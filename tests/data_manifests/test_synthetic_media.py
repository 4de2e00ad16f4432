import av
import numpy as np
import pytest

from amr.data_manifests.synthetic_media import home, render_frames, render_waveform, tone_hz, write_clip


def test_the_tone_is_the_loudest_and_absent_without_a_cue():
    for cue in range(6):
        sound = render_waveform(np.random.default_rng(cue), cue, 6, 16000, 16000)
        assert sound.dtype == np.float32
        assert abs(sound).max() <= 1
        loudest = np.abs(np.fft.rfft(sound)).argmax()  # 1 s: a bin is a hertz
        assert loudest == pytest.approx(tone_hz(cue, 6), rel=0.025)
    noise = render_waveform(np.random.default_rng(0), None, 6, 16000, 16000)
    assert noise.std() < 0.01


def test_the_shape_stays_in_its_classs_place():
    for cue in range(6):
        frames = render_frames(np.random.default_rng(cue), cue, 6, 10, 64)
        assert frames.dtype == np.uint8
        assert frames.shape == (10, 64, 64, 3)
        bright = frames.min(axis=-1) > 110
        y, x = np.argwhere(bright.any(axis=0)).mean(axis=0) / 64
        assert abs(x - home(cue, 6)[0]) < 1 / 6
        assert abs(y - home(cue, 6)[1]) < 1 / 4
    assert (render_frames(np.random.default_rng(0), None, 6, 10, 64) < 120).all()


@pytest.mark.parametrize("streams", [("audio",), ("video",), ("audio", "video")])
def test_clips_may_lack_a_stream(tmp_path, streams):
    rng = np.random.default_rng(0)
    path = tmp_path / "yt:clip %d.mp4"
    write_clip(
        path,
        frames=render_frames(rng, 0, 2, 5, 32) if "video" in streams else None,
        frame_rate_hz=10,
        waveform=render_waveform(rng, 0, 2, 8000, 16000) if "audio" in streams else None,
        sample_rate_hz=16000,
    )
    with path.open("rb") as file, av.open(file) as container:
        assert sorted(stream.type for stream in container.streams) == sorted(streams)
        for stream in container.streams:
            assert float(stream.duration * stream.time_base) == pytest.approx(0.5, abs=0.1)


def test_a_clip_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frames or waveform must be given"):
        write_clip(tmp_path / "x.mp4", frames=None, frame_rate_hz=10, waveform=None, sample_rate_hz=16000)
