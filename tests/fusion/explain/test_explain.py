import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from amr.data_manifests.synthetic import SyntheticConfig, render
from amr.extract.config import ExtractConfig
from amr.extract.named_clips import NamedClip, named_clips
from amr.extract.pipeline.load import ClipFiles
from amr.extract.run import extract_embeddings
from amr.fusion.attribution.gradients import grad_x_input
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.explain.config import ExplainConfig
from amr.fusion.explain.explain import _Origin, explain
from amr.fusion.explain.fold import explain_fold, step_weights
from amr.fusion.fit import fit
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.predict import predict
from amr.fusion.runs.new_clips import read_clips
from amr.fusion.runs.weights import read_fitted

from ..conftest import make_clips
from ..heads.test_steps import write_cache

NO_STEPS = {"preprocessing": {}, "embed_dim": 6}


def fitted(cache, **changes):
    return fit(FitConfig(**{"cache": str(cache), "epochs": 6, "lr": 0.01, "device": "cpu", **changes})).run


def explained(run, clip, **changes):
    return explain(ExplainConfig(run, clip, device="cpu", **changes))


@pytest.mark.parametrize("folds", [0, 3])
def test_it_agrees_with_predict_and_writes_a_picture(small_cache, folds):
    run = fitted(small_cache, folds=folds)
    explanation = explained(run, "a11_c119")
    (prediction,) = predict(run, ["a11_c119"], "cpu")
    assert explanation.pred == prediction.pred
    assert explanation.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
    assert explanation.share["grad_x_input"] == pytest.approx(prediction.share, abs=1e-6)
    assert explanation.true == str(119 % 3)
    notes = "; ".join(explanation.notes)
    assert ("mean over 3 folds" in notes and "trained on in 1 of them" in notes) if folds else "test split" in notes
    assert imread(run / "explain_a11_c119.png").shape[1] == 1500
    assert json.loads(json.dumps(explanation.to_json(), allow_nan=False))["picture"] == explanation.picture


@pytest.mark.parametrize("head", ["concat", "attention", "gated"])
def test_a_removed_modality_equals_an_absent_one(workspace, head):
    """A cached clip without audio gets the same answer as one whose audio is removed."""
    run = fitted(write_cache(workspace / "caches/steps.h5"), head=head)
    for clip, absent in (("c007", True), ("c008", False)):
        explanation = explained(run, clip)
        assert set(explanation.removed["zero"]) == ({"video"} if absent else {"audio", "video"})
        assert ("no audio" in explanation.notes) == absent
        assert (explanation.share["shapley"]["audio"] is None) == absent
        assert set(explanation.steps) == (set() if absent else {"audio"})


def linear_model(dims):
    shape = ModelShape.of(dims, 3, head="concat", hidden=0, adapter="none", adapter_dim=0)
    return FusionModel(shape, [0])


def read_one(run, clip):
    batches = []
    read_clips(run, named_clips([clip]), "cpu", lambda _, read: batches.append(read), keep_steps=True)
    return batches[0]


def one(clips):
    return clips.take(torch.tensor([0]))


def test_removals_and_shapley_agree():
    """For two modalities, the Shapley values of log p follow from the answers on every subset."""
    clips, model = one(make_clips()), linear_model({"audio": 8, "video": 6})
    numbers = explain_fold(model, clips, {"audio": NO_STEPS, "video": NO_STEPS}, None)
    nothing = replace(clips, embeddings={m: torch.zeros_like(e) for m, e in clips.embeddings.items()})
    c = int(numbers.outputs.argmax())
    log_all = numbers.outputs.log()[c]
    log_none = model(nothing.slice(0, 1, 1)).log_softmax(-1)[0, 0, c]
    without = {m: p.log()[c] for m, p in numbers.removed["zero"].items()}
    phi = torch.stack(
        [
            (log_all - without["audio"] + without["video"] - log_none) / 2,
            (log_all - without["video"] + without["audio"] - log_none) / 2,
        ]
    ).abs()
    assert torch.allclose(numbers.shares["shapley"], (phi / phi.sum()).detach(), atol=1e-5)


def test_the_mean_is_over_the_train_clips():
    clips, model = make_clips(), linear_model({"audio": 8, "video": 6})
    numbers = explain_fold(model, one(clips), {"audio": NO_STEPS, "video": NO_STEPS}, clips)
    mean = clips.embeddings["audio"].mean(0, keepdim=True)
    replaced = Clips({**one(clips).embeddings, "audio": mean}, one(clips).present, one(clips).target)
    expected = model(replaced.slice(0, 1, 1)).softmax(-1)[0, 0]
    assert torch.allclose(numbers.removed["mean"]["audio"], expected.detach(), atol=1e-6)


def test_a_flat_embedding_of_steps_is_split_into_them():
    """Gradient x input of a linear head per step is that of the whole embedding, split."""
    clips, model = one(make_clips()), linear_model({"audio": 8, "video": 6})
    info = {"preprocessing": {"keep": "flat", "steps": 4}, "embed_dim": 8}
    weights = step_weights(model, clips, {"audio": info, "video": NO_STEPS})
    z = {m: e.clone().requires_grad_() for m, e in clips.embeddings.items()}
    alpha = grad_x_input(model(replace(clips, embeddings=z).slice(0, 1, 1)), z)["audio"][0]
    norms = torch.stack([part.norm() for part in alpha.split(2)])
    assert list(weights) == ["audio"]
    assert torch.allclose(weights["audio"], norms / norms.sum(), atol=1e-6)


def test_averaged_steps_get_their_part_of_the_mean_s_attribution():
    """If a head averages steps, their attributions sum to that of the mean."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(1, 5, 8, generator=generator)
    steps[:, 3:] = 0  # padding
    video = torch.randn(1, 6, generator=generator)
    model = linear_model({"audio": 8, "video": 6})
    present, target = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    clips = Clips({"audio": steps, "video": video}, present, target)
    weights = step_weights(model, clips, {"audio": NO_STEPS, "video": NO_STEPS})
    z = {"audio": steps[:, :3].mean(1).requires_grad_(), "video": video.clone().requires_grad_()}
    gradient = grad_x_input(model(Clips(z, present, target).slice(0, 1, 1)), z)["audio"] / z["audio"]
    norms = (gradient * steps[0, :3] / 3).norm(dim=-1)
    assert torch.allclose(weights["audio"], (norms / norms.sum()).detach(), atol=1e-5)


def test_a_head_of_steps_uses_those_with_the_class(workspace):
    """The class is in the first two steps; the others are equal."""
    run = read_fitted(fitted(write_cache(workspace / "caches/steps.h5"), head="attention", epochs=25))
    ratios = []
    for number in range(120, 150):
        read = read_one(run, f"c{number}")
        ((model, clips),) = read.of_folds(run)
        weights = step_weights(model, clips, {"audio": NO_STEPS, "video": NO_STEPS})
        num_steps = int((~read.embeddings["audio"][0].isnan().any(-1)).sum())
        if "audio" in weights and num_steps > 2:
            assert len(weights["audio"]) == num_steps
            assert float(weights["audio"].sum()) == pytest.approx(1)
            ratios.append(float(weights["audio"][:2].mean() / weights["audio"][2:].mean()))
    assert np.median(ratios) > 1.5


@pytest.fixture(scope="module")
def media_run(tmp_path_factory):
    """A run on a few rendered clips, with their media."""
    home = tmp_path_factory.mktemp("media")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(home))
        render(SyntheticConfig(num_classes=2, num_clips=24), home / "data/synthetic")
        encoders = ("audio=logmel,keep=steps,steps=5", "video=frames")
        extract_embeddings(ExtractConfig(dataset="synthetic", encoder=encoders, workers=0, device="cpu"))
        yield fitted(home / "caches/synthetic.h5")


def test_media_give_seconds_and_a_file_gets_the_answer_of_its_id(media_run):
    by_id = explained(media_run, "00003")
    file = media_run.parent.parent / "data/synthetic/clips/00003.mp4"
    by_file = explained(media_run, str(file), out=media_run / "of/a-file.svg")
    assert by_id.probabilities == pytest.approx(by_file.probabilities, abs=1e-5)
    assert by_file.true is None
    assert (media_run / "of/a-file.svg").read_text().startswith("<?xml")
    for explanation in (by_id, by_file):
        audio, video = explanation.steps["audio"], explanation.steps["video"]
        assert (len(audio.weight), len(video.weight)) == (5, 10)
        assert audio.in_seconds
        assert audio.end_seconds[-1] == pytest.approx(1, abs=0.15)
        assert audio.start_seconds[1:] == audio.end_seconds[:-1]
    assert np.allclose(by_id.steps["video"].weight, by_file.steps["video"].weight, atol=1e-4)


def test_without_its_cache_a_file_has_no_mean(media_run, tmp_path):
    record = json.loads((media_run / "config.json").read_text())
    record["cache"] = str(tmp_path / "gone.h5")
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "config.json").write_text(json.dumps(record))
    (moved / "weights.safetensors").write_bytes((media_run / "weights.safetensors").read_bytes())
    file = media_run.parent.parent / "data/synthetic/clips/00003.mp4"
    explanation = explained(moved, str(file))
    assert set(explanation.removed) == {"zero"}
    assert any("gone.h5 is gone" in note for note in explanation.notes)
    with pytest.raises(ValueError, match=r"CLIP must be a media file or .*, got '00003': .*cache .*gone.h5 is missing"):
        explained(moved, "00003")


def test_media_that_are_gone_leave_fractions_of_the_clip(media_run, monkeypatch):
    files = list((media_run.parent.parent / "data/synthetic/clips").iterdir())
    monkeypatch.setattr(Path, "exists", lambda self, exists=Path.exists: self not in files and exists(self))
    explanation = explained(media_run, "00004", out=media_run / "without.png")
    assert not explanation.steps["audio"].in_seconds
    assert explanation.steps["audio"].end_seconds[-1] == 1
    assert any("file not found" in note for note in explanation.notes)


def test_a_unimodal_run_and_an_ensemble_are_explained(small_cache):
    unimodal = explained(fitted(small_cache, method="unimodal", modalities="audio"), "a00_c000")
    assert unimodal.share["grad_x_input"] == {"audio": 1.0}
    assert set(unimodal.removed["zero"]) == {"audio"}
    ensemble = explained(fitted(small_cache, method="ume"), "a00_c000")
    assert sum(ensemble.share["shapley"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": ""}, "CLIP must be a media file or the id"),
        ({"out": Path("a.jpg")}, r"--out must end in \.png, \.svg, \.pdf, got 'a\.jpg'\. Pass a\.png"),
        ({"device": "gpu"}, "--device must be one of"),
    ],
)
def test_a_wrong_request_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ExplainConfig(**({"run": Path("run"), "clip": "a"} | changes))


def test_names_of_clips_become_file_names():
    assert ExplainConfig("r", "-a/b c:d.mp4").picture(Path("r")) == Path("r/explain_b-c-d.mp4.png")
    assert len(ExplainConfig("r", "x" * 400).picture(Path("r")).name) < 150


def test_an_unknown_clip_is_refused(small_cache):
    with pytest.raises(ValueError, match=r"CLIP must be a media file or the id of a cached clip, got 'nobody'"):
        explained(fitted(small_cache), "nobody")


def test_new_media_are_shown_with_the_track_that_the_run_hears():
    info = {"encoder": "logmel,audio_track=1", "preprocessing": {"audio_track": 1}}
    run = SimpleNamespace(models=[None], record=SimpleNamespace(modalities={"audio": info}))
    clip = NamedClip("x.mkv", ClipFiles({"audio": Path("x.mkv")}))
    assert _Origin.find(clip, run, None).media.audio_track == 1
