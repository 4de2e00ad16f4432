from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from amr.fusion.heads.ensemble import EnsembleOptions

from .conftest import DIMS, build, linear, make_z

PRESENT = torch.tensor([[True, True, True], [True, True, False], [True, False, True], [False, True, True]])
ONE = torch.tensor([[False, True, False], [False, False, True], [False, False, False]])


def gaps():
    """Seven clips with every kind of gap, and z of 0 where a modality is absent."""
    present = torch.cat([PRESENT, ONE]).expand(2, -1, -1)
    return {m: z * present[..., i, None] for i, (m, z) in enumerate(make_z(3).items())}, present


def outputs(head, z, run, clip):
    """Logits of each classifier, `(modalities, classes)`."""
    return np.stack([linear(head.classifiers[m], run)(z[m][run, clip]).detach().numpy() for m in DIMS[3]])


def test_without_weights_it_is_the_mean_of_the_present_softmaxes():
    head, (z, present) = build("ume", 3), gaps()
    logits = head(z, present).detach().numpy()
    for run, clip in product(range(2), range(7)):
        counted = present[run, clip].numpy() | (not present[run, clip].any())
        expected = softmax(outputs(head, z, run, clip), axis=-1)[counted].mean(0)
        np.testing.assert_allclose(np.exp(logits[run, clip]), expected, atol=1e-12)


@pytest.mark.parametrize(("text", "weights"), [("3:1:2", (3, 1, 2)), ("1:0:1", (1, 0, 1)), ("0:0:5", (0, 0, 5))])
def test_weights_are_shared_among_the_modalities_that_a_clip_has(text, weights):
    head, (z, present) = build("ume", 3, options=EnsembleOptions(text)), gaps()
    logits = head(z, present).detach().numpy()
    for run, clip in product(range(2), range(7)):
        counted = np.array(weights) * present[run, clip].numpy()
        counted = counted if counted.sum() > 0 else np.array(weights)  # a clip without any used modality
        pooled = (counted / counted.sum()) @ log_softmax(outputs(head, z, run, clip), axis=-1)
        np.testing.assert_allclose(logits[run, clip], log_softmax(pooled), atol=1e-6)


def test_weights_are_those_of_the_modalities():
    with pytest.raises(ValueError, match=r"--method-option weights must have one part for each of audio, video"):
        build("ume", 2, options=EnsembleOptions("1:1:1"))
    named = build("ume", 2, options=EnsembleOptions("video=1:audio=3"))
    assert named.weights.tolist() == [0.75, 0.25]
    assert list(named.state_dict()) == list(build("ume", 2).state_dict())  # runs of 0.1 load
