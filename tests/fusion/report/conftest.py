"""A sweep's folder with known numbers: two ratios and none, two seeds, UME and one modality."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from amr.fusion.config import FitConfig, SweepConfig

CLASSES = ("bark", "</script><b>meow", "moo")
NUM_CLIPS = 30
SETTINGS = (  # method, modalities, ratio, accuracy, share of audio, use of audio and video
    ("naive", "audio,video", None, 0.80, 0.70, 0.50, 0.05),
    ("naive", "audio,video", "1:1", 0.78, 0.50, 0.45, 0.10),
    ("naive", "audio,video", "1:3", 0.70, 0.26, 0.40, 0.10),
    ("ume", "audio,video", None, 0.75, 0.60, 0.40, 0.10),
    ("unimodal", "audio", None, 0.72, None, None, None),
)


def measures(accuracy: float, share: float | None, audio: float | None, video: float | None) -> dict[str, Any]:
    """One split of metrics.json."""
    modalities = {"audio": share, "video": None if share is None else 1 - share}
    uses = {"audio": audio, "video": video}
    return {
        "accuracy": accuracy,
        "map": accuracy + 0.05,
        "f1": accuracy,
        "share": modalities,
        "share_logit": modalities,
        "share_regularized": modalities,
        "share_spread": dict.fromkeys(modalities, None if share is None else 0.12),
        "one_sided": 0.0 if share is None else 0.4,
        "perceptual": uses,
        "num_clips": NUM_CLIPS,
    }


def write_run(folder: Path, config: FitConfig, of: dict[str, Any], cache: Path) -> None:
    """Write the folder of one run."""
    folder.mkdir(parents=True)
    texts = {"encoder": "logmel", "weights_sha256": "", "fingerprint": ""}
    info = {"modality": "audio", "embed_dim": 8, "preprocessing": {}} | texts
    modalities = str(config.modalities).split(",")
    record = {
        "config": asdict(config),
        "classes": CLASSES,
        "modalities": dict.fromkeys(modalities, info),
        "cache": str(cache),
        "notes": ["a note"],
        "versions": {"amr": "0.1.0"},
    }
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "metrics.json").write_text(json.dumps({"val": of, "test": of}))
    epochs = np.arange(1, 6)
    shares = {f"val_share_{m}": 0.5 for m in modalities}
    history = {
        "epoch": epochs,
        "train_loss": 1 / epochs,
        "val_loss": 1.2 / epochs,
        "val_accuracy": epochs / 6,
        **shares,
    }
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)


def make_sweep(folder: Path, cache: Path = Path("gone.h5"), seeds: int = 2) -> Path:
    """Write a folder as `amr sweep` does."""
    rows = []
    for method, modalities, ratio, accuracy, share, audio, video in SETTINGS:
        for seed in range(seeds):
            config = FitConfig(cache="gone", method=method, modalities=modalities, amr_ratio=ratio, lr=0.001, seed=seed)
            name = f"{method}_{modalities}_{ratio}_{seed}".replace(":", "-").replace(",", "+")
            write_run(folder / "runs" / name, config, measures(accuracy + 0.01 * seed, share, audio, video), cache)
            rows.append({"run": name, "head": "-" if method != "naive" else "concat", "amr_ratio": ratio or "none"})
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    swept = SweepConfig(
        FitConfig(cache="gone"),
        ("concat",),
        ("naive", "ume", "unimodal"),
        (None, "1:1", "1:3"),
        (1.0,),
        (None,),
        tuple(range(seeds)),
    )
    (folder / "sweep.json").write_text(json.dumps(asdict(swept)))
    return folder


def evaluated(folder: Path, *, p_corrected: float = 0.5, people: bool = False) -> Path:
    """Write evaluation.json and .npz as `amr evaluate` does."""
    runs = []
    for run in sorted((folder / "runs").iterdir()):
        config = json.loads((run / "config.json").read_text())["config"]
        modalities = config["modalities"].split(",")
        of: dict[str, Any] = {"noise": {m: [0.8, 0.7, 0.5] for m in modalities}}
        if len(modalities) == 2:
            subsets = {"audio": 0.7, "video": 0.3, "audio+video": 0.8}
            of |= {
                "missing": {"zero": subsets, "mean": subsets},
                "shapley_share": {b: {"audio": 0.9, "video": 0.1} for b in ("mean", "permutation")},
                "robustness": {"audio": 0.84, "video": 0.97},
            }
            of |= {"gain_over_ume": 0.05, "gain_over_best_unimodal": 0.08}
            information = {"label": 1.58, "joint": 0.9, "redundancy": 0.3, "synergy": -0.1}
            information |= {"unimodal": {"audio": 1.0, "video": 0.3}, "unique": {"audio": 0.7, "video": 0.0}}
            of |= {"information": information, "probe": {"ratio": {"audio": 0.9, "video": 0.8}}}
            of |= {"ogr": {"joint": 0.5, "unimodal": {"audio": 0.4, "video": None}}}
            of |= {"rescue": 0.06, "confusion": {"audio": 0.02, "video": 0.01}, "cooperation": -0.03}
            of |= {"utilization": {"audio": 0.5, "video": 0.1}, "interaction": {"probability": 0.2, "logit": 0.0}}
            of |= {"emap": 0.8, "emap_gap": 0.0}
        if people:
            head = {"voice": 0.6, "face": 0.3, "neither": 0.1}
            conflict = {"num_clips": 9, "head": head, "people": {"voice": 0.2, "face": 0.6, "neither": 0.1, "tie": 0.1}}
            agreement = {"voice": {"head": 0.5, "label": 0.7}, "both": {"head": 0.6, "label": 0.9}}
            votes = {"conflict": conflict, "agreement": agreement, "distance": {"jensen_shannon": {"head": 0.4}}}
            of |= {"people": {"votes": votes, "tags": None}}
        settings = {name: config[name] for name in ("method", "amr_ratio", "lr", "seed")}
        settings["amr_weight"] = 1.0 if config["amr_ratio"] else None
        settings |= {"head": "concat" if config["method"] == "naive" else "-", "modalities": modalities}
        runs.append({"run": run.name, **settings, "measures": of, "intervals": {}})
    test = {"head": "concat", "method": "naive", "modalities": ["audio", "video"], "amr_weight": 1.0, "lr": 0.001}
    test |= {"against": "none", "num_pairs": 2, "interval": [-0.3, 0.1], "effect_size": -1.0, "test": "t", "p": 0.01}
    comparisons = [
        {**test, "amr_ratio": ratio, "measure": measure, "difference": -0.1, "p_corrected": p_corrected}
        for ratio in ("1:1", "1:3")
        for measure in ("accuracy", "robustness.audio", "conflict.balance", "noise.audio.0.5")
    ]
    document = {
        "format": "amr-evaluation",
        "version": 1,
        "runs": runs,
        "comparisons": comparisons,
        "num_clips": NUM_CLIPS,
        "rank_correlations": {
            "share": {"all": {"rho": -0.2, "p": 0.8, "n": 4}, "without_outermost": None},
            "use": {"all": {"rho": 0.4, "p": 0.6, "n": 5}, "without_outermost": {"rho": -0.8, "p": 0.33, "n": 4}},
        },
        "settings": {"noise_levels": [0, 0.5, 1]},
    }
    (folder / "evaluation.json").write_text(json.dumps(document))
    rng = np.random.default_rng(0)
    audio = rng.uniform(size=(len(runs), NUM_CLIPS))
    np.savez(
        folder / "evaluation.npz",
        preds=rng.integers(0, 3, (len(runs), NUM_CLIPS)).astype(np.int16),
        shares=np.stack([audio, 1 - audio], -1).astype(np.float16),
        target=np.arange(NUM_CLIPS) % 3,
        ids=np.array([f"clip{i}" for i in range(NUM_CLIPS)]),
        fold=np.zeros(NUM_CLIPS, int),
    )
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Function that makes a sweep's folder, evaluated if p_corrected or people are given."""

    def make(name: str = "sweep", seeds: int = 2, **evaluation: Any) -> Path:
        folder = make_sweep(tmp_path / name, seeds=seeds)
        return evaluated(folder, **evaluation) if evaluation else folder

    return make
