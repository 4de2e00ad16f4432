"""A run of a sweep equals that of `amr fit` with the same settings, for every head and every method."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amr.extract.config import ImportConfig
from amr.extract.import_embeddings import import_embeddings
from amr.fusion.config import FitConfig
from amr.fusion.fit import fit
from amr.fusion.heads import heads
from amr.fusion.methods import methods
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

HEADS = [name for name in heads if heads[name].listed]
METHODS = [name for name in methods if not methods[name].needs_encoders]
ANY_HEAD = [name for name in METHODS if methods[name].head is None]
# Each head with naive training and its part of the methods; one with a head of its own ignores --head.
OF_HEAD = {head: ["naive", *ANY_HEAD[i :: len(HEADS)]] for i, head in enumerate(HEADS)}
OF_HEAD[HEADS[0]] += [name for name in METHODS if methods[name].head is not None]
COMBINED = [(head, method) for head, names in OF_HEAD.items() for method in dict.fromkeys(names)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Settings that all sweeps share, and a function of a head: the folder of the runs of its sweep.

    A sweep has two ratios and two seeds.
    """
    folder = tmp_path_factory.mktemp("members")
    rng = np.random.default_rng(0)
    target = np.arange(48) % 3
    for name in ("audio", "video"):
        np.save(folder / f"{name}.npy", (rng.normal(size=(3, 6))[target] + rng.normal(size=(48, 6))).astype(np.float32))
    np.savetxt(folder / "labels.txt", target, fmt="%d")
    import_embeddings(
        ImportConfig(
            embeddings=tuple(f"{m}={folder / m}.npy" for m in ("audio", "video")),
            labels=str(folder / "labels.txt"),
            splits="train=32,val=8,test=8",
            out=str(folder / "cache.h5"),
        )
    )
    fixed = {"cache": str(folder / "cache.h5"), "epochs": 2, "batch_size": 12, "adapter": "linear", "adapter_dim": 4}
    # SGD, because Adam scales up the rounding in gradients that are 0, such as that of an attention key's bias
    fixed |= {"hidden": 4, "optimizer": "sgd", "lr": 0.05, "device": "cpu"}

    @cache
    def runs_of(head):
        names = {"head": head, "method": ",".join(dict.fromkeys(OF_HEAD[head])), "amr_ratio": "1:1,3:1"}
        return sweep(SweepConfig.parse(seeds=2, swept=names, **fixed, out=str(folder / head))).folder / "runs"

    return fixed, runs_of


@pytest.mark.parametrize(("head", "method"), COMBINED)
def test_a_run_of_a_sweep_equals_that_of_amr_fit(swept, tmp_path, head, method):
    fixed, runs_of = swept
    kind = methods[method]
    config = FitConfig(
        **fixed,
        head=head,
        method=method,
        modalities="audio" if kind.single_modality else None,
        amr_ratio="3:1" if kind.fuses else None,
        seed=1,
        out=str(tmp_path / "run"),
    )
    ours = fit(config).run
    ratio = "amr-3-1" if kind.fuses else "plain"
    theirs = runs_of(head) / f"{method}_{'audio' if kind.single_modality else kind.head or head}_{ratio}_seed1"
    mine, member = (json.loads((run / "metrics.json").read_text()) for run in (ours, theirs))
    for split in ("val", "test"):
        assert list(member[split]) == list(mine[split])
        for name, value in mine[split].items():
            assert member[split][name] == pytest.approx(value, abs=1e-4), name
    mine, member = (load_file(run / "weights.safetensors") for run in (ours, theirs))
    assert list(member) == list(mine)
    for name, value in mine.items():
        torch.testing.assert_close(member[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", HEADS[:2])
def test_every_run_of_a_sweep_has_its_folder(swept, head):
    """Two ratios and two seeds of each method; two seeds if it takes no ratio; two per modality if unimodal."""
    kinds = [methods[method] for of, method in COMBINED if of == head]
    num_runs = sum(2 * (2 if kind.fuses or kind.single_modality else 1) for kind in kinds)
    assert len([run for run in swept[1](head).iterdir() if (run / "metrics.json").is_file()]) == num_runs
