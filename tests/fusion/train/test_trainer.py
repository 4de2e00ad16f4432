import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import regularization
from amr.fusion.attribution.share import mean_share
from amr.fusion.data.clips import Clips
from amr.fusion.model import FusionModel, predict_logits, predict_shares
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.measure import measure
from amr.fusion.train.hooks import EndToEndHooks
from amr.fusion.train.recipe import Member
from amr.fusion.train.trainer import train_group

from ..conftest import make_clips, make_recipe

HALF = (0.5, 0.5)
PERMUTATION = Attributor(attribution="permutation")


def weights(fitted, run=0):
    return fitted.model.run_state(run)


def assert_same(left, right, **tolerance):
    assert left.keys() == right.keys()
    for name in left:
        if tolerance:
            torch.testing.assert_close(left[name], right[name], **tolerance)
        else:
            assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("adapter", ["none", "linear", "mlp"])
@pytest.mark.parametrize("amr_optimizer", ["shared", "separate"])
def test_a_member_of_a_group_is_what_it_is_alone(hidden, adapter, amr_optimizer):
    train, val = make_clips(), make_clips(40, seed=1)
    recipe = make_recipe(train, hidden=hidden, adapter=adapter, amr_optimizer=amr_optimizer)
    members = [Member(0, HALF, 1.0), Member(3, HALF, 1.0), Member(3, (0.9, 0.1), 1.0)]
    if amr_optimizer == "shared":
        members += [Member(0), Member(0, HALF, 0.0), Member(3, HALF, 0.3)]
    group = train_group(recipe, members, train, val)
    for run, member in enumerate(members):
        alone = train_group(recipe, [member], train, val)
        assert group.best_epoch[run] == alone.best_epoch[0]
        assert_same(weights(group, run), weights(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["concat", "gated"])
@pytest.mark.parametrize(
    "changes",
    [
        {"attributor": PERMUTATION},
        {"attributor": PERMUTATION, "hidden": 7, "adapter": "linear"},
        {"amr_level": "clip"},
        {"embedding_noise": (2.0, 0.5)},
    ],
)
def test_draws_and_levels_are_the_same_in_a_group(head, changes):
    train, val = make_clips(), make_clips(40, seed=1)
    recipe = make_recipe(train, **({"head": head, "hidden": 4 if head == "gated" else 0} | changes))
    members = [Member(0, HALF, 1.0), Member(0, (0.9, 0.1), 0.3), Member(3, HALF, 1.0), Member(3)]
    group = train_group(recipe, members, train, val)
    for run, member in enumerate(members):
        alone = train_group(recipe, [member], train, val)
        assert group.best_epoch[run] == alone.best_epoch[0]
        assert_same(weights(group, run), weights(alone), rtol=1e-4, atol=1e-5)


def test_permutation_moves_what_the_head_uses():
    train, val = make_clips(300), make_clips(90, seed=1)
    recipe = make_recipe(train, attributor=PERMUTATION, epochs=20)
    fitted = train_group(recipe, [Member(0), Member(0, (0.1, 0.9), 1.0), Member(0, (0.9, 0.1), 1.0)], train, val)
    plain, to_video, to_audio = (
        result["perceptual"]["audio"] - result["perceptual"]["video"]
        for result in measure(fitted.model, val, PERMUTATION)
    )
    assert to_video < plain - 0.1
    assert to_audio > plain + 0.1


def test_amr_of_one_clip_balances_each_decision():
    train, val = make_clips(300), make_clips(90, seed=1)
    runs = {}
    for level in ("batch", "clip"):
        fitted = train_group(make_recipe(train, amr_level=level, epochs=20), [Member(0, HALF, 3.0)], train, val)
        (runs[level],) = measure(fitted.model, val, Attributor())
    assert runs["clip"]["share_spread"]["audio"] < 0.9 * runs["batch"]["share_spread"]["audio"]
    assert runs["clip"]["one_sided"] < runs["batch"]["one_sided"]


def test_noise_of_zero_is_plain_training_bit_for_bit_and_other_noise_is_not():
    train, val = make_clips(), make_clips(40, seed=1)
    plain, zero, some = (
        train_group(make_recipe(train, embedding_noise=amounts), [Member(0)], train, val)
        for amounts in ((), (0.0, 0.0), (0.0, 1.0))
    )
    assert_same(weights(plain), weights(zero))
    assert not torch.allclose(weights(plain)["head.classifier.weight"], weights(some)["head.classifier.weight"])


def test_weight_zero_is_plain_training_bit_for_bit():
    train, val = make_clips(), make_clips(40, seed=1)
    recipe = make_recipe(train, hidden=7)
    plain = train_group(recipe, [Member(0)], train, val)
    weighed = train_group(recipe, [Member(0, HALF, 0.0)], train, val)
    assert_same(weights(plain), weights(weighed))
    # beside a run that is pulled, too: 0 * R adds zeros (batched products round by their place in the batch)
    mixed = train_group(recipe, [Member(0, HALF, 0.0), Member(0, HALF, 5.0)], train, val)
    assert_same(weights(plain), weights(mixed), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights(plain)["head.classifier.weight"], weights(mixed, 1)["head.classifier.weight"])


def test_training_is_the_loop_that_anyone_would_write():
    """Literal second implementation: nn.Linear, double backward, one clip's formula at a time."""
    train, none = make_clips(), make_clips(0)
    recipe = make_recipe(train, epochs=3)
    ours = train_group(recipe, [Member(5, (0.7, 0.3), 0.8)], train, none)
    first = FusionModel(recipe.shape, [5]).run_state(0)
    layer = torch.nn.Linear(14, 3)
    layer.load_state_dict({"weight": first["head.classifier.weight"], "bias": first["head.classifier.bias"]})
    optimizer = torch.optim.AdamW(layer.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    shuffles = generator(5, "batches")
    joined = torch.cat(list(train.embeddings.values()), -1)
    for _ in range(3):
        for rows in torch.randperm(len(train), generator=shuffles).split(recipe.batch_size):
            x = joined[rows].requires_grad_()
            logits = layer(x)
            loss = torch.nn.functional.cross_entropy(logits, train.target[rows])
            log_odds = []
            for f in logits:
                c = int(f.argmax())
                log_odds.append(f[c] - torch.cat([f[:c], f[c + 1 :]]).logsumexp(0))
            alpha = torch.autograd.grad(torch.stack(log_odds).sum(), x, create_graph=True)[0] * x
            audio, video = alpha[:, :8].norm(dim=-1), alpha[:, 8:].norm(dim=-1)
            share = (audio / (audio + video)).mean()
            distance = (share - 0.7).abs() + (1 - share - 0.3).abs()
            optimizer.zero_grad()
            (loss + 0.8 * distance).backward()
            optimizer.step()
    torch.testing.assert_close(weights(ours)["head.classifier.weight"], layer.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights(ours)["head.classifier.bias"], layer.bias.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("amr_optimizer", ["shared", "separate"])
def test_the_regularizer_never_reaches_adapters(amr_optimizer):
    """One step with a huge R: adapters end where plain training takes them, the head does not."""
    train, none = make_clips(32), make_clips(0)
    recipe = make_recipe(train, adapter="mlp", hidden=4, amr_optimizer=amr_optimizer, epochs=1)
    plain = weights(train_group(recipe, [Member(0)], train, none))
    pulled = weights(train_group(recipe, [Member(0, (0.99, 0.01), 100.0)], train, none))
    for name in plain:
        if name.startswith("adapters."):
            assert torch.equal(plain[name], pulled[name]), name
    assert not torch.equal(plain["head.classifier.weight"], pulled["head.classifier.weight"])


def test_a_separate_optimizer_of_weight_zero_is_not_built():
    train, val = make_clips(), make_clips(30, seed=1)
    plain = train_group(make_recipe(train), [Member(0)], train, val)
    separate = train_group(make_recipe(train, amr_optimizer="separate"), [Member(0, HALF, 0.0)], train, val)
    assert_same(weights(plain), weights(separate))


@pytest.mark.parametrize("output", ["probability", "logit", "centered"])
@pytest.mark.parametrize("ratio", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.8), (1.0, 0.0)])
def test_shares_come_to_the_ratio_under_the_output_that_is_regularized(output, ratio):
    train, val = make_clips(300), make_clips(100, seed=1)
    recipe = make_recipe(train, output=output, epochs=40, select="last")
    fitted = train_group(recipe, [Member(0, ratio, 2.0)], train, val)
    _, share, counted = predict_shares(fitted.model, train, Attributor(output))
    assert abs(float(mean_share(share, counted)[0, 0]) - ratio[0]) < (0.08 if ratio[0] == 1 else 0.03)


def test_equal_modalities_get_equal_shares_at_one_to_one():
    clips = make_clips(90, {"audio": 6})
    twins = Clips(
        {"audio": clips.embeddings["audio"], "video": clips.embeddings["audio"]},
        torch.ones(90, 2, dtype=torch.bool),
        clips.target,
    )
    fitted = train_group(make_recipe(twins, epochs=60, select="last"), [Member(0, HALF, 1.0)], twins, twins)
    _, share, counted = predict_shares(fitted.model, twins, Attributor())
    torch.testing.assert_close(mean_share(share, counted)[0], torch.tensor(HALF), atol=0.02, rtol=0)


def test_the_kept_epoch_is_the_best_by_accuracy_less_the_regularizer():
    train, val = make_clips(seed=2), make_clips(45, seed=3)
    recipe = make_recipe(train, epochs=12, lr=0.05)
    for member in (Member(0), Member(0, (0.2, 0.8), 0.7)):
        fitted = train_group(recipe, [member], train, val)
        history = {name: values[:, 0] for name, values in fitted.history.items()}
        score = history["val_accuracy"] - member.amr_weight * history["val_regularization"]
        best = int(fitted.best_epoch[0]) - 1
        assert score[best] == score.max()
        ties = (score == score.max()).nonzero().flatten()
        assert history["val_loss"][best] == history["val_loss"][ties].min()
        logits, share, counted = predict_shares(fitted.model, val, recipe.attributor)
        assert float((logits.argmax(-1)[0] == val.target).float().mean()) == history["val_accuracy"][best]
        if member.ratio is not None:
            expected = regularization(share, counted, torch.tensor(member.ratio))
            torch.testing.assert_close(expected[0], history["val_regularization"][best])


def test_a_modality_that_is_never_there_changes_nothing_and_makes_no_nan():
    clips = make_clips()
    alone = Clips({"audio": clips.embeddings["audio"]}, clips.present[:, :1], clips.target)
    padded = Clips(
        {"audio": clips.embeddings["audio"], "video": torch.zeros(90, 6)},
        torch.tensor([True, False]).expand(90, 2),
        clips.target,
    )
    recipe = make_recipe(padded, adapter="linear")
    fitted = train_group(recipe, [Member(0, HALF, 1.0)], padded, padded)
    assert all(torch.isfinite(value).all() for value in weights(fitted).values())
    assert float(fitted.history["regularization"].max()) == 0
    assert alone.target is clips.target


def test_divergence_is_marked_and_leaves_no_nan():
    train = make_clips()
    fitted = train_group(make_recipe(train, optimizer="sgd", lr=1e30), [Member(0), Member(1)], train, train)
    assert fitted.diverged.all()
    assert all(torch.isfinite(value).all() for value in weights(fitted).values())
    assert len(fitted.history["train_loss"]) == 1


def test_chunks_change_nothing(monkeypatch):
    train = make_clips()
    fitted = train_group(make_recipe(train, hidden=3), [Member(0), Member(1)], train, train)
    whole = predict_logits(fitted.model, train)
    monkeypatch.setattr("amr.fusion.data.clips.CHUNK_NUMBERS", 14 * 2 * 7)
    torch.testing.assert_close(predict_logits(fitted.model, train), whole)


class KeepAt:
    """Keeps the state of one epoch, as a file would, and hands back what it is given."""

    def __init__(self, at: int = 0, state: Any = None) -> None:
        self.at, self.state, self.lasts = at, state, []

    def resume(self):
        return self.state

    def epoch(self, epoch_values, state, *, last, val_logits):
        self.lasts.append(last)
        if len(self.lasts) == self.at:
            file = io.BytesIO()
            torch.save(state(), file)
            self.kept = torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("naive", {"amr_optimizer": "separate"}),
        ("ogm-ge", {"adapter": "linear", "optimizer": "sgd", "lr_step": (2, 0.1)}),
        ("modality-dropout", {}),
        ("umt", {"adapter": "linear"}),
        ("naive", {"attributor": PERMUTATION, "embedding_noise": (1.0, 0.5)}),
    ],
)
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_training_that_is_taken_up_again_ends_where_the_whole_one_does(method, changes, at):
    train, val = make_clips(), make_clips(40, seed=1)
    recipe = make_recipe(train, method=method, epochs=5, **changes)
    members = [Member(0, HALF, 1.0), Member(3, HALF, 1.0)]
    whole = train_group(recipe, members, train, val, hooks=EndToEndHooks(callback=(callback := KeepAt(at))))
    again = train_group(
        recipe, members, train, val, hooks=EndToEndHooks(callback=(rest := KeepAt(state=callback.kept)))
    )
    assert (callback.lasts, rest.lasts) == ([False] * 4 + [True], callback.lasts[at:])
    for run in range(2):
        assert_same(weights(whole, run), weights(again, run))
    assert torch.equal(whole.best_epoch, again.best_epoch)
    for name, values in whole.history.items():
        assert torch.equal(values, again.history[name]), name


@pytest.mark.parametrize("select", ["accuracy", "loss"])
def test_patience_ends_a_training_when_no_run_gets_better(select):
    train, val = make_clips(), make_clips(40, seed=1)
    recipe = make_recipe(train, epochs=60, lr=0.1, select=select)
    members = [Member(0), Member(1)]
    whole = train_group(recipe, members, train, val)
    callback = KeepAt()
    short = train_group(replace(recipe, patience=4), members, train, val, hooks=EndToEndHooks(callback=callback))
    num_epochs = len(short.history["val_loss"])
    assert num_epochs == int(short.best_epoch.max()) + 4 < 60
    assert callback.lasts == [False] * (num_epochs - 1) + [True]
    for name, values in short.history.items():
        assert torch.equal(values, whole.history[name][:num_epochs]), name
    unchosen = train_group(replace(recipe, patience=4, select="last", epochs=7), members, train, val)
    assert len(unchosen.history["val_loss"]) == 7
