"""A sweep's folder with known numbers: two ratios and none, two seeds, UME and one modality."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from amr.extract.pipeline.preview import Media
from amr.fusion.config import FitConfig
from amr.fusion.explain.explanation import Steps
from amr.fusion.report.clips import gallery
from amr.fusion.report.clips.media import show
from amr.fusion.report.config import ReportConfig
from amr.fusion.report.page import report
from amr.fusion.swept import SweepConfig

from ...conftest import without

CLASSES = ("bark", "</script><b>meow", "moo")
NUM_CLIPS = 30
SETTINGS = (  # method, modalities, ratio, accuracy, share of audio, use of audio and video
    ("naive", "audio,video", None, 0.80, 0.70, 0.50, 0.05),
    ("naive", "audio,video", "1:1", 0.78, 0.50, 0.45, 0.10),
    ("naive", "audio,video", "1:3", 0.70, 0.26, 0.40, 0.10),
    ("ume", "audio,video", None, 0.75, 0.60, 0.40, 0.10),
    ("unimodal", "audio", None, 0.72, None, None, None),
)


def measures(accuracy: float, share: Mapping[str, float | None], use: Mapping[str, float | None]) -> dict[str, Any]:
    """One split of metrics.json."""
    return {
        "accuracy": accuracy,
        "map": accuracy + 0.05,
        "f1": accuracy,
        "share": share,
        "share_logit": share,
        "share_regularized": share,
        "share_spread": {m: None if value is None else 0.12 for m, value in share.items()},
        "one_sided": 0.0 if None in share.values() else 0.4,
        "perceptual": use,
        "num_clips": NUM_CLIPS,
    }


def of_two(accuracy: float, share: float | None, audio: float | None, video: float | None) -> dict[str, Any]:
    """One split of metrics.json of audio and video."""
    shares = {"audio": share, "video": None if share is None else 1 - share}
    return measures(accuracy, shares, {"audio": audio, "video": video})


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
            write_run(folder / "runs" / name, config, of_two(accuracy + 0.01 * seed, share, audio, video), cache)
            rows.append({"run": name, "head": "-" if method != "naive" else "concat", "amr_ratio": ratio or "none"})
    write_sweep(folder, rows, ("naive", "ume", "unimodal"), (None, "1:1", "1:3"), seeds)
    return folder


def write_sweep(
    folder: Path, rows: list[dict[str, Any]], methods: tuple[str, ...], ratios: tuple[str | None, ...], seeds: int
) -> None:
    """Write results.csv and sweep.json."""
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    swept = SweepConfig(FitConfig(cache="gone"), ("concat",), methods, ratios, (1.0,), (None,), tuple(range(seeds)))
    (folder / "sweep.json").write_text(json.dumps(asdict(swept)))


def make_table(folder: Path, seeds: int = 3) -> Path:
    """Write a folder as `amr table` does: five methods without and with AMR, near each other, and a single modality."""
    rows: list[dict[str, Any]] = []
    table = []
    for number, method in enumerate(("naive", "dropout", "ogm-ge", "umt", "gradient-blending")):
        for ratio in (None, "1:1"):
            for seed in range(seeds):
                config = FitConfig(
                    cache="gone", method=method, modalities="audio,video", amr_ratio=ratio, lr=0.001, seed=seed
                )
                share = 0.6 if ratio is None else 0.5
                of = of_two(
                    0.7 + 0.004 * number + 0.01 * seed - 0.01 * (ratio is not None), share, 0.3, 0.2 + share / 9
                )
                name = f"{method}_{'plain' if ratio is None else 'amr'}_{seed}"
                write_run(folder / "runs" / name, config, of, Path("gone.h5"))
                rows.append({"run": name, "head": "concat", "amr_ratio": ratio or "none"})
        test = {"difference": -0.01, "d": -0.5, "p": 0.2, "p_holm": 0.4}
        table.append({"method": method, "tests": {"map": test, "accuracy": test}})
    for seed in range(seeds):
        config = FitConfig(cache="gone", method="unimodal", modalities="audio", lr=0.001, seed=seed)
        write_run(folder / "runs" / f"audio_{seed}", config, of_two(0.69, None, None, None), Path("gone.h5"))
        rows.append({"run": f"audio_{seed}", "head": "-", "amr_ratio": "none"})
    write_sweep(folder, rows, ("naive",), (None, "1:1"), seeds)
    (folder / "table.json").write_text(json.dumps(table))
    return folder


def make_many(folder: Path, seeds: int = 3) -> Path:
    """Write the folder of a sweep of six modalities, with accuracies near 1."""
    names = ("pixels", "fourier", "profile", "zernike", "karhunen", "morphology")
    rows = []
    for ratio in (None, "1:1:1:1:1:1", "3:1:1:1:1:1"):
        for seed in range(seeds):
            config = FitConfig(cache="gone", modalities=",".join(names), amr_ratio=ratio, lr=0.001, seed=seed)
            parts = np.array([3.0, 1, 1, 1, 1, 1]) if ratio != "1:1:1:1:1:1" else np.ones(6)
            share = dict(zip(names, (parts / parts.sum()).tolist(), strict=True))
            of = measures(0.99 + 0.009 * seed - 0.008, share, {m: 0.3 * value for m, value in share.items()})
            name = f"{(ratio or 'plain').replace(':', '-')}_{seed}"
            write_run(folder / "runs" / name, config, of, Path("gone.h5"))
            rows.append({"run": name, "head": "concat", "amr_ratio": ratio or "none"})
    write_sweep(folder, rows, ("naive",), (None, "1:1:1:1:1:1", "3:1:1:1:1:1"), seeds)
    return evaluated(folder)


def make_frontier(folder: Path) -> Path:
    """Write a folder as `amr frontier` does, with a control that has no runs, and points that cover each other."""
    make_sweep(folder, seeds=3)
    runs = {ratio: [f"naive_audio+video_{ratio}_{seed}" for seed in range(3)] for ratio in ("None", "1-1", "1-3")}
    settings = []
    for label, kind, curve, x, y, names in (
        ("plain", "plain", "plain", 0.8, 0.80, runs["None"]),
        ("permutation 1:1", "permutation", "permutation", 0.6, 0.78, runs["1-1"]),
        ("permutation 1:3", "permutation", "permutation", 0.5, 0.70, runs["1-3"]),
        *((f"modality scaling {i}", "modality scaling", "modality scaling", 0.6, 0.78, []) for i in range(4)),
    ):
        price = {"pairs": 3, "accuracy_lost": 0.02, "accuracy_lost_interval": [-0.3, 0.34], "moved": 0.2}
        price |= {"moved_interval": [0.1, 0.3], "per_tenth": 0.01, "per_tenth_interval": [-0.1, 0.12]}
        settings.append(
            {
                "setting": label, "kind": kind, "curve": curve, "is_control": not names, "has_ratio": kind != "plain",
                "seeds": [0, 1, 2], "val": {"accuracy": y, "use_share": {"audio": x, "video": 1 - x}}, "accuracy": y,
                "use_share": {"audio": x, "video": 1 - x}, "shapley_use_share": {"audio": x, "video": 1 - x},
                "distance": x - 0.5, "runs": names, "on_front": bool(names),
                "price": None if kind == "plain" else dict.fromkeys(("audio", "video"), price),
            }
        )  # fmt: skip
    document = {
        "modalities": ["audio", "video"], "folds": 0, "target": {"audio": 0.5, "video": 0.5}, "max_cost": 0.01,
        "config": {"seeds": 3}, "settings": settings, "front": settings[:3],
        "price": {m: {"setting": "permutation 1:3", **price} for m in ("audio", "video")},
        "best": {
            "run": str(folder / "runs" / runs["1-1"][0]), "setting": "permutation 1:1", "accuracy": 0.78,
            "use_share": {"audio": 0.6, "video": 0.4},
        },
    }  # fmt: skip
    (folder / "frontier.json").write_text(json.dumps(document))
    return folder


def modalities_of(runs: list[dict[str, Any]]) -> list[str]:
    """Modalities of the runs in evaluation.json."""
    return [*dict.fromkeys(m for run in runs for m in run["modalities"])]


def evaluated(folder: Path, *, p_corrected: float = 0.5, people: bool = False) -> Path:
    """Write evaluation.json and .npz as `amr evaluate` does."""
    runs = []
    for run in sorted((folder / "runs").iterdir()):
        config = json.loads((run / "config.json").read_text())["config"]
        modalities = config["modalities"].split(",")
        of: dict[str, Any] = {"noise": {m: [0.8, 0.7, 0.5] for m in modalities}}
        if len(modalities) > 2:
            kept = [list(each) for num in (1, 2, 5, 6) for each in combinations(modalities, num)]
            of |= {"missing": {"mean": {"+".join(each): 0.5 + 0.08 * len(each) for each in kept}}, "rescue": 0.01}
            of |= {"confusion": dict.fromkeys(modalities, 0.02)}
            information = {"label": 3.3, "joint": 3.2, "redundancy": 0.3, "synergy": -0.1}
            of |= {
                "information": information | {name: dict.fromkeys(modalities, 1.0) for name in ("unimodal", "unique")}
            }
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
    test |= {"against": "none", "num_pairs": 3, "interval": [-0.3, 0.1], "effect_size": -1.0, "test": "t", "p": 0.01}
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
    shares = rng.dirichlet(np.ones(len(modalities_of(runs))), (len(runs), NUM_CLIPS))
    probability = rng.dirichlet(np.ones(3), (len(runs), NUM_CLIPS)).astype(np.float16)
    np.savez(
        folder / "evaluation.npz",
        preds=probability.argmax(-1).astype(np.int16),
        shares=shares.astype(np.float16),
        probability=probability,
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


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Containers let root have no sandbox, and little shared memory.
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium: the one on PATH, else playwright's own build."""
    try:
        from playwright import sync_api
    except ImportError:
        without("playwright", "pip install playwright")
    advice = "apt install chromium"
    with sync_api.sync_playwright() as running:
        for path in (*filter(None, map(shutil.which, BROWSERS)), None):
            try:
                started = running.chromium.launch(executable_path=path, args=FLAGS)
            except sync_api.Error as error:
                if path is not None:
                    advice += f" ({path} does not start: {error.message.splitlines()[0]})"
            else:
                yield started
                started.close()
                return
    without("browser", advice)


def with_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every clip of a page a frame, half a second of sound, and weights of its steps."""
    seconds = np.arange(8000) / 16000
    media = Media(np.sin(2 * np.pi * 440 * seconds).astype("f4"), np.full((4, 9, 12, 3), 90, np.uint8), {"audio": 0.5})
    weights = Steps([0.0, 0.25], [0.25, 0.5], [0.8, 0.2], in_seconds=True)
    monkeypatch.setattr(gallery, "shown_media", lambda cache, ids: {id_: show(media) for id_ in ids})
    monkeypatch.setattr(
        gallery, "_steps", lambda run, folds, durations: {id_: {run.modalities[0]: weights} for id_ in folds}
    )


TARGETS: dict[str, dict[str, Any]] = {
    "labels": {"label": "tags", "label_separator": ";"},
    "numbers": {"label": "score", "task": "regression"},
}


@pytest.fixture(scope="session")
def of_tasks(tasks_home: Path) -> dict[str, Path]:
    """Evaluated sweeps of labels and of numbers: three ratios, three seeds."""
    from amr.fusion.evaluate.config import EvaluateConfig
    from amr.fusion.evaluate.evaluate import evaluate
    from amr.fusion.sweep.sweep import sweep

    folders = {}
    for name, target in TARGETS.items():
        options = {"cache": str(tasks_home / "caches" / "x.h5"), "epochs": 15, "lr": 0.05, "device": "cpu"}
        config = SweepConfig.parse(
            swept={"amr_ratio": "none,1:1,1:3"}, seeds=3, out=str(tasks_home / name), **target, **options
        )
        folders[name] = sweep(config).folder
        evaluate(EvaluateConfig(run=folders[name], device="cpu"))
    return folders


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, of_tasks: dict[str, Path]) -> dict[str, Path]:
    """One page per kind of folder."""
    place = tmp_path_factory.mktemp("pages")
    sweep = evaluated(make_sweep(place / "one"), p_corrected=0.5, people=True)
    folders = {
        "sweep": [sweep, sorted((sweep / "runs").iterdir())[0]],
        "table": [make_table(place / "table")],
        "many": [make_many(place / "many")],
        "frontier": [make_frontier(place / "frontier")],
        **{name: [folder] for name, folder in of_tasks.items()},
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_media(monkeypatch)
        return {
            kind: report(ReportConfig(tuple(map(str, each)), out=str(place / "out" / f"{kind}.html"), clips=2)).out
            for kind, each in folders.items()
        }
