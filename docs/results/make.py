"""Make docs/results.md: table 1, ratio sweeps and functional measures on real embeddings and clips.

    make results        # or: python docs/results/make.py [--seeds 10] [--epochs 20] [--only grid-adverb]

The data are in $AMR_TEST_DATA (by default ../shared/data). caches/results-* and runs/results/ go to $AMR_HOME (by
default the project's root). The script runs the commands that the page shows, and skips those that are finished. The
text at the top of the page is not generated: edit reading.md after a look at the numbers.
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
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.runs.statistics import p_text
from amr.fusion.sweep.table import markdown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RATIOS = ("none", "9:1", "4:1", "2:1", "1:1", "1:2", "1:4", "1:9")
PLAIN = "none"  # the ratio without AMR, on the command line and in tables
ATTRIBUTIONS = {  # name of a sweep's folder, to the words for it and its options
    "grad_x_input-probability": ("gradient x input of the probability", ()),
    "grad_x_input-logit": ("gradient x input of the logit", ("--attribution-output", "logit")),
    "shapley": ("Shapley values of log p", ("--attribution", "shapley")),
}
ASKED = "#999999"
DRAWN = {"share": "#0072B2", "use_share": "#009E73", "shapley_use_share": "#D55E00"}
WORDS = {"share": "share", "use_share": "use share", "shapley_use_share": "Shapley use share"}
LIMITS = (-0.2, 1.5)  # Shapley use shares leave [0, 1] if a modality misleads, and more so at the accuracy of guessing
PAIRS = {
    "share": "share",
    "logit share": "share_logit",
    "use": "perceptual",
    "use share": "use_share",
    "Shapley use share": "shapley_use_share",
    "alone": "alone",
    "robustness": "robustness",
    "follows": "conflict",
}
SCORES = {
    "full - worst": "full_minus_worst.mean",
    "ECE": "calibration.clean.ece",
    "NLL": "calibration.clean.nll",
    "Brier": "calibration.clean.brier",
}


@dataclass(frozen=True)
class DataSet:
    """One set of data and how heads are fitted to it.

    Args:
        name: Name of its folders and its picture.
        title: Title of its section.
        cache: Name of its cache, without `results-`.
        make: Arguments of `amr` that make the cache.
        fit: Options of every fit.
        against_people: Whether the cache has votes of people.
    """

    name: str
    title: str
    cache: str
    make: tuple[str, ...]
    fit: tuple[str, ...]
    against_people: bool = False


def data_sets(data: Path) -> Iterator[DataSet]:
    """All data sets, in the order of the page."""
    for encoders, training in (("normal", "trained jointly"), ("umt", "trained with uni-modal teachers")):
        folder = data / "cremad-embeddings" / encoders
        ids = data / "cremad-embeddings" / "clips.txt"
        rows = ":720" if encoders == "umt" else ""
        yield DataSet(
            f"cremad-{encoders}",
            f"CREMA-D, 6 emotions, ResNet-18 {training}, {'720' if rows else '744'} clips, 5 folds by actor",
            f"cremad-{encoders}",
            (
                *("import", "--embeddings", f"audio={folder / 'audio_features.npy'}"),
                *("--embeddings", f"video={folder / 'visual_features.npy'}", "--ids", f"{ids}{rows}"),
                *("--columns", "crema-d", "--groups", r"ids:^\d{4}"),
            ),
            ("--folds", "5"),
            against_people=True,
        )
    grid = ("extract", "--manifest", str(data / "grid" / "labels.csv"), "--label-column", "adverb")
    for label, num_classes in (("adverb", 4), ("digit", 10)):
        title = f"GRID, {label} ({num_classes} classes), log-mel bands and small gray frames, 700 clips of one talker"
        yield DataSet(f"grid-{label}", title, "grid", grid, ("--label", label))


def main() -> None:
    """Run the commands that are not finished, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="Number of seeds of table 1.")
    parser.add_argument("--sweep-seeds", type=int, default=5, help="Number of seeds of the ratio sweeps.")
    parser.add_argument("--epochs", type=int, default=20, help="Number of epochs of every fit.")
    parser.add_argument("--only", help="Name of one data set: print its section, leave the page as it is.")
    arguments = parser.parse_args()
    data = Path(os.environ.get("AMR_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not data.is_dir():
        sys.exit(f"AMR_TEST_DATA must be the folder of the data, got {data}. Set it to a folder that exists.")
    os.environ.setdefault("AMR_HOME", str(ROOT))
    selected = [each for each in data_sets(data) if arguments.only in (None, each.name)]
    if not selected:
        sys.exit(f"--only must be one of {', '.join(s.name for s in data_sets(data))}, got {arguments.only}.")
    sections = [section(each, arguments, data) for each in selected]
    if arguments.only is None:
        reading = (HERE / "reading.md").read_text(encoding="utf-8").replace("](../", "](")  # the page is one folder up
        (ROOT / "docs" / "results.md").write_text("\n\n".join([reading.strip(), *sections]) + "\n", encoding="utf-8")
    else:
        sys.stdout.write("\n\n".join(sections) + "\n")


def amr(arguments: Sequence[str]) -> None:
    """Run one command of `amr`; stop if it fails."""
    status = run([*arguments])
    if status != 0:
        sys.exit(f"amr {shlex.join(arguments)} must succeed, got exit status {status}.")


def section(data_set: DataSet, arguments: argparse.Namespace, data: Path) -> str:
    """Run the commands of one data set and return its section of the page."""
    home = Path(os.environ["AMR_HOME"])
    cache = home / "caches" / f"results-{data_set.cache}.h5"
    commands: list[tuple[str, ...]] = [(*data_set.make, "--out", str(cache))]
    if not cache.is_file():
        amr(commands[0])
    fit = ("--cache", str(cache), *data_set.fit, "--epochs", str(arguments.epochs))
    seeds, sweep_seeds = ("--seeds", str(arguments.seeds)), ("--seeds", str(arguments.sweep_seeds))
    people = ("--against", "people") if data_set.against_people else ()
    folders = {}
    for name, options in {
        "table": ("table", *fit, *seeds, "--adapter-dim", "64"),
        **{
            attribution: ("sweep", *fit, *sweep_seeds, "--amr-ratio", ",".join(RATIOS), *options)
            for attribution, (_, options) in ATTRIBUTIONS.items()
        },
    }.items():
        folders[name] = home / "runs" / "results" / f"{data_set.name}_{name}"
        steps = ((*options, "--out", str(folders[name])), ("evaluate", str(folders[name]), *people))
        commands += steps
        if not (folders[name] / "evaluation.json").is_file():
            for command in steps:
                amr(command)
    return "\n\n".join([f"## {data_set.title}", *tables(data_set, folders), shown(commands, home, data)])


def shown(commands: Sequence[Sequence[str]], home: Path, data: Path) -> str:
    """Format the commands as typed in the workspace."""
    texts = [shlex.join(["amr", *command]).replace(f"{home}/", "").replace(str(data), "DATA") for command in commands]
    return "Commands:\n\n" + "\n".join(f"    {text}" for text in texts)


def tables(data_set: DataSet, folders: Mapping[str, Path]) -> Iterator[str]:
    """Yield table 1, the methods' functional measures, and the ratios under each attribution."""
    yield "### Table 1\n\n" + (folders["table"] / "table.md").read_text(encoding="utf-8").strip()
    evaluation = _read(folders["table"])
    names = evaluation["modalities"]
    rows = [[_method(g), _ratio(g), *_measures(g, names)] for g in evaluation["groups"]]
    yield "### What the methods rely on\n\n" + markdown(["method", "AMR", *_columns(names)], rows).strip()
    ratios = {attribution: _read(folders[attribution]) for attribution in ATTRIBUTIONS}
    for attribution, each in ratios.items():
        p_values = {c["amr_ratio"]: c["p_corrected"] for c in each["comparisons"] if c["measure"] == "accuracy"}
        rows = [[_ratio(g), *_measures(g, names), p_text(p_values.get(g["amr_ratio"]))] for g in each["groups"]]
        table = markdown(["AMR", *_columns(names), "p accuracy"], rows).strip()
        yield f"### Ratios, regularized by {ATTRIBUTIONS[attribution][0]}\n\n{table}"
    draw(HERE / f"{data_set.name}.png", data_set.title, ratios, names)
    yield f"![Share, use share and Shapley use share of {names[0]} over the ratio](results/{data_set.name}.png)"
    if data_set.against_people:
        yield (
            "### Against people\n\nWhom the answer follows on clips where the votes on voice and face differ; the "
            "Jensen-Shannon distance of the probabilities to the votes of people with both; and Spearman's rho between "
            "a clip's audio share and how much better its voice was understood than its face.\n\n"
        ) + markdown(*_people(evaluation)).strip()


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def _method(setting: Mapping[str, Any]) -> str:
    return f"{setting['modalities'][0]} only" if setting["method"] == "unimodal" else setting["method"]


def _ratio(setting: Mapping[str, Any]) -> str:
    ratio = setting["amr_ratio"]
    return PLAIN if ratio is None else named_ratio(ratio, setting["modalities"])


def _columns(names: Sequence[str]) -> list[str]:
    return ["accuracy", *(f"{title} {'/'.join(names)}" for title in PAIRS), *SCORES, "over UME"]


def _measures(setting: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    mean = setting["mean"]

    def pair(name: str) -> str:
        values = [mean.get(f"{name}.{m}") for m in names]
        return "-" if None in values else "/".join(f"{value:.2f}".replace("-0.00", "0.00") for value in values)

    gain = mean.get("gain_over_ume")
    return [
        f"{mean['accuracy']:.3f}" + _half_width(setting["interval"].get("accuracy")),
        *(pair(name) if len(setting["modalities"]) > 1 else "-" for name in PAIRS.values()),
        *("-" if (value := mean.get(name)) is None else f"{value:.3f}" for name in SCORES.values()),
        "-" if gain is None else f"{gain:+.3f}",
    ]


def _half_width(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"


def _people(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns, and rows: one for the people, then one per method and ratio, the mean over its seeds."""
    columns = ["method", "AMR", "follows face", "follows voice", "neither", "distance to votes", "rho of shares"]
    rows: dict[tuple[str, str], list[list[float]]] = {}
    first: dict[str, Any] = {}
    for each in evaluation["runs"]:
        votes = each["measures"]["people"]["votes"]
        if votes["conflict"] is None:  # a uni-modal run
            continue
        first = votes
        head, correlation = votes["conflict"]["head"], votes["correlation"] or {}
        rho = [c["rho"] for c in correlation.values() if c["rho"] is not None]
        values = [head["face"], head["voice"], head["neither"], votes["distance"]["jensen_shannon"]["head"]]
        rows.setdefault((_method(each), _ratio(each)), []).append([*values, *rho[:1]])
    people = first["conflict"]["people"]
    result = [["people", "-", *(f"{people[name]:.3f}" for name in ("face", "voice", "neither")), "-", "-"]]
    for (method, ratio), of_seeds in rows.items():
        means = [f"{sum(values) / len(values):.3f}" for values in zip(*of_seeds, strict=True)]
        result.append([method, ratio, *means, *["-"] * (5 - len(means))])
    return columns, result


def draw(file: Path, title: str, ratios: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Draw the first modality's share, use share and Shapley use share over the ratio, one panel per attribution.

    Args:
        file: Picture to write.
        title: Title of the picture.
        ratios: Attribution to the evaluation of its sweep.
        names: Names of the two modalities.
    """
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    axes = figure.subplots(1, len(ratios), sharey=True)
    for panel, (attribution, evaluation) in zip(axes, ratios.items(), strict=True):
        _panel(panel, evaluation, names)
        panel.set_title(f"regularized by {ATTRIBUTIONS[attribution][0]}", fontsize=8, loc="left")
    axes[0].set_ylabel(f"of {names[0]}, mean over seeds, 95 % interval")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=110)


def _panel(panel: Axes, evaluation: Mapping[str, Any], names: Sequence[str]) -> None:
    settings = {g["amr_ratio"] or PLAIN: g for g in evaluation["groups"]}
    ratios = [ratio for ratio in RATIOS if ratio != PLAIN]
    panel.plot(ratios, [parse_ratio(ratio)[0] for ratio in ratios], "--", color=ASKED, label="asked for")
    for shift, (name, color) in enumerate(DRAWN.items(), start=-1):
        key = f"{name}.{names[0]}"
        means = [settings[ratio]["mean"][key] for ratio in ratios]
        intervals = [
            settings[ratio]["interval"][key] or (mean, mean) for ratio, mean in zip(ratios, means, strict=True)
        ]
        halves = [(high - low) / 2 for low, high in intervals]
        places = [i + 0.08 * shift for i in range(len(ratios))]  # side by side, so that no interval hides another
        panel.errorbar(places, means, halves, fmt="o-", markersize=4, elinewidth=1, color=color, label=WORDS[name])
        panel.axhline(settings[PLAIN]["mean"][key], color=color, linewidth=0.8, linestyle=":")
    panel.set_ylim(*LIMITS)
    panel.set_xlabel(f"ratio asked for, {':'.join(names)} (dotted: no AMR)", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
