from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from amr.extract.pipeline.load import ClipFiles
from amr.extract.pipeline.preview import decode_media
from amr.fusion.report.read import read_results
from amr.fusion.report.sections import clips
from amr.fusion.report.sections.clips import most_one_sided, one_sided, spectrogram
from amr.fusion.report.settings import settings_of


@given(arrays(float, st.tuples(st.integers(1, 9), st.integers(2, 3)), elements=st.floats(0, 1)), st.integers(1, 9))
def test_modalities_alternate_and_no_clip_comes_twice(shares, most):
    selected = most_one_sided(shares, most)
    assert len(selected) == len(set(selected)) == min(most, len(shares))
    assert shares[selected[0], 0] == shares[:, 0].max()


def test_clips_without_shares_are_left_out():
    shares = np.array([[np.nan, np.nan], [0.2, 0.8]])
    assert most_one_sided(shares, 5) == [1]


def test_the_clips_are_from_the_best_run_and_need_no_media(made):
    results = read_results(made(p_corrected=0.5))
    found = one_sided(results, settings_of(results), 4, media=True)
    mine = results.decisions.of([found.run.name])
    assert found.label == "no AMR, seed 1"
    assert found.note.startswith("One-sided are 0.400 of its decisions: the fraction of the clips whose share")
    for view in found.clips:
        row = list(mine.ids).index(view.id)
        assert view.shares["audio"] == pytest.approx(float(mine.shares[0, row, 0]))
        assert view.pred == results.classes[mine.preds[0, row]]
        assert view.frames == ()
        assert view.spectrogram is None
    assert one_sided(results, settings_of(results), 0, media=True) is None


def test_a_tone_is_a_line_at_its_height():
    seconds = np.arange(16000) / 16000
    picture = np.asarray(spectrogram(np.sin(2 * np.pi * 2000 * seconds).astype(np.float32)).convert("L"), float)
    height = picture.mean(1).argmax() / len(picture)
    assert 1 - height == pytest.approx(2000 / 8000, abs=0.03)


def test_real_media_become_small_pictures(test_data):
    file = test_data / "grid" / "clips" / "bbaf5a.mp4"
    frames, sound = clips._pictures(decode_media(ClipFiles({"audio": file, "video": file}), clips.NUM_FRAMES))
    assert len(frames) == 3
    for uri in (*frames, sound):
        assert len(uri) < 30_000
        assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).format == "JPEG"


def test_undecodable_media_are_left_out(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    assert clips._pictures(decode_media(ClipFiles({"audio": broken, "video": broken}), 3)) == ((), None)
