"""An audit: the measures of `amr evaluate` where both apply, and models and batches of every form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import amr
from amr.common.workspace import find_cache
from amr.fusion.audit.batches import Modalities
from amr.fusion.audit.survey import survey
from amr.fusion.config import FitConfig
from amr.fusion.data.folds import read_training_data
from amr.fusion.report.read import read_results
from amr.fusion.sweep.listing import list_runs


class Pair(nn.Module):
    """Two linear encoders and a head, with dropout and BatchNorm, which an audit must not move."""

    def __init__(self, num_classes=3, audio=4, video=6):
        super().__init__()
        torch.manual_seed(0)
        self.audio_net, self.video_net = nn.Linear(audio, 5), nn.Linear(video, 5)
        self.norm, self.drop, self.out = nn.BatchNorm1d(10), nn.Dropout(0.5), nn.Linear(10, num_classes)

    def forward(self, audio, video):
        z = torch.cat([self.audio_net(audio), self.video_net(video)], -1)
        return self.out(self.drop(self.norm(z)))


ENCODERS = {"audio": "audio_net", "video": "video_net"}
NAMES = ["audio", "video"]


def clips(num_clips=40, num_classes=3, seed=0):
    draws = torch.Generator().manual_seed(seed)
    target = torch.arange(num_clips) % num_classes
    audio, video = torch.randn(num_clips, 4, generator=draws), torch.randn(num_clips, 6, generator=draws)
    audio[torch.arange(num_clips), target] += 2
    return audio, video, target


def batches(data, size=16):
    return [((a, v), y) for a, v, y in zip(*(x.split(size) for x in data), strict=True)]


def audited(model=None, read=None, *, data=None, **options):
    options = {"modalities": NAMES, "num_permutations": 3, "num_bootstrap": 50} | options
    return amr.audit(model or Pair(), batches(data or clips()) if read is None else read, **options)


def same(ours, theirs):
    assert ours.values.keys() == theirs.values.keys()
    for name, value in ours.values.items():
        np.testing.assert_allclose(value, theirs.values[name], rtol=1e-6, atol=1e-9, err_msg=str(name))


def test_a_fitted_head_has_the_measures_of_amr_evaluate(small_cache, workspace):
    run = amr.fit(FitConfig(cache=str(small_cache), epochs=5, device="cpu", out=str(workspace / "run"))).run
    entry = amr.evaluate(amr.EvaluateConfig(run, device="cpu", bootstrap=0)).document["runs"][0]["measures"]
    data = read_training_data(FitConfig(cache=str(find_cache(str(small_cache))), device="cpu"), keep_steps=False)
    with amr.open_cache(str(small_cache)) as cache:
        raw = {m: torch.from_numpy(cache.embedding(m)).float() for m in cache.names}
    fold = data.folds[0]
    train, test = (
        [({m: x[rows] for m, x in raw.items()}, data.dataset.target[rows])]
        for rows in (fold.rows.train, fold.rows.test)
    )
    found = amr.audit(amr.load_head(run), test, train=train).values
    for name, value in {
        ("accuracy",): entry["accuracy"],
        ("map",): entry["map"],
        **{(kind, m): entry[kind][m] for kind in ("perceptual", "use_share", "alone", "confusion") for m in NAMES},
        **{("conflict", m): entry["conflict"][m] for m in (*NAMES, "neither", "balance")},
        **{("shapley_share", b, m): entry["shapley_share"][b][m] for b in ("mean", "permutation") for m in NAMES},
        **{("calibration", "clean", s): entry["calibration"]["clean"][s] for s in ("ece", "nll", "brier")},
    }.items():
        assert found[name] == pytest.approx(value, abs=2e-6), name


def test_each_form_of_batches_and_of_models_gives_the_same():
    data = clips()
    expected = audited(data=data, encoders=ENCODERS)
    model = Pair()

    def by_name(inputs):
        return {"scores": model(inputs["audio"], inputs["video"])}

    named = [({"video": v, "audio": a}, y) for (a, v), y in batches(data)]
    within = [{**inputs, "label": y} for inputs, y in named]
    loader = DataLoader(TensorDataset(*data), batch_size=7)
    model.eval()
    same(expected, audited(Pair(), batches(data, 9), encoders=ENCODERS))
    same(expected, audited(Pair(), loader, target=-1, encoders=ENCODERS))
    same(expected, audited(Pair(), named, encoders=ENCODERS))
    same(expected, audited(Pair(), (each for each in within), target="label", encoders=ENCODERS))
    same(expected, audited(Pair(), batches(data), encoders={"video": "video_net", "audio": "audio_net"}))
    of_function = audited(by_name, named, logits="scores")
    for name, value in of_function.values.items():
        assert value == pytest.approx(expected.values[name], abs=1e-9)
    assert not [name for name in of_function.values if name[0] == "share"]


def test_everything_is_reproduced_by_hand():
    """Use by permutations, alone by means, shares by autograd, noise by draws: written out for all clips at once."""
    audio, video, target = clips()
    model = Pair()
    found = audited(model, encoders=ENCODERS).values
    model.eval()

    def accuracy(a, v):
        return float((model(a, v).argmax(-1) == target).double().mean())

    draws = amr.fusion.run_axis.seeds.generator(0, "permutations")
    orders = [torch.randperm(40, generator=draws) for _ in range(3)]
    full = accuracy(audio, video)
    for m, changed in (("audio", lambda o: (audio[o], video)), ("video", lambda o: (audio, video[o]))):
        assert found["perceptual", m] == pytest.approx(full - np.mean([accuracy(*changed(o)) for o in orders]))
    assert found["alone", "audio"] == pytest.approx(accuracy(audio, video.mean(0).expand_as(video)))
    z = [net(x).detach().requires_grad_() for net, x in ((model.audio_net, audio), (model.video_net, video))]
    logits = model.out(model.norm(torch.cat(z, -1)))
    others = logits.scatter(-1, logits.argmax(-1, keepdim=True), -torch.inf).logsumexp(-1)
    gradients = torch.autograd.grad((logits.amax(-1) - others).sum(), z)
    norms = torch.stack([(g * x).norm(dim=-1) for g, x in zip(gradients, z, strict=True)], -1)
    expected = (norms / norms.sum(-1, keepdim=True)).mean(0)
    assert [found["share", m] for m in NAMES] == pytest.approx(expected.tolist(), abs=1e-6)
    noise = np.random.default_rng([0, 0, *b"noise audio"]).standard_normal((40, 4), np.float32)
    strongest = audio + torch.from_numpy(noise) * audio.std(0, correction=0)
    assert found["noise", "audio", "1"] == pytest.approx(accuracy(strongest, video))


def test_the_model_is_left_as_it_was():
    model = Pair().train()
    model.drop.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    audited(model, encoders=ENCODERS)
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.norm.training
    assert not model.drop.training
    assert not model._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tokens_and_their_mask_go_to_another_clip_together_and_are_padded():
    """The model reads a class from as many tokens as the mask counts: half of the ids and the mask would be seen."""

    def model(input_ids, attention_mask, picture):
        assert not (input_ids * (1 - attention_mask)).any()  # padding is 0, so that both were padded and moved together
        assert attention_mask.sum(1).min() >= 1
        code = (input_ids * attention_mask).sum(1) / attention_mask.sum(1)
        return torch.nn.functional.one_hot(code.long() - 1, 3).float() * 9 + 0 * picture.mean()

    data = []
    for length in (5, 3, 8):
        target = torch.arange(9) % 3
        mask = (torch.arange(length) < torch.randint(1, length + 1, (9, 1))).long()
        ids = (target[:, None] + 1) * mask
        data.append({"input_ids": ids, "attention_mask": mask, "picture": torch.randn(9, 2), "labels": target})
    text = {"text": ["input_ids", "attention_mask"], "picture": "picture"}
    result = amr.audit(model, data, modalities=text, target="labels", num_bootstrap=0)
    assert result.values["accuracy",] == 1
    assert result.values["use_share", "text"] == 1
    assert result.values["conflict", "picture"] == 0
    assert ("alone", "text") not in result.values
    assert ("robustness", "picture") in result.values
    assert ("robustness", "text") not in result.values
    assert any("no accuracy alone" in note for note in result.record.notes)
    nested = [
        ({"text": {k: each[k] for k in text["text"]}, "picture": each["picture"]}, each["labels"]) for each in data
    ]
    same(result, amr.audit(lambda x: model(**x["text"], picture=x["picture"]), nested, num_bootstrap=0))


def test_memory_is_that_of_a_sample_of_clips():
    data = clips(300)
    size = sum(x[:1].numel() * 4 for x in data[:2])
    few = audited(data=data, memory_bytes=50 * size, num_permutations=20)
    every = audited(data=data, num_permutations=20)
    assert few.record.num_partners == 50
    assert every.record.num_partners == 300
    assert few.record.notes[0].startswith("partners were drawn from 50 of 300 clips")
    for m in NAMES:
        assert few.values["perceptual", m] == pytest.approx(every.values["perceptual", m], abs=0.05)
    assert few.values["accuracy",] == every.values["accuracy",]


def test_each_clip_is_as_likely_to_be_held():
    counts = np.zeros(20)
    modalities = Modalities({"a": (0,), "b": (1,)})
    data = [((torch.arange(i, i + 5.0)[:, None], torch.zeros(5, 1)), torch.zeros(5)) for i in range(0, 20, 5)]
    for seed in range(300):
        found = survey(data, None, modalities, most_bytes=8 * 4, seed=seed)
        counts[found.held] += 1
        assert found.take("a", torch.arange(4))[:, 0].long().equal(found.held)
    assert counts.sum() == 1200
    assert abs(counts - 60).max() < 4 * np.sqrt(60 * 0.8)


def test_means_and_deviations_of_train_batches_are_those_of_all_clips_together():
    draws = torch.Generator().manual_seed(0)
    x = 100 + torch.randn(70, 3, 2, generator=draws)
    data = [((part, part), torch.arange(len(part))) for part in x.split(16)]
    found = survey(data, None, Modalities({"a": (0,), "b": (1,)}), most_bytes=0, seed=0).statistics["a"]
    torch.testing.assert_close(found.mean, x.double().mean(0).float())
    torch.testing.assert_close(found.std, x.double().std(0, correction=0).float())
    ragged = [((part[:, : i + 1], part), torch.arange(len(part))) for i, part in enumerate(x.split(24))]
    found = survey(ragged, None, Modalities({"a": (0,), "b": (1,)}), most_bytes=0, seed=0).statistics["a"]
    numbers = torch.cat([inputs[0].double().flatten() for inputs, _ in ragged])
    assert found.mean is None
    torch.testing.assert_close(found.std, numbers.std(correction=0).float(), rtol=1e-4, atol=0)


def test_three_modalities_and_a_binary_logit():
    draws = torch.Generator().manual_seed(0)
    x = {m: torch.randn(30, 2, generator=draws) for m in "abc"}
    target = torch.arange(30) % 2
    x["a"][:, 0] += 4 * target - 2
    weight = torch.tensor([3.0, 0.0])
    result = amr.audit(lambda x: x["a"] @ weight[:, None] + 0 * x["b"].sum(1, keepdim=True), [(x, target)])
    assert result.values["use_share", "a"] == 1
    assert result.values["use_share", "c"] == 0
    assert result.values["conflict", "a/b", "a"] > 0.9
    assert result.values["missing", "permutation", "a+c"] == result.values["accuracy",]
    assert result.record.classes == ("0", "1")


def test_the_folder_is_one_that_report_and_others_read(workspace):
    result = audited(encoders=ENCODERS, classes=["a", "b", "c"], name="my model", out=workspace / "x" / "aud")
    folder = workspace / "x" / "aud"
    document = json.loads((folder / "evaluation.json").read_text())
    assert document["runs"][0]["measures"]["perceptual"]["audio"] == pytest.approx(
        result.values["perceptual", "audio"], abs=1e-6
    )
    read = read_results(folder)
    assert read.runs[0].record.model == "my model"
    assert read.runs[0].measures["use_share.audio"] == pytest.approx(result.values["use_share", "audio"], abs=1e-6)
    assert read.decisions is not None
    assert read.decisions.preds.shape == (1, 40)
    (entry,) = list_runs(folder.parent)
    assert (entry.kind, entry.state, entry.settings["method"]) == ("audit", "finished", "my model")
    for refused in (
        lambda: amr.evaluate(amr.EvaluateConfig(folder)),
        lambda: amr.predict(folder, ["x"]),
        lambda: amr.load_head(folder),
    ):
        with pytest.raises(ValueError, match="RUN must be a run of amr fit, got the audit of my model"):
            refused()
    page = workspace / "page.html"
    amr.report(amr.ReportConfig(str(folder), out=str(page)))
    text = page.read_text()
    assert "An audit of my model on 40 clips of 3 classes." in text
    assert "This model hardly uses any modality (my model" in text  # its weights are random
    assert "amr.audit(model, batches" in text
    first = (folder / "evaluation.json").read_bytes()
    result.save(folder)
    assert (folder / "evaluation.json").read_bytes() == first
    other = replace(result, record=replace(result.record, model="another"))
    with pytest.raises(ValueError, match=r"an audit of another, got .* one of my model"):
        other.save(folder)
    other.save(folder, overwrite=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out must be new, empty or an earlier audit"):
        result.save(folder)


def test_intervals_hold_their_values_and_a_table_has_no_empty_rows():
    result = audited(encoders=ENCODERS, num_bootstrap=200)
    for row in result.table.itertuples():
        if not np.isnan(row.low):
            assert row.low - 0.1 <= row.value <= row.high + 0.1
            assert row.low < row.high or row.value in (0, 1)
    assert not result.table["value"].isna().any()
    assert "use share" in str(result)
    assert len(result.clips) == 40
    assert np.allclose(result.clips.filter(like="share_").sum(axis=1), 1, atol=1e-5)
    assert np.isnan(audited(num_bootstrap=0).table["low"]).all()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "batches must hold clips, got none"),
        (3, {}, r"batches must be an iterable of \(inputs, target\), got int\. Pass for example a DataLoader"),
        (None, {"train": 3}, r"train must be an iterable of \(inputs, target\), got int\."),
        (None, {"device": "nowhere"}, r"device must be available, got 'nowhere'\. Pass device=\"cpu\""),
        (None, {"encoders": "audio_net"}, "encoders must map each modality to its module, got str"),
        ([(torch.zeros(2, 4), torch.zeros(2))], {}, "inputs must be a mapping or a tuple of modalities, got Tensor"),
        ([clips()], {}, r"batches must be pairs of inputs and target, got a tuple of 3\. Pass target="),
        ([clips()], {"target": 5}, "position in batches of 3, got 5"),
        ([{"audio": 1, "lable": 2}], {"target": "label"}, "Did you mean lable"),
        (None, {"modalities": ["audio"]}, "modalities must be two or more, got audio"),
        (None, {"modalities": ["a", "b", "c"]}, "3 names for 2"),
        (None, {"modalities": {"a": 0, "b": 7}}, "modalities must be one of 0, 1, got '7'"),
        (None, {"modalities": {"a": 0, "b": 0}}, "inputs of their own, got 0 twice"),
        (None, {"encoders": {"audio": "audio_net"}}, "encoders must name a module of each modality"),
        (
            None,
            {"modalities": NAMES, "encoders": {"audio": "audio_net", "video": "vdeo_net"}},
            "Did you mean video_net",
        ),
        (None, {"classes": ["a", "b"]}, "classes must be 3 different names"),
        (None, {"num_permutations": 0}, "num_permutations must be a whole number of 1 or more, got 0"),
        ([((torch.zeros(2, 4), torch.zeros(2, 6)), torch.tensor([0.5, 1]))], {}, "target must be class numbers"),
        ([((torch.zeros(2, 4), torch.zeros(2, 6)), torch.tensor([0, 7]))], {}, "below the number of classes, 3, got 7"),
        ([((torch.zeros(2, 4), torch.zeros(3, 6)), torch.tensor([0, 1]))], {}, "as many in each"),
        ([((torch.zeros(2, 4), torch.zeros(2, 6)), torch.tensor([0, 1, 2]))], {}, "one row per clip, got 3 for 2"),
        ([((torch.zeros(2, 4), torch.zeros(2, 6).log()), torch.tensor([0, 1]))], {}, "must be finite.*in 1"),
        ([((torch.zeros(2, 4), ["a", "b"]), torch.tensor([0, 1]))], {}, "input 1 must be a tensor"),
        ([((torch.zeros(1, 4), torch.zeros(1, 6)), torch.tensor([0]))], {}, "two or more clips, got 1"),
    ],
)
def test_wrong_batches_and_options_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        amr.audit(Pair(), batches(clips()) if data is None else data, num_bootstrap=0, **options)


def test_a_name_in_place_of_a_model_and_none_in_place_of_batches_are_refused():
    with pytest.raises(ValueError, match=r"model must be a module or a function, got a str\. Pass the model itself"):
        amr.audit("model", batches(clips()))
    with pytest.raises(ValueError, match=r"batches must be an iterable of .* got NoneType"):
        amr.audit(Pair(), None)


def test_tokenizers_outputs_must_be_named_and_generators_must_fit():
    data = [({"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 3)}, torch.tensor([0, 1]))]
    with pytest.raises(ValueError, match="modalities must say which inputs belong together"):
        amr.audit(lambda **x: x["input_ids"], data)
    with pytest.raises(ValueError, match=r"readable twice if they are more than"):
        amr.audit(Pair(), (each for each in batches(clips())), modalities=NAMES, memory_bytes=100)
    with pytest.raises(ValueError, match="finite logits"):
        amr.audit(lambda a, v: a.log() * torch.nan, batches(clips()), modalities=NAMES)
    with pytest.raises(ValueError, match=r"logits \(batch, classes\), got \(16, 2, 2\)"):
        amr.audit(lambda a, v: a.view(-1, 2, 2), batches(clips()), modalities=NAMES)


def test_one_class_has_no_conflict():
    audio, video, _ = clips()
    result = audited(data=(audio, video, torch.zeros(40, dtype=torch.long)))
    assert np.isnan(result.values["conflict", "audio"])
    assert "follows under conflict" not in set(result.table["measure"])
