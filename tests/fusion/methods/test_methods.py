"""Requirements that every method must meet."""

import json

import pytest
import torch

from amr.cli import run as amr
from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.fit import fit
from amr.fusion.heads import heads
from amr.fusion.methods import methods
from amr.fusion.train.recipe import Member

from ..conftest import make_clips
from .conftest import HALF, JOINT, assert_same, fit_group, val_accuracy, with_gaps

TABLE = ["unimodal", "naive", "dropout", "modality-dropout", "umt", "ume", "ogm-ge", "ogm", "gradient-blending", "gge"]
SHORT = {"gradient-blending": {"super_epoch": 2}}
APART = [name for name, method in methods.items() if not method.fuses and not method.single_modality]
ANY_HEAD = [name for name in JOINT if methods[name].head is None]
LR = {"ogm": 0.1, "ogm-ge": 0.1, "pmr": 0.1, "mla": 0.1, "reconboost": 0.1, "agm": 0.1, "mmpareto": 0.1}
LR |= {"dnr": 0.1, "inforeg": 0.1}  # SGD


def pair(name, weight=1.0):
    """A run without AMR and one with it, where the method takes a ratio."""
    return [Member(0), Member(1, HALF, weight)] if name in JOINT else [Member(0)]


def is_finite(fitted):
    return all(torch.isfinite(value).all() for value in fitted.model.state_dict().values())


def test_they_are_listed_in_the_order_of_the_table_with_summary_and_citation():
    assert list(methods)[: len(TABLE)] == TABLE
    for _, method in methods.items():
        assert method.summary
        assert method.citation


@pytest.mark.parametrize("name", [*JOINT, *APART])
def test_each_learns_the_classes(name):
    train, val = make_clips(180), make_clips(60, seed=1)
    members = pair(name, 0.3)
    fitted = fit_group(name, members, train, val, SHORT.get(name), epochs=15, lr=LR.get(name, 1e-2))
    assert all(val_accuracy(fitted, run) > 0.8 for run in range(len(members)))
    assert all(torch.isfinite(values).all() for values in fitted.history.values())


@pytest.mark.parametrize("name", [*JOINT, *APART])
def test_a_run_in_a_group_equals_the_same_run_by_itself(name):
    train, val = with_gaps(make_clips()), with_gaps(make_clips(40, seed=1))
    members = [*pair(name), Member(1, HALF, 0.3) if name in JOINT else Member(3)]
    group = fit_group(name, members, train, val, SHORT.get(name))
    for run, member in enumerate(members):
        single = fit_group(name, [member], train, val, SHORT.get(name))
        assert group.best_epoch[run] == single.best_epoch[0]
        assert_same(group.model.run_state(run), single.model.run_state(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("amr_optimizer", ["shared", "separate"])
def test_the_regularizer_never_reaches_adapters(name, amr_optimizer):
    """After one step with a huge amr_weight, adapters equal those trained without it; the head does not."""
    train, none = make_clips(32), make_clips(0)
    settings = {"adapter": "mlp", "hidden": 4, "epochs": 1, "amr_optimizer": amr_optimizer}
    plain = fit_group(name, [Member(0)], train, none, SHORT.get(name), **settings).model.run_state(0)
    pulled = fit_group(name, [Member(0, (0.99, 0.01), 100.0)], train, none, SHORT.get(name), **settings)
    for key, value in pulled.model.run_state(0).items():
        if key.startswith("adapters."):
            assert torch.equal(plain[key], value), key
    assert any(not torch.equal(plain[key], value) for key, value in pulled.model.run_state(0).items())


@pytest.mark.parametrize("head", [name for name, head in heads.items() if head.listed])
@pytest.mark.parametrize("name", ANY_HEAD)
def test_each_trains_every_head_on_three_modalities(name, head):
    dims = {"audio": 5, "text": 4, "video": 3}
    train, val = with_gaps(make_clips(36, dims)), make_clips(20, dims, seed=1)
    pulled = Member(1, (1 / 3, 1 / 3, 1 / 3), 0.5)
    settings = {"head": head, "hidden": 8, "epochs": 2}
    fitted = fit_group(name, [Member(0), pulled], train, val, {"super_epoch": 1} if name in SHORT else None, **settings)
    assert is_finite(fitted)
    assert all(torch.isfinite(values).all() for values in fitted.history.values())


@pytest.mark.parametrize("adapter", ["none", "mlp"])
@pytest.mark.parametrize("name", [*JOINT, *APART])
def test_adapters_of_every_kind(name, adapter):
    if adapter == "none" and methods[name].needs_adapter:
        pytest.skip("it acts on adapters")
    train, val = make_clips(), make_clips(40, seed=1)
    assert is_finite(fit_group(name, [Member(0)], train, val, SHORT.get(name), adapter=adapter))


def extreme(case):
    train, val = make_clips(), make_clips(40, seed=1)
    if case == "a modality that no clip has":
        for clips in (train, val):
            clips.present[:, 1] = False
            clips.embeddings["video"].zero_()
    elif case == "a class that is absent in val":
        val = val.take(val.target != 2)
    elif case == "a class that is absent in train":
        train = train.take(train.target != 2)
    elif case == "no val":
        val = make_clips(0)
    elif case == "one train clip":
        train = train.take(torch.tensor([4]))
    elif case == "constant embeddings":
        train, val = (
            Clips({m: torch.zeros_like(e) for m, e in c.embeddings.items()}, c.present, c.target) for c in (train, val)
        )
    elif case == "one val clip that lacks a modality":
        val = with_gaps(val).take(torch.tensor([0]))
    return train, val


CASES = [
    "a modality that no clip has",
    "a class that is absent in val",
    "a class that is absent in train",
    "no val",
    "one train clip",
    "constant embeddings",
    "one val clip that lacks a modality",
]


REFUSED = {
    ("gradient-blending", "one train clip"): "at least two train clips",
    ("dnr", "no val"): "--method dnr must have val clips",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*JOINT, *APART])
def test_extreme_clips_give_finite_weights_or_a_clear_error(name, case):
    train, val = extreme(case)
    if (name, case) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, case]):
            fit_group(name, pair(name), train, val)
        return
    fitted = fit_group(name, pair(name), train, val, {"super_epoch": 1} if name in SHORT else None, epochs=2)
    assert is_finite(fitted)
    assert torch.isfinite(fitted.history["train_loss"]).all()


def test_embeddings_with_steps():
    clips = make_clips(40)
    steps = torch.randn(40, 4, 8, generator=torch.Generator().manual_seed(0))
    steps[:20, 2:] = 0  # padding
    clips = Clips({"audio": steps, "video": clips.embeddings["video"]}, clips.present, clips.target)
    for name in ANY_HEAD:
        fitted = fit_group(
            name, [Member(0, HALF, 1.0)], clips, clips, SHORT.get(name), head="attention", hidden=8, epochs=1
        )
        assert is_finite(fitted), name


@pytest.mark.parametrize("name", [name for name in (*JOINT, *APART) if not methods[name].needs_encoders])
def test_each_runs_through_fit(small_cache, name):
    ratio = "1:1" if methods[name].fuses else None
    options = ("super_epoch=2",) if name in SHORT else ()
    config = FitConfig(
        cache=str(small_cache),
        epochs=8,
        method=name,
        amr_ratio=ratio,
        adapter="linear",
        adapter_dim=8,
        lr=LR.get(name, 1e-2),
        method_option=options,
        device="cpu",
    )
    result = fit(config)
    assert result.test["accuracy"] > 0.6
    assert (result.run / "history.csv").is_file()


@pytest.mark.parametrize("name", [name for name in methods if methods[name].needs_encoders])
def test_methods_on_encoders_name_the_command_that_trains_them(small_cache, name):
    with pytest.raises(ValueError, match=f"amr train-encoders --objective joint --method {name}, or choose another"):
        fit(FitConfig(cache=str(small_cache), method=name, adapter="linear", device="cpu"))


def test_the_list_says_which_methods_train_encoders_only(capsys):
    only = {name for name, method in methods.items() if method.needs_encoders}
    assert only == {"dnr", "inforeg"}
    assert amr(["methods"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "(trains encoders only)" in line]
    assert {row.split()[0] for row in rows} == only
    assert amr(["methods", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out) if row["needs_encoders"]} == only


@pytest.mark.parametrize("name", [name for name in TABLE if methods[name].needs_adapter])
def test_methods_on_adapters_refuse_to_run_without(small_cache, name):
    with pytest.raises(ValueError, match=f"--adapter must be linear or mlp for --method {name}"):
        fit(FitConfig(cache=str(small_cache), method=name, device="cpu"))


@pytest.mark.parametrize(("name", "modalities"), [("unimodal", "audio"), *((name, None) for name in APART)])
def test_methods_without_fusion_refuse_a_ratio(small_cache, name, modalities):
    with pytest.raises(ValueError, match="--amr-ratio must be left out"):
        fit(FitConfig(cache=str(small_cache), method=name, modalities=modalities, amr_ratio="1:1", device="cpu"))


@pytest.mark.parametrize("option", ["p=1.5", "p=often"])
def test_options_out_of_range_are_refused(small_cache, option):
    with pytest.raises(ValueError, match="--method-option p must be"):
        fit(FitConfig(cache=str(small_cache), method="modality-dropout", method_option=(option,), device="cpu"))
