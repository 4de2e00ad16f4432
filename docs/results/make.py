"""Make docs/results.md: table 1, ratio sweeps and functional measures on real embeddings and clips.

    make results        # or: python docs/results/make.py [--seeds 10] [--epochs 20] [--only grid-adverb]

The data are looked for in $AMR_TEST_DATA (by default ../shared/data); caches/results-* and runs/results/ in $AMR_HOME
(by default the project's root) are what is made of them. Everything is done by the commands that the page shows; what
is finished is not done again. The reading at the top is written by hand, in reading.md, after a look at the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amr.cli import run
from amr.fusion.runs.statistics import p_text
from amr.fusion.sweep.table import markdown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RATIOS = ("none", "9:1", "4:1", "2:1", "1:1", "1:2", "1:4", "1:9")
PULLS = {
    "grad_x_input, probability": (),
    "grad_x_input, logit": ("--attribution-output", "logit"),
    "shapley": ("--attribution", "shapley"),
}
COLOURS = {"asked": "#999999", "share": "#0072B2", "shapley_share": "#D55E00", "perceptual": "#009E73"}
WORDS = {"asked": "asked for", "share": "share", "shapley_share": "Shapley share", "perceptual": "perceptual share"}


@dataclass(frozen=True)
class ResultFolder:
    """Data to report on.

    Args:
        name: of its folders and its picture.
        title: of its section.
        cache: file in caches/.
        make: the command that makes the cache.
        fit: options of every fit.
        against_people: the cache has people's votes.
    """

    name: str
    title: str
    cache: str
    make: tuple[str, ...]
    fit: tuple[str, ...]
    against_people: bool = False


def opened(data: Path) -> Iterator[ResultFolder]:
    """What there is."""
    for regime, what in (("normal", "trained jointly"), ("umt", "trained with uni-modal teachers")):
        folder = data / "cremad-embeddings" / regime
        ids = data / "cremad-embeddings" / "clips.txt"
        rows = ":720" if regime == "umt" else ""
        yield ResultFolder(
            f"cremad-{regime}",
            f"CREMA-D, 6 emotions, ResNet-18 {what}, {'720' if rows else '744'} clips, 5 folds by actor",
            f"cremad-{regime}",
            (
                *("import", "--embeddings", f"audio={folder / 'audio_features.npy'}"),
                *("--embeddings", f"video={folder / 'visual_features.npy'}", "--ids", f"{ids}{rows}"),
                *("--columns", "crema-d", "--settings", r"ids:^\d{4}"),
            ),
            ("--folds", "5"),
            against_people=True,
        )
    grid = ("extract", "--manifest", str(data / "grid" / "labels.csv"), "--label-column", "adverb")
    for label, num_classes in (("adverb", 4), ("digit", 10)):
        title = f"GRID, {label} ({num_classes} classes), log-mel bands and small grey frames, 700 clips of one talker"
        yield ResultFolder(f"grid-{label}", title, "grid", grid, ("--label", label))


def main() -> None:
    """Do what is not done, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="of table 1")
    parser.add_argument("--sweep-seeds", type=int, default=5, help="of the ratio sweeps")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", help="name of one results")
    arguments = parser.parse_args()
    data = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not data.is_dir():
        sys.exit(f"AMR_TEST_DATA must be the folder of the data, got {data}, which is not there.")
    os.environ.setdefault("AMR_HOME", str(ROOT))
    chosen = [results for results in opened(data) if arguments.only in (None, results.name)]
    if not chosen:
        sys.exit(f"--only must be one of {', '.join(s.name for s in opened(data))}, got {arguments.only}.")
    sections = [section(results, arguments, data) for results in chosen]
    if arguments.only is None:
        reading = (HERE / "reading.md").read_text(encoding="utf-8").replace("](../", "](")  # one folder up, there
        (ROOT / "docs" / "results.md").write_text("\n\n".join([reading.strip(), *sections]) + "\n", encoding="utf-8")
    else:
        sys.stdout.write("\n\n".join(sections) + "\n")


def amr(arguments: Sequence[str]) -> None:
    """One command; its progress goes on, what it prints is in its files, too."""
    status = run([*arguments])
    if status != 0:
        sys.exit(f"amr {shlex.join(arguments)} must succeed, got exit status {status}.")


def section(results: ResultFolder, arguments: argparse.Namespace, data: Path) -> str:
    """Run one results's commands and tell what came of them."""
    home = Path(os.environ["AMR_HOME"])
    cache = home / "caches" / f"results-{results.cache}.h5"
    commands: list[tuple[str, ...]] = [(*results.make, "--out", str(cache))]
    if not cache.is_file():
        amr(commands[0])
    fit = ("--cache", str(cache), *results.fit, "--epochs", str(arguments.epochs))
    seeds, sweep_seeds = ("--seeds", str(arguments.seeds)), ("--seeds", str(arguments.sweep_seeds))
    people = ("--against", "people") if results.against_people else ()
    folders = {}
    for name, options in {
        "table": ("table", *fit, *seeds, "--adapter-dim", "64"),
        **{
            pull: ("sweep", *fit, *sweep_seeds, "--amr-ratio", ",".join(RATIOS), *options)
            for pull, options in PULLS.items()
        },
    }.items():
        folders[name] = home / "runs" / "results" / f"{results.name}_{name.replace(', ', '-')}"
        steps = ((*options, "--out", str(folders[name])), ("evaluate", str(folders[name]), *people))
        commands += steps
        if not (folders[name] / "evaluation.json").is_file():
            for command in steps:
                amr(command)
    return "\n\n".join([f"## {results.title}", *tables(results, folders), shown(commands, home, data)])


def shown(commands: Sequence[Sequence[str]], home: Path, data: Path) -> str:
    """The commands, as typed in the workspace."""
    texts = [shlex.join(["amr", *command]).replace(f"{home}/", "").replace(str(data), "DATA") for command in commands]
    return "Commands:\n\n" + "\n".join(f"    {text}" for text in texts)


def tables(results: ResultFolder, folders: Mapping[str, Path]) -> Iterator[str]:
    """Table 1, the methods' functional measures, and the ratios under each attribution."""
    yield "### Table 1\n\n" + (folders["table"] / "table.md").read_text(encoding="utf-8").strip()
    evaluation = _read(folders["table"])
    names = evaluation["modalities"]
    columns = ["method", "AMR", *_columns(names)]
    rows = [[_method(g), g["amr_ratio"], *_measures(g, names)] for g in evaluation["settings"]]
    yield "### What the methods rely on\n\n" + markdown(columns, rows).strip()
    ratios = {pull: _read(folders[pull]) for pull in PULLS}
    for pull, each in ratios.items():
        p_values = {(c["amr_ratio"], c["measure"]): c["p_corrected"] for c in each["comparisons"]}
        rows = [
            [g["amr_ratio"], *_measures(g, names), p_text(p_values.get((g["amr_ratio"], "accuracy")))]
            for g in each["settings"]
        ]
        yield f"### Ratios, pulled by {pull}\n\n" + markdown(["ratio", *_columns(names), "p accuracy"], rows).strip()
    draw(HERE / f"{results.name}.png", ratios, names[0])
    yield f"![{names[0]}'s share and use over the ratio asked for](results/{results.name}.png)"
    if results.against_people:
        yield (
            "### Against people\n\nOn clips where the votes on voice and face differ: whom the answer follows. "
            "Distance (Jensen-Shannon) of probabilities to the votes of those who had both; Spearman's rho of a "
            "clip's audio share with how much better its voice was understood than its face.\n\n"
        ) + markdown(*_people(evaluation)).strip()


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def _method(setting: Mapping[str, Any]) -> str:
    return f"{setting['modalities'][0]} only" if setting["method"] == "unimodal" else setting["method"]


def _columns(names: Sequence[str]) -> list[str]:
    each = "/".join(names)
    return [
        "accuracy",
        f"share {each}",
        f"logit share {each}",
        f"perceptual {each}",
        f"Shapley {each}",
        f"alone {each}",
        f"robustness {each}",
        f"follows {each}",
        "full - worst",
        "ECE",
        "NLL",
        "Brier",
        "over UME",
    ]


def _measures(setting: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    mean = setting["mean"]

    def pair(name: str) -> str:
        values = [mean.get(f"{name}.{m}") for m in names]
        return "-" if None in values else "/".join(f"{value:.3f}" for value in values)

    gain = mean.get("gain_over_ume")
    return [
        f"{mean['accuracy']:.3f}" + _half_width(setting["interval"].get("accuracy")),
        *(pair(n) for n in ("share", "share_logit", "perceptual", "shapley_share.mean", "missing.mean", "robustness")),
        pair("conflict"),
        *(
            "-" if (value := mean.get(name)) is None else f"{value:.3f}"
            for name in ("full_minus_worst.mean", *(f"calibration.clean.{m}" for m in ("ece", "nll", "brier")))
        ),
        "-" if gain is None else f"{gain:+.3f}",
    ]


def _half_width(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"


def _people(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row a method and ratio, the mean over its seeds, and one for the people themselves."""
    columns = ["method", "AMR", "follows face", "follows voice", "neither", "distance to votes", "rho of shares"]
    rows: dict[tuple[str, str], list[list[float]]] = {}
    first: dict[str, Any] = {}
    for each in evaluation["runs"]:
        votes = each["measures"]["people"]["votes"]
        if votes["conflict"] is None:  # one modality alone
            continue
        first = votes
        head, correlation = votes["conflict"]["head"], votes["correlation"] or {}
        rho = [c["rho"] for c in correlation.values() if c["rho"] is not None]
        values = [head["face"], head["voice"], head["neither"], votes["distance"]["jensen_shannon"]["head"]]
        rows.setdefault((_method(each), each["amr_ratio"]), []).append([*values, *rho[:1]])
    people = first["conflict"]["people"]
    result = [["people", "-", *(f"{people[name]:.3f}" for name in ("face", "voice", "neither")), "-", "-"]]
    for (method, ratio), of_seeds in rows.items():
        means = [f"{sum(values) / len(values):.3f}" for values in zip(*of_seeds, strict=True)]
        result.append([method, ratio, *means, *["-"] * (5 - len(means))])
    return columns, result


def draw(file: Path, ratios: Mapping[str, Mapping[str, Any]], first: str) -> None:
    """The first modality's share and use over the ratio that was asked for, one panel an attribution."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, len(ratios), sharey=True)
    for panel, (pull, evaluation) in zip(axes, ratios.items(), strict=True):
        _panel(panel, evaluation, first)
        panel.set_title(f"pulled by {pull}", fontsize=10, loc="left")
    axes[0].set_ylabel(f"part of {first}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=110)


def _panel(panel: Axes, evaluation: Mapping[str, Any], first: str) -> None:
    settings = {g["amr_ratio"]: g["mean"] for g in evaluation["settings"]}
    pulled = [ratio for ratio in RATIOS if ratio != "none"]
    asked = [int(a) / (int(a) + int(b)) for a, b in (ratio.split(":") for ratio in pulled)]
    panel.plot(pulled, asked, "--", color=COLOURS["asked"], label=WORDS["asked"])
    for name in ("share", "shapley_share", "perceptual"):
        values = [_part(settings[ratio], name, first) for ratio in pulled]
        panel.plot(pulled, values, "o-", markersize=4, color=COLOURS[name], label=WORDS[name])
        panel.axhline(_part(settings["none"], name, first), color=COLOURS[name], linewidth=0.8, linestyle=":")
    panel.set_ylim(-0.05, 1.15)  # Shapley shares leave [0, 1] where a modality misleads
    panel.set_xlabel("ratio asked for (dotted: without AMR)", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)


def _part(mean: Mapping[str, float], name: str, first: str) -> float:
    """A share as it is; of perceptual scores, the part of their sum."""
    if name != "perceptual":
        return mean[f"{name}.mean.{first}" if name == "shapley_share" else f"{name}.{first}"]
    scores = {m: max(value, 0.0) for m, value in mean.items() if m.startswith("perceptual.")}
    total = sum(scores.values())
    return scores[f"perceptual.{first}"] / total if total > 0 else float("nan")


if __name__ == "__main__":
    main()
