"""Audits of labels and of numbers: `amr evaluate`, scikit-learn and numbers by hand say the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

import amr
from amr.fusion.choices import SCORES
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import read_training_data
from amr.fusion.report.read import read_results
from amr.fusion.report.settings import settings_of
from amr.fusion.report.text.commands import commands
from amr.fusion.report.text.words import summary
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.read import read_run
from amr.fusion.sweep.listing import list_runs

NAMES = ["audio", "video"]
REST = {"audio": "video", "video": "audio"}
TARGETS = {
    "multilabel": {"label": "tags", "label_separator": ";"},
    "regression": {"label": "score", "task": "regression"},
}
BOTH = pytest.mark.parametrize("task", TARGETS)


class Pair(nn.Module):
    """Two linear encoders and a head, in float64; a number is returned as `(batch,)`."""

    def __init__(self, task):
        super().__init__()
        torch.manual_seed(0)
        self.audio_net, self.video_net = nn.Linear(4, 5), nn.Linear(6, 5)
        self.out = nn.Linear(10, 3 if task == "multilabel" else 1)
        self.task = task
        self.double()
        with torch.no_grad():  # each number of an input goes through, so that outputs know of the targets
            self.audio_net.weight[:, :3] = 0.5 * torch.eye(5, 3)
            self.video_net.weight[:, :3] = 0.5 * torch.eye(5, 3)
            self.out.weight[:, :3] = self.out.weight[:, 5:8] = 3 * torch.eye(3)[: len(self.out.weight)]
            self.out.bias[:] = -2.0

    def forward(self, audio, video):
        return self.head(self.audio_net(audio), self.video_net(video))

    def head(self, audio, video):
        outputs = self.out(torch.cat([audio, video], -1).tanh())
        return outputs if self.task == "multilabel" else outputs[:, 0]


ENCODERS = {"audio": "audio_net", "video": "video_net"}


def clips(task, num_clips=40):
    draws = torch.Generator().manual_seed(0)
    audio, video = (torch.randn(num_clips, n, generator=draws, dtype=torch.float64) for n in (4, 6))
    if task == "regression":
        return audio, video, audio[:, 0] + 0.5 * video[:, 0]
    return audio, video, (torch.stack([audio[:, 0], video[:, 1], audio[:, 1] + video[:, 2]], 1) > 0).long()


def batches(data, size=16):
    return [((a, v), y) for a, v, y in zip(*(x.split(size) for x in data), strict=True)]


def audited(task, model=None, read=None, *, data=None, **options):
    options = {"modalities": NAMES, "num_permutations": 3, "num_bootstrap": 0, "task": task} | options
    return amr.audit(model or Pair(task), batches(data or clips(task)) if read is None else read, **options)


@pytest.fixture(scope="module")
def fitted(tasks_home):
    """Task to the run of a fit, its evaluation, and an audit of the same head on the same clips."""
    home = tasks_home
    with amr.open_cache(str(home / "caches" / "x.h5")) as cache:
        raw = {m: torch.from_numpy(cache.embedding(m)).float() for m in cache.names}
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMR_HOME", str(home))
        for task, target in TARGETS.items():
            run = amr.fit(FitConfig(**target, epochs=15, lr=0.05, device="cpu", out=task)).run
            evaluated = amr.evaluate(amr.EvaluateConfig(run, device="cpu", bootstrap=50, noise_draws=200)).document
            data = read_training_data(read_run(run).config, keep_steps=False)
            rows = data.folds[0].rows
            train, test = (
                [({m: x[part] for m, x in raw.items()}, data.dataset.target[part])] for part in (rows.train, rows.test)
            )
            about = {"train": train, "task": task, "classes": data.dataset.classes, "noise_draws": 200}
            audit = amr.audit(amr.load_head(run), test, **about, num_bootstrap=50, out=f"audit_{task}")
            results[task] = run, evaluated, audit, home / "runs" / f"audit_{task}"
        yield results


@BOTH
def test_a_fitted_head_has_the_measures_of_amr_evaluate(fitted, task):
    _, evaluated, audit, folder = fitted[task]
    document = json.loads((folder / "evaluation.json").read_text())
    for name in ("format", "version", "task", "modalities", "classes", "part", "num_clips"):
        assert document[name] == evaluated[name], name
    found, expected = (each["runs"][0]["measures"] for each in (document, evaluated))
    names = [*SCORES[task].measures, "perceptual", "use_share", "alone", "missing", "nothing", "full_minus_worst"]
    for name in [*names, "shapley", "shapley_share", "shapley_use_share", "utilization"]:
        kept = (
            {b: v for b, v in expected[name].items() if b != "zero"}
            if isinstance(expected[name], dict)
            else expected[name]
        )
        assert flat(found[name]) == pytest.approx(flat(kept), abs=1e-5), name
    for m in NAMES:  # of other draws
        assert found["noise"][m] == pytest.approx(expected["noise"][m], abs=0.05)
        assert found["robustness"][m] == pytest.approx(expected["robustness"][m], abs=0.03)
    assert not {"conflict", "calibration", "confusion", "rescue", "cooperation"} & found.keys()
    ours, theirs = (each["runs"][0]["intervals"] for each in (document, evaluated))
    for name in (SCORES[task].name, "perceptual.audio", "alone.video", "use_share.audio"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name
    words = [*SCORES[task].measures.values()]
    table = audit.table
    assert table["measure"].tolist()[:2] == words[:2]
    assert set(table["measure"]) <= {*words, "use", "use share", "Shapley use share", "alone", "robustness"}
    assert SCORES[task].lost in str(audit)


def flat(value):
    """Values of a nested mapping by their names; a single value under no name."""
    if not isinstance(value, dict):
        return {(): value}
    return {(name, *inner): v for name, each in value.items() for inner, v in flat(each).items()}


@BOTH
def test_its_folder_is_like_that_of_the_fit(fitted, task):
    run, _, audit, folder = fitted[task]
    with np.load(folder / "evaluation.npz") as ours, np.load(run / "evaluation.npz") as theirs:
        assert {*ours} == {*theirs}
        for name in {*ours} - {"ids", "shares"}:
            assert (ours[name].dtype, ours[name].shape) == (theirs[name].dtype, theirs[name].shape), name
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-3, err_msg=name)
    read = read_run(folder)
    assert (read.config.task, read.record.classes) == (task, read_run(run).record.classes)
    measures = read_run(run).test
    for name in SCORES[task].measures:
        assert read.test[name] == pytest.approx(measures[name], abs=1e-5)
    columns = read_run(run).predictions().drop(columns=["id", "part", "split", "share_audio", "share_video"])
    assert list(audit.clips) == list(columns)
    if task == "multilabel":
        assert audit.clips["pred"].tolist() == columns["pred"].tolist()
    text = " ".join(summary(results := read_results(folder), settings_of(results)))
    assert f"on 20 clips with {'3 labels' if task == 'multilabel' else 'a number'}." in text
    assert SCORES[task].lost in text
    assert f"task={task!r}" in commands(results)[0]
    (entry,) = list_runs(folder)
    assert (entry.kind, entry.state, entry.settings["task"]) == ("audit", "finished", task)
    for refused in (lambda: amr.evaluate(amr.EvaluateConfig(folder)), lambda: amr.predict(folder, ["x"])):
        with pytest.raises(ValueError, match="RUN must be a run of amr fit, got the audit of FittedHead"):
            refused()


@BOTH
def test_everything_is_reproduced_by_hand(task):
    """Use by permutations, alone by means, noise by draws, shares by autograd: written out for all clips at once."""
    audio, video, target = clips(task)
    model = Pair(task)
    result = audited(task, model, encoders=ENCODERS)
    found = result.values

    def level(a, v):
        outputs = model(a, v).detach()
        if task == "regression":
            return float((outputs - target).abs().mean())
        return average_precision_score(target, outputs, average="macro")

    sign = -1 if task == "regression" else 1  # losses are positive
    draws = generator(0, "permutations")
    orders = [torch.randperm(40, generator=draws) for _ in range(3)]
    full = level(audio, video)
    assert found[SCORES[task].name,] == pytest.approx(full, abs=1e-6)
    changed = {"audio": lambda x: (x, video), "video": lambda x: (audio, x)}
    use = {}
    for m, x in {"audio": audio, "video": video}.items():
        permuted = np.mean([level(*changed[m](x[order])) for order in orders])
        use[m] = sign * (full - permuted)
        assert found["perceptual", m] == pytest.approx(use[m], abs=1e-6)
        assert found["missing", "permutation", REST[m]] == pytest.approx(permuted, abs=1e-6)
        assert found["alone", REST[m]] == pytest.approx(level(*changed[m](x.mean(0).expand_as(x))), abs=1e-6)
        noise = np.random.default_rng([0, 0, *f"noise {m}".encode()]).standard_normal(x.shape, np.float32)
        noise = torch.from_numpy(noise) * x.std(0, correction=0)
        curve = [full, *(level(*changed[m](x + s * noise)) for s in (0.25, 0.5, 0.75, 1.0))]
        for name, value in zip(("0", "0.25", "0.5", "0.75", "1"), curve, strict=True):
            assert found["noise", m, name] == pytest.approx(value, abs=1e-6)
        ratios = [full / value for value in curve] if task == "regression" else [value / full for value in curve]
        assert found["robustness", m] == pytest.approx(np.trapezoid(ratios, dx=0.25), abs=1e-5)
    positive = {m: max(0.0, each) for m, each in use.items()}
    assert found["use_share", "audio"] == pytest.approx(positive["audio"] / sum(positive.values()), abs=1e-5)

    z = [net(x).detach().requires_grad_() for net, x in ((model.audio_net, audio), (model.video_net, video))]
    outputs = model.head(*z)
    if task == "multilabel":  # the predicted labels, or the most probable one
        none = (outputs <= 0).all(-1, keepdim=True)
        chosen = (outputs > 0) | (none & (outputs == outputs.amax(-1, keepdim=True)))
        assert none.any()
        outputs = outputs[chosen]
    gradients = torch.autograd.grad(outputs.sum(), z)
    norms = torch.stack([(g * x).norm(dim=-1) for g, x in zip(gradients, z, strict=True)], -1)
    shares = norms / norms.sum(-1, keepdim=True)
    for name in ("share", "share_logit"):
        assert [found[name, m] for m in NAMES] == pytest.approx(shares.mean(0).tolist(), abs=1e-6)
    assert result.clips["share_audio"].tolist() == pytest.approx(shares[:, 0].tolist(), abs=1e-6)


@BOTH
def test_batches_and_shapes_make_no_difference(task):
    data = clips(task)
    expected = audited(task, encoders=ENCODERS)
    ways = [audited(task, read=batches(data, 7), encoders=ENCODERS)]
    if task == "regression":
        column = [(inputs, y[:, None]) for inputs, y in batches(data)]
        ways.append(audited(task, lambda a, v: {"value": Pair(task)(a, v)[:, None]}, column, logits="value"))
    else:
        ways.append(audited(task, read=[(inputs, y.bool()) for inputs, y in batches(data)]))
    for way in ways:
        for name, value in way.values.items():
            assert value == pytest.approx(expected.values[name], abs=1e-6, nan_ok=True), name


def test_notes_say_what_mAP_leaves_out_and_doubt_probabilities():
    audio, video, target = clips("multilabel")
    target[:, 2] = 0
    model = Pair("multilabel")
    result = audited("multilabel", lambda a, v: model(a, v).sigmoid(), data=(audio, video, target))
    notes = str(result)
    assert "mAP leaves out 1 of 3 labels, which no clip has" in notes
    assert "all outputs are between 0 and 1: if they are probabilities, pass logits=" in notes
    assert "between 0 and 1" not in str(audited("multilabel"))
    few = audited("multilabel", data=clips("multilabel", 60), memory_bytes=20 * 80)
    assert few.record.num_partners == 20
    assert few.values["perceptual", "audio"] == pytest.approx(
        audited("multilabel", data=clips("multilabel", 60)).values["perceptual", "audio"], abs=0.1
    )


def test_a_constant_has_no_correlation_and_is_saved(workspace):
    audio, video, target = clips("regression")
    result = audited("regression", data=(audio, video, torch.zeros_like(target)), out="constant", classes="valence")
    assert np.isnan(result.values["pearson",])
    assert "Pearson" not in set(result.table["measure"])
    saved = read_run(workspace / "runs" / "constant")
    assert saved.test["pearson"] is None
    assert (saved.record.classes, saved.config.label) == (("valence",), "valence")
    other = replace(result, record=replace(result.record, classes=("arousal",)))
    assert other.save("other").is_dir()


@pytest.mark.parametrize(
    ("task", "model", "target", "message"),
    [
        ("multilable", None, torch.zeros(8), "task must be one of multiclass, multilabel, regression"),
        ("multiclass", None, torch.rand(8), r'got torch.float32 \(8,\)\. Pass task="regression" if they are numbers'),
        ("multiclass", None, torch.ones(8, 3), 'Pass task="multilabel" if a clip has any number of labels'),
        ("multiclass", lambda a, v: a[:, 0], torch.ones(8), 'Pass task="regression" for a number per clip'),
        ("multiclass", lambda a, v: a[:, :1], 3 * torch.ones(8), 'or task="regression" if it predicts a number'),
        ("multilabel", None, torch.arange(8), r"labels \(batch, labels\) of 0 and 1 .*got torch.int64 \(8,\)"),
        ("multilabel", None, torch.arange(24).view(8, 3), "0 and 1 .*got 2. Leave out clips whose labels are not"),
        ("multilabel", None, torch.full((8, 3), 0.5), r"0 and 1 .*got 0.5\. Pass for example target > 0.5"),
        ("multilabel", None, torch.full((8, 3), torch.nan), "got nan. Leave out clips whose labels are not known"),
        ("multilabel", None, torch.zeros(8, 3), "target must have a label that a clip has, got 3 without any"),
        ("multilabel", None, torch.ones(8, 4), "a logit for each of the 4 labels of target, got 3"),
        ("multilabel", lambda a, v: a[:, 0], torch.ones(8, 1), r"return logits.unsqueeze\(-1\)"),
        ("regression", None, torch.full((8,), torch.nan), "got NaN or infinity. Leave out clips without a number"),
        ("regression", None, torch.rand(8, 2), r"got torch.float32 \(8, 2\). Pass for example target\[:, 0\]"),
        ("regression", None, torch.ones(8, 2), 'Pass task="multilabel" for labels of 0 and 1'),
        ("regression", lambda a, v: a[:, :3], torch.rand(8), r"one floating-point number per clip.*float64 \(8, 3\)"),
        ("regression", lambda a, v: a.argmax(1), torch.rand(8), "one floating-point number per clip.*got torch.int64"),
        ("regression", lambda a, v: a[:, 0] / 0, torch.rand(8), "finite numbers, got NaN or infinity"),
    ],
)
def test_targets_and_outputs_of_other_tasks_are_refused(task, model, target, message):
    audio, video, _ = clips("regression", 8)
    with pytest.raises(ValueError, match=message):
        audited(task, model or Pair("multilabel"), [((audio, video), target)])


def test_labels_and_names_must_be_as_many():
    audio, video, target = clips("multilabel", 16)
    read = [((audio[:8], video[:8]), target[:8]), ((audio[8:], video[8:]), target[8:, :2])]
    with pytest.raises(ValueError, match="target must have the same labels in every batch, got 3 and 2"):
        audited("multilabel", read=read)
    with pytest.raises(ValueError, match="classes must be 3 different names"):
        audited("multilabel", classes=["dog", "cat"])
    with pytest.raises(ValueError, match="classes must be the name of the number, got 2"):
        audited("regression", classes=["a", "b"])
