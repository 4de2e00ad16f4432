"""Models that are one `forward()`: the tapped model is the model with its head written out by hand."""

from __future__ import annotations

import copy
import io
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

import amr
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import AttributionRegularizer
from amr.fusion.attribution.tap.logits import select_logits

ATTRIBUTORS = [Attributor(attribution=name, num_points=3) for name in ("grad_x_input", "integrated_gradients")]
ATTRIBUTORS += [Attributor(attribution="shapley"), Attributor(attribution="permutation")]


class ResNetPair(nn.Module):
    """Two ResNets and concat, as the field's public code has them: frames folded into the batch, outputs a tuple."""

    def __init__(self):
        super().__init__()
        self.audio_net, self.visual_net = (resnet18(num_classes=6) for _ in range(2))
        self.audio_net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.norm, self.fc_out = nn.BatchNorm1d(12), nn.Linear(12, 4)

    def fuse(self, a, v):
        return self.fc_out(self.norm(torch.cat([functional.relu_(a), v], dim=1)))

    def forward(self, audio, visual):
        batch, _, frames, *size = visual.shape
        a = self.audio_net(audio)
        v = self.visual_net(visual.permute(0, 2, 1, 3, 4).reshape(batch * frames, 3, *size))
        v = v.view(batch, frames, -1).mean(1)
        return a, v, self.fuse(a, v)

    tapped: ClassVar = {"audio": "audio_net", "video": "visual_net"}
    logits = 2

    def inputs(self):
        return (torch.randn(3, 1, 32, 32), torch.randn(3, 3, 2, 32, 32)), {}

    def by_hand(self, z, args, kwargs):
        return self.fuse(z["audio"].clone(), z["video"].mean(1))


class Output(dict):
    """An output with fields, as the models of transformers have them."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Bert(nn.Module):
    """Attention over tokens with padding; its output has two tensors."""

    def __init__(self, dim=8):
        super().__init__()
        self.embed = nn.Embedding(20, dim)
        self.layer = nn.TransformerEncoderLayer(dim, 2, 16, batch_first=True)
        self.pooler = nn.Linear(dim, dim)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.layer(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        return Output(last_hidden_state=hidden, pooler_output=self.pooler(hidden[:, 0]).tanh())


class BertPair(nn.Module):
    """Text and picture, called by keywords, with the mask read again after the encoder."""

    def __init__(self):
        super().__init__()
        self.bert, self.vit, self.classifier = Bert(), nn.Linear(5, 8), nn.Linear(16, 3)

    def fuse(self, hidden, picture, mask):
        text = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.classifier(torch.cat([text, picture], -1))

    def forward(self, input_ids, attention_mask, pixel_values):
        hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        return Output(loss=None, logits=self.fuse(hidden, self.vit(pixel_values), attention_mask))

    tapped: ClassVar = {"text": "bert:last_hidden_state", "image": "vit"}
    logits = None

    def inputs(self):
        mask = (torch.arange(6) < torch.tensor([[6], [4], [2], [5]])).long()
        ids = torch.randint(1, 20, (4, 6))
        return (), {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(4, 5)}

    def by_hand(self, z, args, kwargs):
        return self.fuse(z["text"], z["image"], kwargs["attention_mask"])


class LstmPair(nn.Module):
    """Two LSTMs, steps first, of which the last hidden state or the outputs go on; one call per half of the video."""

    def __init__(self):
        super().__init__()
        self.text, self.audio = nn.LSTM(4, 5), nn.LSTM(3, 5)
        self.frame, self.out = nn.Linear(6, 5), nn.Linear(15, 3)

    def fuse(self, text, audio, frames):
        return self.out(torch.cat([text[-1], audio.mean(0), torch.stack(frames, 1).amax(1)], -1))

    def forward(self, text, audio, video):
        _, (hidden, _) = self.text(text)
        return self.fuse(hidden, self.audio(audio)[0], [self.frame(each) for each in video.unbind(1)])

    tapped: ClassVar = {"text": "text:1.0", "audio": "audio:0", "video": "frame"}
    logits = None

    def inputs(self):
        return (torch.randn(7, 4, 4), torch.randn(9, 4, 3), torch.randn(4, 2, 6)), {}

    def by_hand(self, z, args, kwargs):
        steps_first = [z[m].transpose(0, 1) for m in ("text", "audio")]
        return self.fuse(*steps_first, list(z["video"].unbind(1)))


@pytest.fixture(params=[ResNetPair, BertPair, LstmPair], ids=lambda each: each.__name__)
def model(request):
    torch.manual_seed(0)
    return request.param().double()


def doubles(model):
    args, kwargs = model.inputs()
    double = [x.double() if x.is_floating_point() else x for x in args]
    return tuple(double), {k: x.double() if x.is_floating_point() else x for k, x in kwargs.items()}


def same(ours: Tensor, theirs: Tensor):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=lambda each: each.attribution)
def test_it_regularizes_as_the_head_written_out_by_hand(model, attributor):
    args, kwargs = doubles(model)
    tap = amr.tap(model.eval(), model.tapped, logits=model.logits)
    model(*args, **kwargs)
    ratio = ":".join(str(i + 1) for i in range(len(tap.z)))
    results = []
    for head in (tap.head, lambda z: model.by_hand(z, args, kwargs)):
        torch.manual_seed(3)  # partners of permutation
        value = AttributionRegularizer(ratio, attributor)(head, tap.z)
        gradients = torch.autograd.grad(value, [*model.parameters()], allow_unused=True)
        results.append((value, gradients))
    (ours, our_gradients), (theirs, their_gradients) = results
    same(ours, theirs)
    assert ours > 0
    trained = [name for (name, _), g in zip(model.named_parameters(), our_gradients, strict=True) if g is not None]
    assert trained
    assert not [name for name in trained if name.startswith(tuple(n.partition(":")[0] for n in model.tapped.values()))]
    for left, right in zip(our_gradients, their_gradients, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            same(left, right)


def test_z_and_the_head_are_those_of_the_forward_pass(model):
    args, kwargs = doubles(model)
    plain = copy.deepcopy(model).eval()
    expected = plain(*args, **kwargs)
    with amr.tap(model.eval(), model.tapped, logits=model.logits) as tap:
        output = model(*args, **kwargs)
        logits = {ResNetPair: lambda o: o[2], BertPair: lambda o: o.logits, LstmPair: lambda o: o}[type(model)]
        assert logits(output).equal(logits(expected))
        assert tap.head(tap.z).equal(logits(output))
        num_clips = len(logits(output))
        assert all(len(z) == num_clips and z.requires_grad for z in tap.z.values())
    with pytest.raises(ValueError, match="must be called after it was tapped"):
        tap.z  # noqa: B018
    model(*args, **kwargs)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_training_with_weight_zero_is_plain_training_to_the_bit(model):
    args, kwargs = doubles(model)
    losses = []
    for weight in (None, 0.0):
        torch.manual_seed(1)
        trained = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        tap = amr.tap(trained, model.tapped, logits=model.logits) if weight is not None else None
        regularizer = AttributionRegularizer(":".join("1" * len(model.tapped)))
        for _ in range(3):
            state = torch.get_rng_state()
            output = trained(*args, **kwargs)
            logits = output[2] if model.logits == 2 else getattr(output, "logits", output)
            loss = logits.logsumexp(-1).sum() - logits[:, 0].sum()
            if tap is not None:
                torch.set_rng_state(state)
                loss = loss + weight * regularizer(tap.head, tap.z)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.set_rng_state(state)
        losses.append([*trained.state_dict().values()])
    for plain, tapped in zip(*losses, strict=True):
        assert plain.equal(tapped)


class Small(nn.Module):
    """Two linear encoders and a head, changed by tests."""

    def __init__(self, change=None):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.unused = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(1, 1)
        self.head, self.change = nn.Linear(12, 3), change

    def forward(self, a, b):
        x, y = self.a(a), self.b(b)
        if self.change == "reads part":
            y = functional.linear(b, self.b.weight)
            y = y + 0 * x
        return self.head(torch.cat([x, y], -1))


def inputs(num_clips=5):
    return torch.randn(num_clips, 4), torch.randn(num_clips, 5)


def test_modules_are_named_or_given_and_wrong_ones_are_refused():
    model = Small()
    assert "b='b'" in repr(amr.tap(model, a=model.a, b="b"))
    for wrong, message in [
        ({"a": "c"}, r"module must be one of a, b, unused, head, got 'c'"),
        ({"a": "haed"}, "Did you mean head"),
        ({}, "at least one modality"),
        ({"a": "a", "b": "a"}, "a module of its own, got a for a and b"),
        ({"a": nn.Linear(1, 1)}, "modules of the model"),
        ({"a": ""}, "the model itself"),
        ({"a": 3}, "names of modules"),
    ]:
        with pytest.raises(ValueError, match=message):
            amr.tap(model, wrong)
    nested = nn.Sequential(nn.Sequential(nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r"apart, got 0\.0 inside of 0"):
        amr.tap(nested, a="0", b="0.0")
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module"):
        amr.tap(lambda x: x, a="a")
    with pytest.raises(ValueError, match="one process per device"):
        amr.tap(nn.DataParallel(model), a="a")


def test_modules_that_the_forward_never_reaches_are_named():
    model = Small()
    tap = amr.tap(model, a="a", b="unused")
    model(*inputs())
    with pytest.raises(ValueError, match="unused must be called by the forward"):
        tap.z  # noqa: B018
    model = Small("reads part")
    tap = amr.tap(model, a="a", b="b")
    model(*inputs())
    assert set(tap.z) == {"a", "b"}  # called, though its output is not used


def test_a_model_that_was_not_called_is_said():
    with pytest.raises(ValueError, match="must be called after it was tapped"):
        amr.tap(Small(), a="a").head({})


def test_outputs_of_several_tensors_must_be_named():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.text, self.b, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(5, 6), nn.Linear(12, 3)

        def forward(self, a, b):
            _, (hidden, _) = self.text(a[:, None])
            return self.out(torch.cat([hidden[0], self.b(b)], -1))

    model = Model()
    tap = amr.tap(model, text="text", b="b")
    model(*inputs())
    with pytest.raises(ValueError, match=r'got 0 \(5, 1, 6\), 1\.0 \(1, 5, 6\), .* "text:0"'):
        tap.z  # noqa: B018
    tap.remove()
    tap = amr.tap(model, text="text:1.2", b="b")
    model(*inputs())
    with pytest.raises(ValueError, match=r"tensor of text must be one of 0, 1\.0, 1\.1, got '1\.2'"):
        tap.z  # noqa: B018
    tap.remove()
    tap = amr.tap(model, text="text:0", b="b")
    model(*inputs())
    with pytest.raises(ValueError, match=r"text must pass one tensor on .* got text:1\.0 beside the tapped one"):
        AttributionRegularizer("1:1")(tap.head, tap.z)


def test_rows_in_another_order_than_clip_by_clip_are_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.frames, self.b, self.out = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(12, 3)

        def forward(self, frames, b):  # (clips, frames, 4), frame by frame
            z = (
                self.frames(frames.transpose(0, 1))
                if self.stacked
                else self.frames(frames.transpose(0, 1).flatten(0, 1))
            )
            return self.out(torch.cat([z.view(frames.shape[1], len(b), 6).mean(0), self.b(b)], -1))

    for num_frames in (2, 3, 5):
        model = Model()
        tap = amr.tap(model, video="frames", b="b")
        clips = torch.randn(5, num_frames, 4), torch.randn(5, 5)
        model.stacked = num_frames == 5  # as many frames as clips: which axis is which cannot be seen
        model(*clips)
        with pytest.raises(ValueError, match=r"rows of a clip next to each other.*torch\.nn\.Identity"):
            tap.head(tap.z)
        if num_frames < 5:
            tap, model.stacked = amr.tap(model, video="frames", b="b"), True
            model(*clips)
            assert tap.z["video"].shape == (5, num_frames, 6)
            assert tap.head(tap.z).equal(model(*clips))


def test_calls_of_other_shapes_and_other_rows_are_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, a, kind):
            if kind == "shapes":
                return self.out(self.a(a) + self.a(a[:, None]).mean(1))
            return self.out(self.a(torch.cat([a, a[:2]]))[: len(a)])

    model = Model()
    tap = amr.tap(model, a="a")
    model(torch.randn(5, 4), "shapes")
    with pytest.raises(ValueError, match="one shape each time"):
        tap.z  # noqa: B018
    model(torch.randn(5, 4), "rows")
    with pytest.raises(ValueError, match="rows of the 5 clips of the batch, got"):
        tap.z  # noqa: B018


def test_another_path_through_the_model_is_refused():
    class Model(nn.Module):
        calls = 2

        def __init__(self):
            super().__init__()
            self.a, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, a):
            return self.out(sum(self.a(a) for _ in range(self.calls)))

    model = Model()
    tap = amr.tap(model, a="a")
    model(torch.randn(5, 4))
    assert tap.z["a"].shape == (5, 2, 6)
    for calls, words in ((1, "fewer calls"), (3, "more calls")):
        model.calls = calls
        with pytest.raises(ValueError, match=words):
            tap.head(tap.z)
    assert "forward" not in vars(model.a)


def test_z_of_other_clips_or_modalities_is_refused():
    model = Small()
    tap = amr.tap(model, a="a", b="b")
    model(*inputs())
    with pytest.raises(ValueError, match=r"z\['a'\] must be \(5, 6\) as in tap.z, got \(4, 6\)"):
        tap.head({**tap.z, "a": torch.zeros(4, 6)})
    with pytest.raises(ValueError, match="z must be of a, b, got a"):
        tap.head({"a": tap.z["a"]})


def test_logits_are_named_where_the_output_is_more():
    class Model(Small):
        def forward(self, a, b):
            return {"scores": super().forward(a, b), "name": "x"}

    for which in ("scores", lambda output: output["scores"]):
        model = Model()
        tap = amr.tap(model, a="a", b="b", logits=which)
        assert tap.head is not None
        output = model(*inputs())
        assert tap.head(tap.z).equal(output["scores"])
    model = Model()
    tap = amr.tap(model, a="a", b="b")
    model(*inputs())  # the forward pass itself works
    with pytest.raises(ValueError, match="Pass logits= with the place"):
        tap.z  # noqa: B018
    with pytest.raises(ValueError, match="must name an output of the model, got 'x'"):
        select_logits({"scores": 0}, "x")


def test_precision_of_the_forward_pass_is_that_of_the_head():
    model = Small()
    tap = amr.tap(model, a="a", b="b")
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*inputs())
    assert logits.dtype == torch.bfloat16
    assert tap.head(tap.z).equal(logits)
    value = AttributionRegularizer("1:1")(tap.head, tap.z)
    value.backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_statistics_of_batch_norm_move_once():
    class Model(Small):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(12)

        def forward(self, a, b):
            return self.head(self.norm(torch.cat([self.a(a), self.b(b)], -1)))

    model = Model().train()
    tap = amr.tap(model, a="a", b="b")
    model(*inputs())
    before = model.norm.running_mean.clone()
    AttributionRegularizer("1:1")(tap.head, tap.z).backward()
    assert model.norm.running_mean.equal(before)
    assert model.norm.num_batches_tracked == 1


def test_copies_of_a_tapped_model_work_and_hold_no_tensors():
    model, clips = Small(), inputs()
    tap = amr.tap(model, a="a", b="b")
    logits = model(*clips)
    assert copy.deepcopy(model)(*clips).equal(logits)
    file = io.BytesIO()
    torch.save(model, file)
    assert file.tell() < 20_000
    file.seek(0)
    assert torch.load(file, weights_only=False)(*clips).equal(logits)
    assert tap.head(tap.z).equal(logits)


def test_activation_checkpoints_and_compiled_models():
    class Model(Small):
        def forward(self, a, b):
            x = torch.utils.checkpoint.checkpoint(self.a, a, use_reentrant=False)
            return self.head(torch.cat([x, self.b(b)], -1))

    model = Model()
    tap = amr.tap(model, a="a", b="b")
    logits = model(*inputs())
    z = tap.z
    (logits.sum() + AttributionRegularizer("1:1")(tap.head, z)).backward()
    assert all(tap.z[m] is z[m] for m in z)

    model = Small()
    expected, clips = copy.deepcopy(model), inputs()
    compiled = torch.compile(model, backend="eager")
    tap = amr.tap(compiled, a="a", b="b")
    assert compiled(*clips).equal(expected(*clips))
    assert tap.head(tap.z).equal(expected(*clips))
    AttributionRegularizer("1:1")(tap.head, tap.z).backward()


def test_a_paused_tap_holds_nothing_and_changes_nothing():
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(2, 4), "out": nn.Linear(8, 3)})
    model.forward = lambda a, b: model["out"](torch.cat([model["a"](a), model["b"](b)], dim=-1))
    tap = amr.tap(model, {"a": "a", "b": "b"})
    inputs = torch.randn(5, 3), torch.randn(5, 2)
    logits = model(*inputs)
    tap.pause()
    for _ in range(2):
        with pytest.raises(ValueError, match="the model must be called after it was tapped"):
            _ = tap.z
        assert torch.equal(model(*inputs), logits)
    tap.resume()
    model(*inputs)
    assert torch.equal(tap.head(tap.z), logits)
