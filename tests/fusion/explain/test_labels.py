"""Words about labels, and which of them are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amr.fusion.explain.labels import FEW, MOST, LabelsExplanation, RemovedLabels


def labels_explanation(probabilities=None, without=None, true_labels=("dog", "cow"), **removed) -> LabelsExplanation:
    probabilities = probabilities or {"dog": 0.9, "cat": 0.6, "cow": 0.2}
    removed = removed or {"zero": dict.fromkeys(("audio", "video"), without or probabilities)}
    return LabelsExplanation(
        clip="a",
        run="runs/x",
        head="concat",
        method="naive",
        amr_ratio=None,
        pred=";".join(predicted(probabilities)),
        true=None if true_labels is None else ";".join(true_labels),
        probabilities=probabilities,
        share={"grad_x_input": {m: 1 / len(of) for of in [next(iter(removed.values()))] for m in of}},
        removed={
            baseline: {m: RemovedLabels(";".join(predicted(p)), predicted(p), p) for m, p in of.items()}
            for baseline, of in removed.items()
        },
        steps={},
        notes=(),
        picture="a.png",
        labels=predicted(probabilities),
        true_labels=true_labels,
    )


def predicted(probabilities):
    return tuple(name for name, p in probabilities.items() if p > 0.5)


@pytest.mark.parametrize(
    ("true", "sentence"),
    [
        (None, "dog, cat"),
        (("cat", "dog"), "dog, cat, correct"),
        ((), "dog, cat; true: no label"),
        (("dog", "cow"), "dog, cat; true: dog, cow"),
        (("dog", "cow" * 30), "2 labels; true: 2 labels, 1 of them predicted"),
    ],
)
def test_the_sentence_says_what_is_predicted_and_true(true, sentence):
    assert labels_explanation(true_labels=true).sentence == sentence


def test_long_names_are_counted():
    names = {"people marching or running in the park": 0.9, "male speech, man speaking": 0.8, "早上好" * 10: 0.7}
    assert labels_explanation(names, true_labels=tuple(names)).sentence == "3 labels, correct"
    assert labels_explanation(names, true_labels=()).sentence == "3 labels; true: no label"
    long = "cow" * 50
    assert labels_explanation({long: 0.9}, true_labels=None).sentence == "1 label"
    none = labels_explanation({long: 0.1, "dog": 0.2}, true_labels=(long,))
    assert none.sentence == "no label above one half; true: 1 label, 0 of them predicted"


def test_without_a_label_the_most_probable_one_is_attributed():
    none = labels_explanation({"dog": 0.4, "cat": 0.3}, true_labels=())
    assert none.sentence == "no label above one half, correct"
    assert none.attributed == "the most probable label"
    assert none.headline == "labels: none above one half; true: no label"
    assert labels_explanation().attributed == "the predicted labels"


def test_the_table_has_one_row_per_label_and_baseline():
    title, columns, rows = labels_explanation(without={"dog": 0.9, "cat": 0.4, "cow": 0.2}).table()
    assert title == "labels: dog 0.900, cat 0.600; true: dog, cow"
    assert columns == ["", "audio", "video"]
    assert rows[1:] == [
        ["dog 0.900, replaced by zero", 0.9, 0.9],
        ["cat 0.600, replaced by zero", 0.4, 0.4],
        ["cow 0.200, replaced by zero", 0.2, 0.2],
    ]


def test_labels_that_matter_are_shown_and_the_others_are_bounded():
    p = {f"label {i}": 0.4 - i / 1000 for i in range(100)} | {"mine": 0.51}
    changed = p | {"label 98": 0.7, "label 50": 0.45}
    e = labels_explanation(p, changed, true_labels=("label 99", "unknown to the run"))
    assert len(e.shown) == FEW
    assert {"mine", "label 98", "label 99"} < {*e.shown}
    assert [p[name] for name in e.shown] == sorted((p[name] for name in e.shown), reverse=True)
    assert e.largest_hidden == 0.45
    many = labels_explanation({f"label {i}": 0.6 for i in range(40)}, true_labels=("label 39",))
    assert len(many.shown) == MOST
    assert many.largest_hidden == 0.6
    few = labels_explanation()
    assert few.shown == ["dog", "cat", "cow"]
    assert few.largest_hidden == 0


def test_baselines_that_differ_in_one_label_are_two():
    p = {"dog": 0.9, "cat": 0.6}
    same = labels_explanation(p, zero={"audio": p}, mean={"audio": p | {"cat": 0.6005}})
    assert [*same.baselines] == ["zero or mean"]
    other = labels_explanation(p, zero={"audio": p}, mean={"audio": p | {"cat": 0.602}})
    assert [*other.baselines] == ["zero", "mean"]
    assert replace(other, removed={"zero": other.removed["zero"]}).baselines.keys() == {"zero"}
