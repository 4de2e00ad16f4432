"""The whole pipeline on rendered clips: `amr demo`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amr.common.devices import choose_device
from amr.data_manifests.synthetic import SyntheticConfig, best_accuracy, render
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.attribution.attributor import attributions
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.config import FitConfig
from amr.fusion.runs.read import use_shares
from amr.fusion.runs.statistics import MIN_PAIRS, ROUNDING, paired_test
from amr.fusion.sweep.plots import plot_ratios
from amr.fusion.sweep.sweep import sweep
from amr.fusion.swept import SweepConfig

RATIOS = ("4:1", "1:1", "1:4")
ATTRIBUTIONS = ("grad_x_input", "permutation")
NUM_SEEDS = 5
MODALITIES = ("audio", "video")
SHOWN = {"share": "share", "perceptual": "use", "use_share": "use share"}  # measures to their words
LEVEL = 0.05  # a difference whose p is not below it is within noise
NOISE = " (within noise over seeds)"
CAVEAT = "Here the modalities' cues are drawn independently. On real clips, a share can move while use hardly does."


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Args:
        cache: File with the extracted embeddings.
        picture: File with the picture of accuracy, share and use share over the ratios.
        sweep: Folder of the runs.
        best: Best reachable accuracy with audio, video and both.
        runs: Test results, one row per run.
    """

    cache: Path
    picture: Path
    sweep: Path
    best: dict[str, float]
    runs: pd.DataFrame

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Means over seeds, one row per setting; ratio and attribution are None without AMR."""
        settings = [(None, None), *((attribution, ratio) for attribution in ATTRIBUTIONS for ratio in RATIOS)]
        rows = []
        for attribution, ratio in settings:
            row: dict[str, Any] = {"amr_ratio": ratio, "attribution": attribution}
            row["accuracy"] = _mean(_values(self.runs, "accuracy", attribution, ratio))
            for key in ("share", "share_logit", "perceptual", "use_share"):
                row[key] = {m: _mean(_values(self.runs, f"{key}_{m}", attribution, ratio)) for m in MODALITIES}
            rows.append(row)
        return rows

    def to_json(self) -> dict[str, Any]:
        """Document of `amr demo --json`."""
        return {
            "cache": str(self.cache),
            "picture": str(self.picture),
            "sweep": str(self.sweep),
            "best_accuracy": self.best,
            "rows": self.rows,
            "reading": self.reading(),
        }

    def cells(self) -> tuple[str, list[str], list[list[str]]]:
        """Title, columns and rows of the results as text."""
        names = "/".join(MODALITIES)
        title = f"test, mean of {self.runs['seed'].nunique()} seeds; {', '.join(SHOWN.values())} of {names}"
        cells = [
            [row["attribution"] or "-", _ratio_text(row["amr_ratio"]), _text(row["accuracy"], 3)]
            + ["/".join(_text(row[key][m]) for m in MODALITIES) for key in SHOWN]
            for row in self.rows
        ]
        return title, ["attribution", "AMR", "accuracy", *SHOWN.values()], cells

    def reading(self) -> str:
        """The results in a few sentences. Paired t-tests over seeds decide which differences are more than noise."""
        plain = [_text(_mean(_values(self.runs, f"{key}_audio"))) for key in ("share", "use_share")]
        sentences = [f"Without AMR, audio has a share of {plain[0]} and a use share of {plain[1]}."]
        first, last = RATIOS[0], RATIOS[-1]
        for attribution in ATTRIBUTIONS:
            share, use_share = (
                _from_to(*(_values(self.runs, f"{key}_audio", attribution, ratio) for ratio in (first, last)))
                for key in ("share", "use_share")
            )
            sentences.append(
                f"AMR on {attributions[attribution].label}, from {first} to {last}, takes audio's share {share} "
                f"and its use share {use_share}."
            )
        return "\n".join([*sentences, self._follows(), self._price("1:1"), CAVEAT])

    def _follows(self) -> str:
        """Say on which attribution the use share follows the ratio further."""
        moves = {
            attributions[name].label: _values(self.runs, "use_share_audio", name, RATIOS[0])
            - _values(self.runs, "use_share_audio", name, RATIOS[-1])
            for name in ATTRIBUTIONS
        }
        more, less = sorted(moves, key=lambda label: moves[label].mean(), reverse=True)
        amounts = f"{_text(_mean(moves[more]))} against {_text(_mean(moves[less]))}"
        noise = "" if _differ(moves[more], moves[less]) else NOISE
        return f"The use share follows the ratio further on {more}: {amounts}{noise}."

    def _price(self, ratio: str) -> str:
        """Say what a ratio does to accuracy."""
        plain = _values(self.runs, "accuracy")
        changes = []
        for attribution in ATTRIBUTIONS:
            accuracy = _values(self.runs, "accuracy", attribution, ratio)
            noise = "" if _differ(accuracy, plain) else NOISE
            changes.append(f"{_text(_mean(accuracy), 3)} on {attributions[attribution].label}{noise}")
        return (
            f"Accuracy is {_text(_mean(plain), 3)} without AMR (best reachable: {self.best['both']:.3f}). "
            f"At {ratio}, it is {' and '.join(changes)}."
        )


def _values(runs: pd.DataFrame, column: str, attribution: str | None = None, ratio: str | None = None) -> pd.Series:
    """Values of a setting on test by seed; without a ratio, those without AMR."""
    of_ratio = runs[runs["amr_ratio"] == (ratio or "none")]
    of_setting = of_ratio if ratio is None else of_ratio[of_ratio["attribution"] == attribution]
    return of_setting.set_index("seed")[column].sort_index()


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean())
    return None if math.isnan(mean) else mean


def _differ(values: pd.Series, others: pd.Series) -> bool:
    """Whether the mean difference of two settings, paired by seed, is more than noise."""
    differences = (values - others).dropna()
    if len(differences) < MIN_PAIRS:
        return False
    test = paired_test(differences.to_numpy())
    return abs(test.difference) > ROUNDING if test.p is None else test.p < LEVEL


def _from_to(values: pd.Series, others: pd.Series) -> str:
    noise = "" if _differ(values, others) else NOISE
    return f"from {_text(_mean(values))} to {_text(_mean(others))}{noise}"


def _text(value: float | None, digits: int = 2) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def _ratio_text(ratio: str | None) -> str:
    return "none" if ratio is None else named_ratio(ratio, MODALITIES)


def demo(
    folder: Path, seed: int = 0, say: Callable[[str], None] = lambda text: None, device: str = "auto"
) -> DemoResult:
    """Render clips, extract embeddings, fit heads over ratios of two attributions, and plot the results.

    Args:
        folder: Folder of clips, cache, runs and picture. Existing results in it are used again.
        seed: Seed of the clips, and first seed of the fits.
        say: Function that is called with a sentence at each stage.
        device: Device: auto, cpu or cuda.
    """
    choose_device(device)  # refused before clips are rendered
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {seed}. The default is 0.")
    config = SyntheticConfig(num_clips=480, seed=seed)
    is_rendered = (folder / "media" / "manifest.csv").is_file()
    done = "using the" if is_rendered else "rendering"
    say(f"{done} {config.num_clips} clips of {config.num_classes} classes in {folder / 'media'}")
    manifest = render(config, folder / "media")
    say("extracting log-mel bands and gray frames, where that is not done")
    cache = folder / "caches" / "synthetic.h5"
    extracted = extract_embeddings(
        ExtractConfig(
            manifest=str(manifest.root / "manifest.csv"),
            out=str(cache),
            encoder=("audio=logmel", "video=frames"),
            device=device,
        )
    )
    num_settings = 1 + len(ATTRIBUTIONS) * len(RATIOS)
    say(
        f"{extracted.extracted} clips in {extracted.seconds:.1f} s; fitting {num_settings} settings x {NUM_SEEDS} seeds"
    )
    runs = folder / "runs" / f"sweep_seed{seed}"
    result = DemoResult(cache, folder / "demo.png", runs, best_accuracy(config), _sweep(runs, cache, seed, device))
    _plot(result, f"{config.num_classes} classes, linear concat head, mean of {NUM_SEEDS} seeds and 95 % intervals")
    return result


def _sweep(out: Path, cache: Path, seed: int, device: str) -> pd.DataFrame:
    """Fit every setting with every seed; test results with use shares, one row per run."""
    base = FitConfig(cache=str(cache), out=str(out), device=device)
    seeds = tuple(range(seed, seed + NUM_SEEDS))
    config = SweepConfig(base, amr_ratio=(None, *RATIOS), attribution=ATTRIBUTIONS, seed=seeds)
    runs = sweep(config, overwrite=True).table  # another version may have left a sweep of other settings
    test = runs[runs["part"] == "test"]
    used = [
        use_shares({f"perceptual.{m}": run[f"perceptual_{m}"] for m in MODALITIES}, MODALITIES)
        for run in test.to_dict("records")
    ]
    return test.assign(**{f"use_share_{m}": [each.get(f"use_share.{m}", np.nan) for each in used] for m in MODALITIES})


def _plot(result: DemoResult, title: str) -> None:
    """Draw accuracy, and audio's share and use share, over the ratios of each attribution."""
    columns = {"accuracy": "accuracy", "share of audio": "share_audio", "use share of audio": "use_share_audio"}
    plot_ratios(
        result.picture,
        RATIOS,
        [parse_ratio(ratio, MODALITIES)[0] for ratio in RATIOS],
        {
            f"AMR on {attributions[name].label}": {
                word: [_values(result.runs, column, name, ratio) for ratio in RATIOS]
                for word, column in columns.items()
            }
            for name in ATTRIBUTIONS
        },
        {word: _values(result.runs, column) for word, column in columns.items()},
        title=title,
        axis=f"ratio asked for, {':'.join(MODALITIES)}",
        best_accuracy=result.best["both"],
    )
