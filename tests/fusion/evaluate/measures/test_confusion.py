import numpy as np
import pytest

from amr.fusion.evaluate.measures.confusion import Confusion

from ..conftest import answer, clip, make_subject


def test_confusion_and_rescue_agree_with_a_literal_loop(subject):
    result = Confusion().per_clip(subject)
    names = subject.modalities
    for run in range(3):
        for i, has in enumerate(subject.clips.present.tolist()):
            own = clip(subject, i)
            means = {
                m: subject.mean[m].double().numpy() if present else own[m]
                for m, present in zip(names, has, strict=True)
            }
            target = int(subject.clips.target[i])
            right = answer(subject, run, own) == target
            alone = {m: answer(subject, run, {**means, m: own[m]}) == target for m in names}
            for m, present in zip(names, has, strict=True):
                expected = float(alone[m] and not right) if present else np.nan
                np.testing.assert_equal(float(result["confusion", m][run, i]), expected)
            known = any(alone[m] for m, present in zip(names, has, strict=True) if present)
            expected = float(right and not known) if sum(has) > 1 else np.nan
            np.testing.assert_equal(float(result[("rescue",)][run, i]), expected)


def test_confusion_is_no_more_than_the_error_and_rescue_no_more_than_the_accuracy():
    subject = make_subject({"audio": 5, "video": 4}, num_clips=80, gaps=False)
    means = {name: values.mean(-1) for name, values in Confusion().per_clip(subject).items()}
    accuracy = subject.clean.correct.mean(-1)
    alone = {m: subject.alone(m).mean(-1) for m in subject.modalities}
    for m in subject.modalities:
        assert (means["confusion", m] <= 1 - accuracy).all()
        assert (means["confusion", m] >= alone[m] - accuracy).all()
    assert (means[("rescue",)] <= accuracy).all()
    assert float(sum(values.sum() for values in means.values())) > 0


def test_a_modality_that_is_always_right_alone_leaves_nothing_to_rescue(monkeypatch):
    subject = make_subject({"audio": 5, "video": 4}, gaps=False)
    right = subject.clean.correct
    monkeypatch.setattr(type(subject), "alone", lambda self, m: right)
    result = Confusion().per_clip(subject)
    assert float(result[("rescue",)].sum()) == 0
    assert float(result["confusion", "audio"].sum()) == pytest.approx(0)
