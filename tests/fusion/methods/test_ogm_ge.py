import math
from dataclasses import replace

import pytest
import torch

from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.methods import methods
from amr.fusion.methods.ogm_ge import OGMOptions
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, SEEDS, assert_same, batch_of, build, fit_group, gradients, layers, with_gaps

THREE = {"audio": 8, "text": 4, "video": 6}


def slow_coefficients(model, batch, run, alpha):
    """Coefficients of the paper for a linear concat head, out_m = W_m z_m + b / M, one clip at a time."""
    modules, names = layers(model, run), list(model.modalities)
    score = {}
    for i, m in enumerate(names):
        columns = slice(5 * i, 5 * i + 5)
        p_target = []
        for clip in range(batch.target.shape[1]):
            if batch.present[run, clip, i]:
                z = modules[m](batch.embeddings[m][run, clip])
                out = modules["classifier"].weight[:, columns] @ z + modules["classifier"].bias / len(names)
                p_target.append(out.softmax(-1)[batch.target[run, clip]].item())
        score[m] = sum(p_target) / len(p_target) if p_target else None
    result = {}
    for m in names:
        others = [s for n, s in score.items() if n != m and s is not None]
        rho = score[m] / (sum(others) / len(others)) if others and score[m] is not None else 1.0
        result[m] = 1 - math.tanh(alpha * rho) if rho > 1 else 1.0
    return result


@pytest.mark.parametrize("dims", [None, THREE])
@pytest.mark.parametrize("gaps", [False, True])
def test_gradients_are_scaled_by_the_coefficients_of_the_paper(dims, gaps):
    clips = make_clips(30, dims)
    clips = with_gaps(clips) if gaps else clips
    method, model = build("ogm", clips, options={"alpha": 0.8})
    naive, _ = build("naive", clips)
    batch = batch_of(clips)
    method.begin_epoch(1)
    loss, plain = gradients(method, model, batch)
    torch.testing.assert_close(loss, gradients(naive, model, batch)[0])
    adjusted = method.adjust(plain)
    for run in range(len(SEEDS)):
        expected = slow_coefficients(model, batch, run, 0.8)
        assert min(expected.values()) < 0.5  # the coefficient of the leading modality
        assert max(expected.values()) == 1
        for name, g in plain.items():
            k = expected[name.split(".")[1]] if name.startswith("adapters.") else 1.0
            torch.testing.assert_close(adjusted[name][run], k * g[run], rtol=1e-5, atol=1e-8)


def test_sums_over_the_batch_give_the_same_coefficients_if_all_is_present():
    clips = make_clips(30)
    method, model = build("ogm", clips)
    batch = batch_of(clips)
    method.begin_epoch(1)
    gradients(method, model, batch)
    for run in range(len(SEEDS)):
        modules, sums = layers(model, run), []
        for i, m in enumerate(("audio", "video")):
            out = modules[m](batch.embeddings[m][run]) @ modules["classifier"].weight[:, 5 * i : 5 * i + 5].T
            p = (out + modules["classifier"].bias / 2).softmax(-1)
            sums.append(sum(p[clip, y].item() for clip, y in enumerate(batch.target[run].tolist())))
        rho = sums[0] / sums[1]
        expected = [1 - math.tanh(0.8 * r) if r > 1 else 1.0 for r in (rho, 1 / rho)]
        torch.testing.assert_close(method.coefficients[:, run].tolist(), expected, rtol=1e-5, atol=1e-6)


def test_the_noise_has_mean_zero_and_the_gradient_s_deviation():
    clips = make_clips(30)
    quiet, model = build("ogm", clips)
    noisy, _ = build("ogm-ge", clips)
    batch = batch_of(clips)
    quiet.begin_epoch(1)
    noisy.begin_epoch(1)
    _, plain = gradients(quiet, model, batch)
    gradients(noisy, model, batch)
    scaled = quiet.adjust(plain)
    draws = [noisy.adjust(plain) for _ in range(3000)]
    for name, g in plain.items():
        noise = torch.stack([draw[name] - scaled[name] for draw in draws])  # (draw, run, ...)
        if not name.startswith("adapters."):
            assert not noise.any()
            continue
        for run in range(len(SEEDS)):
            std = float(g[run].std())  # before scaling
            run_noise = noise[:, run]
            assert float(run_noise.std()) == pytest.approx(std, rel=0.03)
            assert float(run_noise.mean(0).abs().max()) < 5 * std / 3000**0.5
            torch.testing.assert_close(run_noise.std(0), torch.full_like(g[run], std), rtol=0.1, atol=0)


def test_a_single_element_gets_no_noise():
    clips = make_clips(30)
    method, _ = build("ogm-ge", clips)
    method.begin_epoch(1)
    method.coefficients = torch.ones(2, len(SEEDS))
    single = {"adapters.audio.bias": torch.tensor([[3.0], [4.0]])}
    assert torch.equal(method.adjust(single)["adapters.audio.bias"], single["adapters.audio.bias"])


def test_of_an_encoder_with_kernels_nothing_else_is_scaled_or_perturbed():
    clips = make_clips(30)
    method, _ = build("ogm-ge", clips)
    method.begin_epoch(1)
    method.coefficients = torch.full((2, len(SEEDS)), 0.5)
    shapes = {"adapters.audio.kernel": (4, 2, 3, 3), "adapters.audio.norm": (4,), "adapters.video.weight": (4, 6)}
    plain = {name: torch.randn(len(SEEDS), *shape) for name, shape in shapes.items()}
    adjusted = method.adjust(plain)
    kept = [name for name, g in plain.items() if torch.equal(adjusted[name], g)]
    assert kept == ["adapters.audio.norm"]


@pytest.mark.parametrize("name", ["ogm", "ogm-ge"])
@pytest.mark.parametrize("ratio", [None, HALF])
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"start_epoch": 5, "end_epoch": 9}, {"end_epoch": 1}])
def test_alpha_zero_and_epochs_outside_are_naive_training_bit_for_bit(name, ratio, options):
    train, val = make_clips(), make_clips(40, seed=1)
    members = [Member(0, ratio, 1.0), Member(0, ratio, 0.5), Member(3, ratio, 1.0)]
    plain = fit_group("naive", members, train, val, optimizer="sgd")
    control = fit_group(name, members, train, val, options)
    assert_same(plain.model.state_dict(), control.model.state_dict())
    assert float(control.history["coefficient_audio"].min()) == 1


def test_it_acts_from_start_epoch_until_before_end_epoch():
    train, val = make_clips(), make_clips(40, seed=1)
    fitted = fit_group("ogm", [Member(0)], train, val, {"start_epoch": 2, "end_epoch": 4}, epochs=5, lr=1e-3)
    scaled_down = fitted.history["coefficient_audio"][:, 0] < 1
    assert scaled_down.tolist() == [False, True, True, False, False]


def test_a_modality_that_no_clip_has_is_not_compared():
    clips = with_gaps(make_clips(30))
    clips.present[:, 1] = False
    clips.embeddings["video"].zero_()
    method, model = build("ogm", clips)
    method.begin_epoch(1)
    gradients(method, model, batch_of(clips))
    assert torch.equal(method.coefficients, torch.ones(2, len(SEEDS)))


def test_a_run_with_adamw_notes_that_it_undoes_the_method(small_cache):
    config = FitConfig(cache=str(small_cache), method="ogm", adapter="linear", epochs=1, device="cpu")
    assert fit(config).record.notes == ()
    notes = fit(replace(config, optimizer="adamw")).record.notes
    assert len(notes) == 1
    assert "use sgd" in notes[0]


def test_other_optimizers_get_a_note():
    for name in ("ogm", "ogm-ge"):
        assert methods[name].optimizer == "sgd"
        assert methods[name].notes(OGMOptions(), "sgd", 10, ["audio", "video"]) == []
        assert "adamw" in methods[name].notes(OGMOptions(), "adamw", 10, ["audio", "video"])[0]
        assert methods[name].needs_adapter


@pytest.mark.parametrize("alpha", [-0.1, float("inf"), float("nan")])
def test_a_negative_or_infinite_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number, 0 or more"):
        OGMOptions(alpha)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (0, 5, r"start_epoch must be 1 or more, got 0\. Pass start_epoch=1\."),
        (5, 4, r"end_epoch must be start_epoch or more, got 4 with start_epoch=5\. Pass end_epoch=55, or"),
    ],
)
def test_epochs_that_are_no_interval_are_refused(start, end, message):
    with pytest.raises(ValueError, match=message):
        OGMOptions(start_epoch=start, end_epoch=end)
