"""The mean of z over the train clips, as the baseline of a run's attributions, and its place in the run's files."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from amr.common.files import remove_checksums
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.classifier import FusionClassifier
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.evaluate.config import EvaluateConfig
from amr.fusion.evaluate.evaluate import evaluate
from amr.fusion.fit import fit
from amr.fusion.model import predict_shares
from amr.fusion.predict import predict
from amr.fusion.runs.weights import read_fitted
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

FIXED = {"epochs": 2, "device": "cpu"}
OPTIONS = {
    "shapley": {"attribution": "shapley", "attribution_baseline": "mean"},
    "integrated_gradients": {
        "attribution": "integrated_gradients",
        "attribution_baseline": "mean",
        "attribution_steps": 3,
    },
}
KINDS = [
    ("shapley", "standard", "none", 0),
    ("shapley", "none", "none", 0),
    ("integrated_gradients", "none", "linear", 0),
    ("shapley", "standard", "mlp", 3),
]


def fitted_on(cache, folder, attribution, normalize, adapter, folds=0, **more):
    settings = FIXED | OPTIONS[attribution] | {"normalize": normalize, "adapter": adapter, "folds": folds} | more
    config = FitConfig(cache=str(cache), out=str(folder), amr_ratio="1:3", **settings)
    return fit(config).run


def ids_of(cache):
    with h5py.File(cache) as file:
        return [each.decode() for each in file["clips/id"][:]]


@pytest.mark.parametrize(("attribution", "normalize", "adapter", "folds"), KINDS)
def test_a_clip_has_the_same_share_alone_among_others_and_in_predictions(
    small_cache, tmp_path, attribution, normalize, adapter, folds
):
    run = fitted_on(small_cache, tmp_path / "run", attribution, normalize, adapter, folds)
    ids = ids_of(small_cache)[-50:]
    together = {each.clip: each for each in predict(run, ids, "cpu")}
    for clip in ids[:3]:
        (single,) = predict(run, [clip], "cpu")
        assert single.share["audio"] is not None
        assert single.share == pytest.approx(together[clip].share, abs=1e-5)
    if folds == 0:
        table = pd.read_csv(run / "predictions.csv", dtype={"id": str}).set_index("id")
        for clip in ids[-20:]:
            assert table.loc[clip, "share_audio"] == pytest.approx(together[clip].share["audio"], abs=1e-5)


@pytest.mark.parametrize(("attribution", "normalize", "adapter", "folds"), KINDS)
def test_the_saved_mean_is_that_of_z_over_the_train_clips(
    small_cache, tmp_path, attribution, normalize, adapter, folds
):
    run = fitted_on(small_cache, tmp_path / "run", attribution, normalize, adapter, folds)
    if folds:
        assert all("baseline.audio.mean" in load_file(run / f"fold-{k}" / "weights.safetensors") for k in range(folds))
        return
    saved = load_file(run / "weights.safetensors")
    with h5py.File(small_cache) as file:
        train = file["clips/split"].asstr()[:] == "train"
        embeddings = {m: torch.from_numpy(file[f"embeddings/{m}"][:][train]) for m in ("audio", "video")}
    model = read_fitted(run).models[0]
    for m, e in embeddings.items():
        z = (e.float() - saved[f"normalization.{m}.mean"]) / saved[f"normalization.{m}.std"]
        z = model.adapters[m](z[None])[0].detach() if model.adapters else z
        torch.testing.assert_close(saved[f"baseline.{m}.mean"], z.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.mean[m][0], saved[f"baseline.{m}.mean"])


@pytest.mark.parametrize("attribution", ["integrated_gradients", "shapley"])
@pytest.mark.parametrize("adapter", ["none", "linear"])
def test_a_run_of_a_sweep_equals_its_fit(small_cache, tmp_path, attribution, adapter):
    fixed = FIXED | OPTIONS[attribution] | {"normalize": "none", "adapter": adapter}
    fixed |= {"optimizer": "sgd", "lr": 0.05, "cache": str(small_cache)}
    swept = sweep(
        SweepConfig.parse(seeds=3, swept={"amr_ratio": "1:3,1:1"}, **fixed, out=str(tmp_path / "sweep"))
    ).folder
    single = fit(FitConfig(**fixed, amr_ratio="1:3", seed=1, out=str(tmp_path / "run"))).run
    (member,) = swept.glob("runs/*amr-*1*3*_seed1")
    ours, theirs = (load_file(run / "weights.safetensors") for run in (member, single))
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
    clip = ids_of(small_cache)[-1]
    shares = [predict(run, [clip], "cpu")[0].share for run in (member, single)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-4)


def test_the_mean_is_not_saved_where_nothing_needs_it(small_cache, tmp_path):
    for more in ({"attribution": "grad_x_input"}, {"attribution": "shapley"}):
        settings = FIXED | more
        run = fit(FitConfig(cache=str(small_cache), out=str(tmp_path / more["attribution"]), **settings)).run
        assert not any(name.startswith("baseline.") for name in load_file(run / "weights.safetensors"))


def without_mean(run):
    """Make the run one of version 0.1, which did not save the mean."""
    file = run / "weights.safetensors"
    remove_checksums(run, [file.name])
    save_file({name: value for name, value in load_file(file).items() if not name.startswith("baseline.")}, file)


def test_older_runs_without_a_mean_still_open(small_cache, tmp_path):
    clip = ids_of(small_cache)[-1]
    standardized = fitted_on(small_cache, tmp_path / "standard", "shapley", "standard", "none")
    (before,) = predict(standardized, [clip], "cpu")
    without_mean(standardized)
    (after,) = predict(standardized, [clip], "cpu")  # the mean of standardized embeddings is 0
    assert after.share == pytest.approx(before.share, abs=1e-5)
    raw = fitted_on(small_cache, tmp_path / "raw", "shapley", "none", "none")
    (before,) = predict(raw, [clip], "cpu")
    without_mean(raw)
    (after,) = predict(raw, [clip], "cpu")
    assert "no train mean, on which its shares depend: fit again" in after.note
    assert after.probabilities == before.probabilities
    assert after.share == {"audio": None, "video": None}


def test_heads_that_take_steps_average_over_valid_steps(workspace):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4, 6)).astype(np.float32) + 1
    y = np.arange(60) % 3
    lengths = {"audio": rng.integers(2, 5, 60)}
    x[np.arange(4) >= lengths["audio"][:, None]] = np.nan
    arrays = {"audio": x, "video": rng.normal(size=(60, 5)).astype(np.float32)}
    settings = {"head": "attention", "normalize": "none", "validation_fraction": None, "select": "last"}
    model = FusionClassifier(**settings, **FIXED, **OPTIONS["shapley"]).fit(arrays, y)
    valid = x[~np.isnan(x).any(-1)]
    alone = pd.concat([model.shares({m: e[i : i + 1] for m, e in arrays.items()}) for i in range(5)])
    np.testing.assert_allclose(alone, model.shares({m: e[:5] for m, e in arrays.items()}), atol=1e-5)
    np.testing.assert_allclose(model.head_.model.mean["audio"][0], valid.mean(0), atol=1e-5)


def test_a_model_without_a_mean_has_no_shares_that_depend_on_it(small_cache, tmp_path):
    run = fitted_on(small_cache, tmp_path / "run", "shapley", "none", "none", attribution_baseline="zero")
    fitted = read_fitted(run)
    clips = Clips(
        {m: torch.randn(4, 10) for m in ("audio", "video")},
        torch.ones(4, 2, dtype=torch.bool),
        torch.zeros(4, dtype=torch.long),
    )
    assert predict_shares(fitted.models[0], clips, Attributor(attribution="shapley"))[2].all()
    assert not predict_shares(fitted.models[0], clips, Attributor(attribution="shapley", baseline="mean"))[2].any()


def test_damaged_weights_are_refused_wherever_they_are_read(small_cache, tmp_path):
    run = fit(FitConfig(cache=str(small_cache), out=str(tmp_path / "run"), **FIXED)).run
    file, clip = run / "weights.safetensors", ids_of(small_cache)[0]
    whole = file.read_bytes()
    tensors = load(whole)
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    for content in (flipped, whole[:100], b""):
        file.write_bytes(content)
        for read in (
            lambda: predict(run, [clip], "cpu"),
            lambda: evaluate(EvaluateConfig(run=str(run), bootstrap=0, device="cpu")),
        ):
            with pytest.raises(ValueError, match=r"RUN must hold whole files, got a damaged '.*weights\.safetensors'"):
                read()
    remove_checksums(run, [file.name])  # as another program, or version 0.1, wrote them
    name = min(tensors)  # of the head
    others = {
        "lacks": {each: value for each, value in tensors.items() if each != name},
        "shape": tensors | {name: tensors[name][..., :1].contiguous()},
        "not a number": tensors | {name: tensors[name] * torch.nan},
        "dimensions": tensors | {"normalization.audio.std": torch.ones(2)},
    }
    for written in others.values():
        save_file(written, file)
        with pytest.raises(ValueError, match="RUN must hold whole files"):
            predict(run, [clip], "cpu")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((("config", "hidden"), value) for value in (10**9, 10**12, 10**19)),
        *((("modalities", "audio", "embed_dim"), value) for value in (10**9, 10**12, 10**19)),
        (("config", "adapter_dim"), 10**9),
        (("config", "folds"), 10**12),
    ],
)
def test_sizes_of_a_config_that_are_not_those_of_the_weights_take_no_memory(small_cache, tmp_path, place, value):
    run = fit(FitConfig(cache=str(small_cache), out=str(tmp_path / "run"), adapter="linear", **FIXED)).run
    saved = json.loads((run / "config.json").read_text())
    *outer, name = place
    entry = saved
    for each in outer:
        entry = entry[each]
    entry[name] = value
    remove_checksums(run, ["config.json"])
    (run / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"^RUN must hold whole files, got (no|a damaged) .*config\.json|weights\.saf"):
        read_fitted(run)
    with pytest.raises(ValueError, match=r"^(RUN|--cache) must "):
        evaluate(EvaluateConfig(run, device="cpu", bootstrap=0))
