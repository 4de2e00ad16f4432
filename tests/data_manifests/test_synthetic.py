from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amr.data_manifests.datasets import build_manifest
from amr.data_manifests.synthetic import SyntheticConfig, best_accuracy, build, draw_clips, read_config, render

SMALL = SyntheticConfig(num_classes=3, num_clips=18, duration_seconds=0.3, size=32, val_share=0.2)

probability = st.floats(0, 1)


@settings(deadline=None)
@given(p_audio=probability, p_video=probability, misleading=probability, num_classes=st.integers(2, 8))
def test_best_accuracy_obeys_its_bounds(p_audio, p_video, misleading, num_classes):
    config = SyntheticConfig(num_classes=num_classes, p_audio=p_audio, p_video=p_video, misleading=misleading)
    best = best_accuracy(config)
    swapped = best_accuracy(replace(config, p_audio=p_video, p_video=p_audio))
    assert swapped == pytest.approx({"audio": best["video"], "video": best["audio"], "both": best["both"]})
    assert max(best["audio"], best["video"]) <= best["both"] + 1e-12
    assert 1 / num_classes - 1e-12 <= min(best.values()) <= best["both"] <= 1 + 1e-12
    for modality in ("audio", "video"):
        np.testing.assert_allclose(config.cue_probabilities(modality).sum(axis=1), 1)


@settings(deadline=None)
@given(p_audio=probability, p_video=probability, num_classes=st.integers(2, 8))
def test_cues_that_are_right_or_absent_have_a_closed_form(p_audio, p_video, num_classes):
    config = SyntheticConfig(num_classes=num_classes, p_audio=p_audio, p_video=p_video, misleading=0)
    guess = 1 / num_classes
    assert best_accuracy(config) == pytest.approx(
        {
            "audio": p_audio + (1 - p_audio) * guess,
            "video": p_video + (1 - p_video) * guess,
            "both": 1 - (1 - p_audio) * (1 - p_video) * (1 - guess),
        }
    )


def test_a_root_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--root must be a place that can be written to, .* Pass --root"):
        build(tmp_path / "file" / "clips")


def test_cues_that_always_mislead_add_nothing_to_the_stronger():
    best = best_accuracy(SyntheticConfig(p_audio=0.8, p_video=0.6, misleading=1))
    assert best == pytest.approx({"audio": 0.8, "video": 0.6, "both": 0.8})


def test_the_best_decision_reaches_best_accuracy():
    config = SyntheticConfig(num_classes=4, num_clips=40000, p_audio=0.7, p_video=0.5, misleading=0.4)
    clips = draw_clips(config)
    names = sorted(set(clips["label"]))
    cues = {
        m: clips[f"{m}_cue"].map({name: n for n, name in enumerate([*names, ""])}).to_numpy()
        for m in ("audio", "video")
    }
    log = {m: np.log(config.cue_probabilities(m))[:, cues[m]].T for m in cues}
    target = clips["label"].map(names.index).to_numpy()
    best = best_accuracy(config)
    for name, scores in {**log, "both": log["audio"] + log["video"]}.items():
        assert (scores.argmax(axis=1) == target).mean() == pytest.approx(best[name], abs=0.01)


def test_every_split_is_balanced_and_as_informative_as_configured():
    config = SyntheticConfig()
    clips = draw_clips(config)
    for split, rows in clips.groupby("split"):
        assert len(rows) == config.split_sizes()[split]
        assert np.ptp(rows["label"].value_counts()) <= 1
        for modality, right in (("audio", config.p_audio), ("video", config.p_video)):
            assert abs((rows[f"{modality}_cue"] == rows["label"]).sum() - right * len(rows)) <= 1
            none = (1 - right) * (1 - config.misleading)
            assert abs((rows[f"{modality}_cue"] == "").sum() - none * len(rows)) <= 2


def test_rendering_is_deterministic_and_resumes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    manifest = render(SMALL, first)
    render(SMALL, second)
    (second / "manifest.csv").unlink()
    (second / "clips" / "00003.mp4").write_bytes(b"cut off")
    assert render(SMALL, second).sha256() == manifest.sha256()
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == SMALL.num_clips + 2
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
    assert read_config(first) == SMALL
    other = tmp_path / "other"
    assert render(replace(SMALL, seed=1), other).sha256() != manifest.sha256()


def test_a_config_takes_numbers_of_numpy_and_a_root_text(tmp_path):
    config = replace(SMALL, num_clips=np.int64(18), duration_seconds=np.float32(0.3), seed=np.uint8(0))
    assert config == SMALL
    assert render(config, str(tmp_path)).sha256() == render(SMALL, tmp_path).sha256()
    assert read_config(str(tmp_path)) == SMALL
    assert len(build(str(tmp_path))[0]) == 18


def test_a_folder_of_something_else_is_left_unchanged(tmp_path):
    render(SMALL, tmp_path / "a")
    with pytest.raises(ValueError, match=r"with another\. Pass a new folder"):
        render(replace(SMALL, seed=1), tmp_path / "a")
    (tmp_path / "manifest.csv").write_text("path,label\na.mp4,x\n")
    with pytest.raises(ValueError, match=r"with a manifest\. Pass another"):
        render(SMALL, tmp_path)


def test_build_reads_what_was_rendered_with_any_config(tmp_path):
    rendered = render(SMALL, tmp_path)
    manifest, report = build(tmp_path)
    assert manifest.dataset == "synthetic"
    assert manifest.sha256() == rendered.sha256()
    assert report.found == {"audio": 18, "video": 18}
    assert "best reachable accuracy: audio" in report.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "num_classes must be from 2 to 16, got 1"),
        ({"p_audio": 1.5}, "p_audio must be from"),
        ({"misleading": float("nan")}, "misleading must be from"),
        ({"size": 33}, "size must be even"),
        ({"num_clips": 20}, "num_clips must give every split a clip per class"),
        ({"train_share": 0.9, "val_share": 0.2}, "num_clips must give every split"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**change)


def test_a_linear_head_on_plain_features_comes_near_the_best(workspace):
    """At least 95 % of the best reachable accuracy, from log-mel-like bands and a coarse gray grid."""
    import av
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    manifest, _ = build_manifest("synthetic")
    audio, video = [], []
    for path in manifest.paths("video"):
        with av.open(str(path)) as container:
            frames = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
        with av.open(str(path)) as container:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert frames.shape == (10, 64, 64)
        video.append(frames[::3].reshape(-1, 8, 8, 8, 8).mean(axis=(0, 2, 4)).ravel())
        spectrum = np.abs(np.fft.rfft(sound[: len(sound) // 512 * 512].reshape(-1, 512) * np.hanning(512))) ** 2
        bands = np.array_split(spectrum[:, 4:], np.geomspace(2, 252, 32).astype(int), axis=1)
        audio.append(np.log(np.stack([b.sum(axis=1) for b in bands if b.size], axis=1) + 1e-4).mean(axis=0))
    label, train = manifest.table["label"].to_numpy(), (manifest.table["split"] == "train").to_numpy()
    best = best_accuracy(SyntheticConfig())
    features = {"audio": np.stack(audio), "video": np.stack(video)}
    for name, x in {**features, "both": np.hstack(list(features.values()))}.items():
        x = StandardScaler().fit(x[train]).transform(x)
        head = LogisticRegression(C=0.01, max_iter=1000).fit(x[train], label[train])
        assert head.score(x[~train], label[~train]) >= 0.95 * best[name]
