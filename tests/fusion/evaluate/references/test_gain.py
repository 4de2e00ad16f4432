import numpy as np
import torch
from torch.nn import functional

from amr.fusion.evaluate.references.gain import Gain, best_by_val

from .conftest import alone_logits, joint_logits, log_softmax, make_compared


def softmax(logits):
    return np.exp(log_softmax(logits))


def test_gains_are_those_of_a_literal_loop(compared):
    fold, target = compared.reference.fold, compared.clips.target.numpy()
    found = {name: values.numpy() for name, values in Gain().per_clip(compared).items()}
    own = joint_logits(compared.model, compared.clips).argmax(-1) == target
    for run in range(3):
        val_accuracy, right = [], []
        for i, m in enumerate(compared.modalities):
            has, has_val = fold.test.present[:, i].numpy(), fold.val.present[:, i].numpy()
            answers = alone_logits(compared, m, fold.val)[run].argmax(-1)
            val_accuracy.append((answers == fold.val.target.numpy())[has_val].mean())
            right.append(np.where(has, alone_logits(compared, m, fold.test)[run].argmax(-1) == target, np.nan))
            np.testing.assert_array_equal(found["unimodal_accuracy", m][run], right[-1])
        best = int(np.argmax(val_accuracy))
        assert sorted(val_accuracy)[-1] > sorted(val_accuracy)[-2]  # no ties here
        np.testing.assert_array_equal(found["gain_over_best_unimodal",][run], own[run] - right[best])
        for i, m in enumerate(compared.modalities):
            assert (found["best_unimodal", m][run] == (i == best)).all()


def test_ume_is_the_mean_softmax_over_the_modalities_of_a_clip(compared):
    present, target = compared.clips.present.numpy(), compared.clips.target.numpy()
    p = np.stack([softmax(alone_logits(compared, m, compared.clips)) for m in compared.modalities], axis=-1)
    of_ume = (p * present[None, :, None, :]).sum(-1).argmax(-1) == target
    own = joint_logits(compared.model, compared.clips).argmax(-1) == target
    gain = Gain().per_clip(compared)["gain_over_ume",].numpy()
    np.testing.assert_array_equal(gain, own.astype(float) - of_ume)


def test_without_val_clips_no_head_is_the_best():
    subject = make_compared({"audio": 5, "video": 4}, num_val=0)
    found = Gain().per_clip(subject)
    assert best_by_val(subject.reference).tolist() == [-1, -1]
    assert found["gain_over_best_unimodal",].isnan().all()
    assert found["best_unimodal", "audio"].isnan().all()
    assert found["gain_over_ume",].isfinite().all()


def test_of_equal_accuracies_the_lower_loss_is_the_best():
    subject = make_compared({"audio": 5, "video": 5}, gaps=False)
    heads = subject.reference.model.head.classifiers
    val = subject.reference.fold.val
    with torch.no_grad():
        val.embeddings["video"].copy_(val.embeddings["audio"])
        for name in ("weight", "bias"):  # the same answers, less sure
            getattr(heads["video"], name).copy_(getattr(heads["audio"], name) * 0.01)
    losses = [
        functional.cross_entropy(torch.tensor(alone_logits(subject, m, val)[0]), val.target) for m in subject.modalities
    ]
    assert best_by_val(subject.reference)[0] == int(np.argmin(losses))
