from __future__ import annotations

import subprocess
import sys
from inspect import signature
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import amr
from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.classifier import FusionClassifier
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.runs.load_head import load_head

NUM_TRAIN, NUM_CLIPS = 60, 90
COLUMNS = {"audio": slice(0, 6), "video": slice(6, 10)}


def arrays(num_clips=NUM_CLIPS, num_classes=3, dims=(6, 4), names=("audio", "video"), seed=0):
    """A dict of arrays in which each modality tells the classes apart, and the labels."""
    rng, y = np.random.default_rng(seed), np.arange(num_clips) % num_classes
    centers = {
        m: np.random.default_rng(dim).normal(size=(num_classes, dim)) for m, dim in zip(names, dims, strict=True)
    }
    return {m: (2 * c[y] + rng.normal(size=(num_clips, c.shape[1]))).astype(np.float32) for m, c in centers.items()}, y


def with_steps(x, num_steps=3, seed=0):
    """`(clips, dim)` to `(clips, steps, dim)`, noise on each step."""
    noise = np.random.default_rng(seed).normal(size=(len(x), num_steps, x.shape[1]))
    return (x[:, None] + noise).astype(np.float32)


def classifier(**changes):
    return FusionClassifier(**{"epochs": 10, "lr": 0.02, "device": "cpu", **changes})


@parametrize_with_checks(
    [
        FusionClassifier(epochs=15, lr=0.05, batch_size=32, device="cpu"),
        FusionClassifier(epochs=15, lr=0.05, batch_size=32, device="cpu", head="sum", hidden=16),
        FusionClassifier(epochs=15, lr=0.05, batch_size=32, device="cpu", slices={"a": slice(0, 2), "b": slice(None)}),
    ]
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def test_public_and_not_imported_before_it_is_used():
    assert amr.FusionClassifier is FusionClassifier
    code = "import amr, sys; assert not {'sklearn', 'torch'} & set(sys.modules); amr.FusionClassifier; import sklearn"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_defaults_are_those_of_a_fit_except_that_no_clips_are_held_out():
    parameters = FusionClassifier().get_params()
    own = {"select", "slices", "validation_fraction", "random_state"}
    assert {name: parameters[name] for name in parameters.keys() - own} == {
        name: getattr(FitConfig(), name) for name in parameters.keys() - own
    }
    assert parameters["random_state"] == FitConfig().seed
    assert parameters["select"] == "last"
    assert set(signature(FusionClassifier).parameters) == set(parameters)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"amr_ratio": "audio=3:video=1", "hidden": 8, "seed": 3},
        {"amr_ratio": "1:2", "adapter": "mlp", "adapter_dim": 5, "amr_optimizer": "separate"},
        {"head": "attention", "amr_ratio": "1:1", "attribution": "shapley"},
        {"head": "film", "head_option": ("condition=video",), "normalize": "none"},
        {"method": "umt", "method_option": ("weight=2",), "adapter": "linear"},
        {"method": "ume", "batch_size": 16},
        {"method": "ume", "method_option": ("weights=3:1",)},
        {"amr_ratio": "1:1", "amr_level": "clip", "embedding_noise": "audio=1:video=0"},
        {"amr_ratio": "1:2", "attribution": "permutation", "embedding_noise": "0.5"},
    ],
    ids=str,
)
def test_weights_equal_those_of_a_fit_on_a_cache_of_the_same_clips(workspace, settings):
    X, y = arrays()
    X["video"] = with_steps(X["video"])
    X["audio"][::7] = np.nan
    X["video"][3::7] = np.nan
    cache = import_cache(workspace, X, y)
    result = fit(FitConfig(cache=str(cache), epochs=5, lr=0.01, select="last", device="cpu", **settings))
    settings["random_state"] = settings.pop("seed", 0)
    train = {m: values[:NUM_TRAIN] for m, values in X.items()}
    fitted = FusionClassifier(epochs=5, lr=0.01, device="cpu", **settings).fit(train, y[:NUM_TRAIN])
    wanted, got = load_head(result.run).state_dict(), fitted.head_.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    history = pd.read_csv(result.run / "history.csv")
    np.testing.assert_allclose(fitted.history_["train_loss"], history["train_loss"], rtol=1e-5)
    tested = {m: values[80:] for m, values in X.items()}
    assert fitted.score(tested, y[80:]) == pytest.approx(result.test["accuracy"])
    if fitted.attribution == "permutation":  # the share of a split is a ratio of sums, not a mean over clips
        return
    share = fitted.shares(tested).mean()
    for m in X:
        assert share[m] == pytest.approx(result.test["share_regularized"][m], abs=1e-6)


def import_cache(workspace: Path, X: dict[str, np.ndarray], y: np.ndarray) -> Path:
    for name, values in X.items():
        np.save(workspace / f"{name}.npy", values)
    np.savetxt(workspace / "labels.txt", y, fmt="%d")
    out = workspace / "caches" / "same.h5"
    import_embeddings(
        ImportConfig(
            embeddings=tuple(f"{name}={workspace / name}.npy" for name in X),
            labels=str(workspace / "labels.txt"),
            splits=f"train={NUM_TRAIN},val=20,test=10",
            out=str(out),
        )
    )
    return out


def test_a_dict_and_slices_of_one_array_are_the_same():
    X, y = arrays()
    one = np.hstack(list(X.values()))
    by_dict = classifier().fit(X, y)
    by_slice = classifier(slices=COLUMNS).fit(one, y)
    by_number = classifier(slices={"audio": range(6), "video": [6, 7, 8, 9]}).fit(one, y)
    frame = pd.DataFrame(one, columns=[f"c{i}" for i in range(10)])
    names = {"audio": [f"c{i}" for i in range(6)], "video": slice(6, None)}
    by_name = classifier(slices=names).fit(frame, y)
    wanted = by_dict.predict_proba(X)
    for other, values in ((by_slice, one), (by_number, one), (by_name, frame)):
        assert other.modalities_ == ("audio", "video")
        assert other.n_features_in_ == by_dict.n_features_in_ == 10
        np.testing.assert_array_equal(other.predict_proba(values), wanted)
    assert list(by_name.feature_names_in_) == list(frame)
    assert not hasattr(by_dict, "feature_names_in_")


def test_tools_of_scikit_learn_take_one_array_with_slices():
    X, y = arrays()
    one, labels = np.hstack(list(X.values())), np.array(["angry", "calm", "sad"])[y]
    plain = make_pipeline(StandardScaler(), classifier(slices=COLUMNS, normalize="none"))
    assert cross_val_score(plain, one, labels, cv=3).min() > 0.8
    grid = {"amr_ratio": [None, "1:1"], "modalities": [None, "video,audio"], "method_option": ["p=0.2"]}
    search = GridSearchCV(classifier(slices=COLUMNS, method="dropout", epochs=3), grid, cv=2, error_score="raise")
    search.fit(one, labels)
    assert len(search.cv_results_["params"]) == 4
    assert set(search.predict(one)) == {"angry", "calm", "sad"}


def test_column_names_survive_a_pipeline_that_keeps_them():
    X, y = arrays()
    frame = pd.DataFrame(np.hstack(list(X.values())), columns=[f"c{i}" for i in range(10)])
    pipeline = make_pipeline(StandardScaler(), classifier(slices={"audio": ["c0", "c1"], "video": ["c7", "c6"]}))
    with pytest.raises(ValueError, match=r"slices\['audio'\] must be numbers .* got 'c0'. Pass a DataFrame"):
        pipeline.fit(frame, y)
    fitted = clone(pipeline).set_output(transform="pandas").fit(frame, y)
    assert list(fitted[-1]._columns["video"]) == [7, 6]


@pytest.mark.parametrize("ratio", ["3:1", "video=1:audio=3"])
def test_a_ratio_moves_the_shares(ratio):
    X, y = arrays()
    fitted = classifier(amr_ratio=ratio, epochs=40).fit(X, y)
    assert fitted.shares_["audio"] == pytest.approx(0.75, abs=0.03)
    assert sum(fitted.shares_.values()) == pytest.approx(1)
    assert fitted.score(X, y) > 0.9
    reversed_ = classifier(amr_ratio="3:1", modalities="video,audio", epochs=40).fit(X, y)
    assert list(reversed_.shares_) == ["video", "audio"]
    assert reversed_.shares_["video"] == pytest.approx(0.75, abs=0.03)


def test_shares_of_each_clip():
    X, y = arrays()
    X["audio"][4] = np.nan
    fitted = classifier().fit(X, y)
    share = fitted.shares(X)
    assert list(share) == ["audio", "video"]
    assert share.loc[4].isna().all()
    assert share.drop(4).sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    assert share["audio"].mean() == pytest.approx(fitted.shares_["audio"], abs=1e-6)
    frame = pd.DataFrame(X["video"], index=[f"clip {i}" for i in range(NUM_CLIPS)])
    alone = classifier().fit(frame, y)
    assert alone.modalities_ == ("x",)
    assert alone.shares(frame)["x"].to_dict() == dict.fromkeys(frame.index, 1.0)


def test_three_modalities_two_classes_and_steps_of_different_number():
    X, y = arrays(num_classes=2, dims=(6, 4, 5), names=("audio", "video", "text"))
    X["text"] = with_steps(X["text"], num_steps=4)
    short = X["text"][:, :3].copy()
    X["text"][::2, 3:] = np.nan
    fitted = classifier(head="attention", amr_ratio="text=2:audio=1:video=1").fit(X, y)
    assert fitted.modalities_ == ("audio", "video", "text")
    assert fitted.score(X, y) > 0.9
    # steps that pad the end change nothing
    even = {m: values[::2] for m, values in X.items()}
    unpadded = even | {"text": short[::2]}
    np.testing.assert_allclose(fitted.predict_proba(even), fitted.predict_proba(unpadded), rtol=1e-12)
    averaged = classifier().fit(X, y)
    assert averaged.predict_proba(X).shape == (NUM_CLIPS, 2)


def test_modalities_that_clips_lack():
    X, y = arrays()
    fitted = classifier(epochs=30).fit(X, y)
    deaf = X | {"audio": np.full_like(X["audio"], np.nan)}
    np.testing.assert_array_equal(fitted.predict_proba(deaf), fitted.predict_proba({"video": X["video"]}))
    assert (fitted.predict_proba(deaf) != fitted.predict_proba(X)).all()
    with pytest.warns(UserWarning, match="no training clip has audio"):
        never = classifier().fit(deaf, y)
    np.testing.assert_array_equal(never.predict(X), never.predict(deaf))
    with pytest.raises(ValueError, match="must have one of audio, video, got NaN throughout in 1 rows, first row 3"):
        fitted.predict({m: np.where(np.arange(NUM_CLIPS)[:, None] == 3, np.nan, values) for m, values in X.items()})


def test_held_out_clips_choose_the_epoch():
    X, y = arrays()
    fitted = classifier(select="accuracy", validation_fraction=0.2, epochs=6).fit(X, y)
    assert fitted.history_["chosen"].sum() == 1
    best = fitted.history_.sort_values(["val_accuracy", "val_loss"], ascending=[False, True])["epoch"].iloc[0]
    assert fitted.history_.set_index("epoch")["chosen"].idxmax() == best
    last = classifier(epochs=6).fit(X, y)
    assert list(last.history_) == ["epoch", "train_loss", "regularization", "chosen"]
    assert list(last.history_["chosen"]) == [0, 0, 0, 0, 0, 1]
    # the default trains on every clip: other labels, other weights
    other = np.where(np.arange(NUM_CLIPS) == NUM_CLIPS - 1, 0, y)
    assert not torch.equal(weights(last), weights(classifier(epochs=6).fit(X, other)))


def weights(fitted: FusionClassifier) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in fitted.head_.parameters()])


def test_seeds():
    X, y = arrays()
    seeds = [0, 0, 1, np.random.RandomState(5), np.random.RandomState(5), np.random.RandomState(6)]
    got = [weights(classifier(random_state=seed, epochs=2).fit(X, y)) for seed in seeds]
    assert [torch.equal(one, two) for one, two in pairwise(got)] == [True, False, False, True, False]


def test_the_head_is_a_module():
    X, y = arrays()
    fitted = classifier().fit(X, y)
    logits = fitted.head_({m: torch.from_numpy(values) for m, values in X.items()})
    np.testing.assert_allclose(logits.softmax(-1).detach(), fitted.predict_proba(X), atol=1e-5)
    assert fitted.head_.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amr_ratio": "1:1:1"}, "^amr_ratio must have one part for each of audio, video, got '1:1:1'"),
        ({"amr_ratio": "a"}, "^amr_ratio must be numbers"),
        ({"amr_ratio": (3, 1)}, r"^amr_ratio must be text or None, got \(3, 1\). Pass for example '3:1'."),
        (
            {"method": "ume", "amr_ratio": "1:1"},
            "^amr_ratio must be left out for method ume, which fuses nothing, got '1:1'",
        ),
        (
            {"method": "unimodal"},
            "^modalities must name one modality for method .* Pass for example modalities='audio'",
        ),
        ({"method": "unimodal", "modalities": "audio", "amr_ratio": "1:1"}, "^amr_ratio must be left out"),
        ({"modalities": "sound"}, "^modalities must be one of audio, video, got 'sound'"),
        ({"modalities": "audio,audio"}, "^modalities must name each modality once"),
        ({"method": "ogm-ge"}, "^adapter must be linear or mlp for method ogm-ge, .* Pass adapter='linear'"),
        ({"method": "niave"}, "^method must be one of .* Did you mean naive"),
        ({"head": "ume"}, "^head must be one of .* Pass method='ume' for it"),
        ({"head": "bilinear", "head_option": "rank"}, "^head_option must be KEY=VALUE, .* for example rank=4"),
        ({"lr": 0.0}, "^lr must be above 0"),
        ({"random_state": -1}, "^random_state must be 0 or more, got -1"),
        ({"select": "loss"}, "^validation_fraction must be given to choose the epoch by loss, got None. Pass"),
        ({"validation_fraction": 1.5}, "^validation_fraction must be above 0 and below 1, got 1.5"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        classifier(**changes).fit(*arrays())


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ({"audio": slice(0, 6), "video": slice(6, 12)}, r"^slices\['video'\] must be columns of X, which has 10"),
        ({"audio": [0, 10]}, r"^slices\['audio'\] must be columns of X"),
        ({"audio": []}, r"^slices\['audio'\] must be columns of X"),
        ([slice(0, 6)], "^slices must be a dict of modality to columns"),
        (None, "^amr_ratio must be left out for one array without slices, got '1:1'. Pass slices"),
    ],
)
def test_slices_that_are_refused(slices, message):
    X, y = arrays()
    with pytest.raises(ValueError, match=message):
        classifier(slices=slices, amr_ratio="1:1").fit(np.hstack(list(X.values())), y)


def test_data_that_is_refused():
    X, y = arrays()
    fitted = classifier(epochs=1).fit(X, y)
    unfitted = classifier()
    with pytest.raises(ValueError, match="two classes"):
        unfitted.fit(X, np.zeros_like(y))
    for method in (unfitted.predict, unfitted.predict_proba, unfitted.shares):
        with pytest.raises(NotFittedError):
            method(X)
    with pytest.raises(ValueError, match=r"^X must hold at least one array, got an empty dict"):
        classifier().fit({}, y)
    with pytest.raises(ValueError, match=r"^X\['audio'\] must be \(clips, dim\)"):
        classifier().fit({"audio": np.zeros((3, 2, 2, 2))}, [0, 1, 1])
    with pytest.raises(ValueError, match=r"^modalities must be named with letters, .* got 'a:b'"):
        classifier().fit({"a:b": X["audio"]}, y)
    with pytest.raises(ValueError, match=r"^modalities must be named with letters, .* got 0"):
        classifier().fit({0: X["audio"]}, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(X, y[:-1])
    with pytest.raises(ValueError, match="infinity"):
        classifier().fit(X | {"audio": X["audio"] + np.inf}, y)
    holes = X["audio"].copy()
    holes[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"^audio must be finite, .* got NaN elsewhere in 1 rows, first row 5"):
        classifier().fit(X | {"audio": holes}, y)
    gap = with_steps(X["video"])
    gap[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"^video must be finite, .* last steps .* first row 7"):
        classifier().fit(X | {"video": gap}, y)
    with pytest.raises(ValueError, match=r"^y must have at least two classes, got 1 class"):
        classifier().fit(X, np.zeros_like(y))
    with pytest.raises(ValueError, match=r"^X's modality must be one of audio, video, got 'vidoe'. Did you mean video"):
        fitted.predict({"audio": X["audio"], "vidoe": X["video"]})
    with pytest.raises(ValueError, match=r"^X\['audio'\] must be \(clips, 6\) .* got \(90, 4\)"):
        fitted.predict({"audio": X["video"]})
    with pytest.raises(ValueError, match=r"^X must hold one of audio, video"):
        fitted.predict({})
    with pytest.raises(ValueError, match=r"^X must be a dict of audio, video, as in fit, got ndarray"):
        fitted.predict(X["audio"])


def test_a_training_that_diverges():
    with pytest.raises(RuntimeError, match=r"^training must stay finite, .* Pass a smaller lr."):
        classifier(optimizer="sgd", lr=1e38).fit(*arrays())


def test_notes_of_a_method_are_warnings():
    with pytest.warns(UserWarning, match="use sgd"):
        classifier(method="ogm-ge", adapter="linear", optimizer="adamw", epochs=1).fit(*arrays())
