import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from amr.fusion.evaluate.references.probe import ProbeAccuracy, fit_probe

from .conftest import SEEDS, make_compared


def sklearn_preds(train, target, test):
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=len(train)))
    return probe.fit(train, target).predict(test)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_probe_is_the_ridge_classifier_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    target = rng.integers(0, num_classes, 90)
    z = rng.normal(size=(2, 90, 30)) + 3 + np.eye(num_classes)[target] @ rng.normal(size=(num_classes, 30))
    z[:, :, 4] = 2.5  # a constant dimension
    batches = [(torch.tensor(z[:, part]), torch.tensor(target[part])) for part in (slice(0, 40), slice(40, 60))]
    probe = fit_probe(batches, num_classes)
    found = probe.predict(torch.tensor(z[:, 60:]))
    for run in range(2):
        expected = sklearn_preds(z[run, :60], target[:60], z[run, 60:])
        np.testing.assert_array_equal(found[run].numpy(), expected)


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_probes_read_z_of_the_run_and_of_the_unimodal_head(adapter):
    subject = make_compared({"audio": 5, "video": 4}, adapter=adapter)
    found = ProbeAccuracy().per_clip(subject)
    train, test = subject.reference.fold.train, subject.clips
    for i, m in enumerate(subject.modalities):
        for name, model, rows in (("joint", subject.model, range(3)), ("unimodal", subject.reference.model, SEEDS)):
            for run, row in enumerate(rows):
                z = [
                    model.adapters[m](clips.embeddings[m][None])[row].detach().double().numpy()
                    for clips in (train, test)
                ]
                has, has_test = train.present[:, i].numpy(), test.present[:, i].numpy()
                preds = sklearn_preds(z[0][has], train.target.numpy()[has], z[1])
                right = np.where(has_test, preds == test.target.numpy(), np.nan)
                np.testing.assert_array_equal(found["probe", name, m][run].numpy(), right)
    means = {name: np.nanmean(values.numpy(), axis=1) for name, values in found.items()}
    ratio = ProbeAccuracy().derived(means, subject.modalities)["probe", "ratio", "audio"]
    np.testing.assert_allclose(ratio, means["probe", "joint", "audio"] / means["probe", "unimodal", "audio"])


def test_without_adapters_there_is_nothing_to_probe(compared):
    assert ProbeAccuracy().per_clip(compared) == {}
    assert ProbeAccuracy().derived({}, compared.modalities) == {}


def test_a_modality_that_no_train_clip_has_gets_no_probe():
    assert fit_probe([(torch.zeros(2, 0, 3), torch.zeros(0, dtype=torch.long))], 4) is None
