from __future__ import annotations

import copy
import os
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.compile import from_compiled
from torch import Tensor, nn

import amr
from amr.fusion.loops import lightning as loops

MODULES = {"audio": "audio_net", "video": "visual_net"}
RATIO, WEIGHT = "audio=1:video=4", 0.7


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio_net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.visual_net = nn.Linear(4, 6)
        self.fusion = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.fusion(torch.cat([self.audio_net(audio), self.visual_net(video)], dim=-1))


class Classifier(lightning.LightningModule):
    """A module that calls itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        net = Net()
        self.audio_net, self.visual_net, self.fusion = net.audio_net, net.visual_net, net.fusion
        self.val_logits: list[Tensor] = []

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return Net.forward(self, audio, video)  # type: ignore[arg-type]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self(*batch[:2]), batch[2])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.val_logits.append(self(*batch[:2]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class ByHand(Classifier):
    """The same with R in its own training step."""

    def on_fit_start(self) -> None:
        self.tap = amr.tap(self, **MODULES)
        self.regularizer = amr.AttributionRegularizer(RATIO)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss + WEIGHT * self.regularizer(self.tap.head, self.tap.z)

    def on_fit_end(self) -> None:
        self.tap.remove()


class Inner(Classifier):
    """A module that calls a part of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.net.load_state_dict({name: v for name, v in self.state_dict().items() if not name.startswith("net.")})
        del self.audio_net, self.visual_net, self.fusion

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.net(audio, video)


def loader(num_clips: int = 24) -> torch.utils.data.DataLoader:
    draws = torch.Generator().manual_seed(1)
    target = torch.arange(num_clips) % 3
    audio, video = (torch.randn(num_clips, n, generator=draws) + nn.functional.one_hot(target, n) for n in (5, 4))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(audio, video, target), batch_size=8)


def callback(**changes: Any) -> amr.LightningAMR:
    return amr.LightningAMR(MODULES, RATIO, **{"weight": WEIGHT, **changes})


def fit(module: Classifier, *callbacks: Any, ckpt_path: str | None = None, **settings: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    defaults = {"max_epochs": 2, "enable_checkpointing": False, "devices": 1, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(**{**quiet, **defaults, **settings}, callbacks=list(callbacks))
    torch.manual_seed(2)
    trainer.fit(module, loader(), loader(8), ckpt_path=ckpt_path)
    return trainer


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}, {"precision": "bf16-mixed"}], ids=str
)
def test_it_trains_as_a_training_step_with_r_written_out(settings):
    module, by_hand, plain = Classifier(), ByHand(), Classifier()
    trainer = fit(module, callback(), **settings)
    fit(by_hand, **settings)
    fit(plain, **settings)
    assert_same(module, by_hand)
    assert not torch.equal(module.fusion[0].weight, plain.fusion[0].weight)
    logged = trainer.callback_metrics
    exact = 1e-6 if "precision" not in settings else 0.01
    assert logged["amr/share_audio"] + logged["amr/share_video"] == pytest.approx(1, abs=exact)
    distance = abs(logged["amr/share_audio"] - 0.2) + abs(logged["amr/share_video"] - 0.8)
    assert logged["amr/regularization"] == pytest.approx(float(distance), abs=exact)
    for one, other in zip(module.val_logits, by_hand.val_logits, strict=True):
        assert torch.equal(one, other)


def test_in_a_process_group_and_for_a_part_of_the_module(monkeypatch):
    by_hand, distributed, inner = ByHand(), Classifier(), Inner()
    fit(by_hand)
    monkeypatch.setattr(os, "environ", {**os.environ})  # the group's address stays here
    try:
        group = {"strategy": DDPStrategy(process_group_backend="gloo"), "use_distributed_sampler": False}  # no shuffle
        fit(distributed, callback(), **group)
    finally:
        torch.distributed.destroy_process_group()
    assert_same(distributed, by_hand)
    fit(inner, callback(model="net"))
    assert_same(inner.net, by_hand)


def test_without_weight_it_does_nothing():
    module, plain = Classifier(), Classifier()
    trainer = fit(module, callback(weight=0))
    fit(plain)
    assert_same(module, plain)
    assert not [name for name in trainer.callback_metrics if name.startswith("amr")]


def test_the_module_is_restored_after_a_fit_and_after_one_that_failed():
    class Fails(Classifier):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("stop")

    for module in (Classifier(), Fails()):
        step, amr_callback = module.training_step, callback()
        hooks = [len(each._forward_hooks) for each in module.modules()]
        if isinstance(module, Fails):
            with pytest.raises(RuntimeError, match="stop"):
                fit(module, amr_callback)
        else:
            fit(module, amr_callback)
        assert "training_step" not in vars(module)
        assert module.training_step == step
        assert [len(each._forward_hooks) for each in module.modules()] == hooks
        copy.deepcopy(amr_callback)


def test_an_interrupted_fit_resumes_from_its_checkpoint(tmp_path):
    class NoDropout(Classifier):  # whose draws Lightning does not save
        def __init__(self) -> None:
            super().__init__()
            self.fusion[2].p = 0.0

    whole, first, resumed = NoDropout(), NoDropout(), NoDropout()
    fit(whole, callback(), max_epochs=3)
    trainer = fit(first, callback(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert set(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]) == set(whole.state_dict())
    fit(resumed, callback(), max_epochs=3, ckpt_path=str(tmp_path / "a.ckpt"))
    assert_same(resumed, whole)


def test_outputs_with_further_entries_and_steps_without_a_loss():
    class Named(Classifier):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            return {"loss": super().training_step(batch, batch_idx), "batch": batch_idx} if batch_idx else None

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert outputs.get("batch", 0) == batch_idx

    class ByHandNamed(ByHand):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            if batch_idx == 0:
                return None
            return super().training_step(batch, batch_idx)

    module, by_hand = Named(), ByHandNamed()
    fit(module, callback())
    fit(by_hand)
    assert_same(module, by_hand)


def test_a_step_that_does_not_call_the_model_is_refused():
    class Elsewhere(Classifier):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return Net.forward(self, *batch[:2]).square().mean()  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="the model must be called after it was tapped"):
        fit(Elsewhere(), callback())


WRONG = [
    ({"modules": {"audio": "audio_ne", "video": "visual_net"}}, "module must be one of .* Did you mean audio_net?"),
    ({"model": "nett"}, "model must be one of audio_net, visual_net, fusion, got 'nett'"),
    ({"ratio": "1:1:1"}, "ratio must have one part for each of audio, video, got 3 parts"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_does_not_fit_the_module_is_refused(changes, message):
    wrong = amr.LightningAMR(**{"modules": MODULES, "ratio": RATIO, **changes})
    with pytest.raises(ValueError, match=message):
        fit(Classifier(), wrong)


def test_what_it_cannot_regularize_is_refused(monkeypatch):
    module = Classifier()
    module.automatic_optimization = False
    with pytest.raises(ValueError, match="automatic_optimization must be True for LightningAMR, got False"):
        fit(module, callback())
    sharded = SimpleNamespace(strategy=type("FSDPStrategy", (), {})())
    with pytest.raises(ValueError, match=r"strategy must keep the whole model in each process .* got FSDPStrategy"):
        callback().setup(sharded, Classifier(), "fit")
    trainer = SimpleNamespace(strategy=None)
    with pytest.raises(ValueError, match=r"must not be compiled as a whole .* Compile its encoders"):
        callback().setup(trainer, from_compiled(torch.compile(Classifier())), "fit")
    with pytest.raises(ValueError, match="weight must be 0 or more, got -1"):
        callback(weight=-1)
    monkeypatch.setattr(loops, "_Callback", object)
    with pytest.raises(ImportError, match=r"pip install 'amr-fusion\[lightning\]'"):
        callback()


def test_the_weight_is_the_attributions_own():
    assert amr.LightningAMR(MODULES, "1:1").weight == 1
    by_permutation = amr.Attributor(attribution="permutation")
    assert amr.LightningAMR(MODULES, {"audio": 1, "video": 2}, attributor=by_permutation).weight == 0.3
