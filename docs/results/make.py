"""Make docs/results.md: table 1, frontiers, noise, two claims, and trained encoders, on real embeddings and clips.

    make results        # or: python docs/results/make.py [--only grid-adverb]

It takes about an hour of processor time, and end_to_end.py, which it runs last, one and a half more. The data are in
$AMR_TEST_DATA (by default ../shared/data). caches/results-*, runs/results/ and runs/grid-* go to $AMR_HOME (by default
the project's root). The script runs the commands that the page shows, and skips those that are finished. The text at
the top of the page is not generated: edit reading.md after a look at the numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import claims
import end_to_end
import tables
from commands import ROOT, Command, places, run_unfinished, shown
from noise import UnderNoise, under_noise
from pictures import draw_noise
from tables import table

from amr.fusion.frontier.reading import reading

HERE = Path(__file__).resolve().parent
TABLE_EPOCHS, EPOCHS = 20, 25  # of table 1, and of all other fits
SEEDS = 5  # of all fits but those of table 1
MINUTES = 60  # of processor time, for everything but end_to_end.py


@dataclass(frozen=True)
class DataSet:
    """One set of data and how heads are fitted to it.

    Args:
        name: Name of its folders and its pictures.
        title: Title of its section.
        cache: Name of its cache, without `results-`.
        make: Arguments of `amr` that make the cache.
        fit: Options of every fit.
        table_seeds: Number of seeds of table 1.
        table_folds: Number of folds of table 1; 0 uses the split.
        folds: Number of folds of all other fits; 0 uses the split.
        modalities: Its modalities.
        table_methods: Methods of table 1; None for the paper's, "all" for every one that can run.
        against: Attributions of the frontier besides permutation.
        against_people: Whether the cache has votes of people.
        with_noise: Whether AMR is also fitted with noise in training beside it.
    """

    name: str
    title: str
    cache: str
    make: tuple[str, ...]
    fit: tuple[str, ...] = ()
    table_seeds: int = 10
    table_folds: int = 0
    folds: int = 5
    modalities: tuple[str, ...] = ("audio", "video")
    table_methods: str | None = None
    against: str = "grad_x_input,shapley"
    against_people: bool = False
    with_noise: bool = False

    @property
    def even(self) -> str:
        """The even ratio."""
        return ":".join("1" * len(self.modalities))


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
            table_folds=5,
            table_methods="all",
            against_people=True,
            with_noise=True,
        )
    grid = ("extract", "--manifest", str(data / "grid" / "labels.csv"), "--label-column", "adverb")
    for label, num_classes in (("adverb", 4), ("digit", 10)):
        title = f"GRID, {label} ({num_classes} classes), log-mel bands and small gray frames, 700 clips of one talker"
        against = "grad_x_input,shapley" if label == "adverb" else "grad_x_input"  # Shapley values are slow
        yield DataSet(f"grid-{label}", title, "grid", grid, ("--label", label), against=against)
    views = ("pix", "fou", "fac", "zer", "kar", "mor")
    file = data / "handwritten" / "handwritten_6views.mat"
    imported = [f"{view}={file}:x{i}_train+x{i}_test" for i, view in enumerate(views, start=1)]
    yield DataSet(
        "digits",
        "Handwritten digits (10 classes), six views, 2,000 digits",
        "digits",
        (
            "import",
            *(part for each in imported for part in ("--embeddings", each)),
            *("--labels", f"{file}:gt_train+gt_test", "--splits", "train=1600,test=400"),
        ),
        table_seeds=5,  # the evaluation of ten takes long
        folds=0,
        modalities=views,
        against="grad_x_input",  # Shapley values of six views have 64 subsets
    )


def main() -> None:
    """Run the commands that are not finished, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="Name of one data set: print its section, leave the page as it is.")
    arguments = parser.parse_args()
    home, data = places()
    selected = [each for each in data_sets(data) if arguments.only in (None, each.name)]
    if not selected:
        sys.exit(f"--only must be one of {', '.join(s.name for s in data_sets(data))}, got {arguments.only}.")
    more = "" if arguments.only else f", trained encoders {end_to_end.MINUTES} more"
    sys.stderr.write(f"All sets take about {MINUTES} minutes of processor time{more}. What is finished is skipped.\n")
    started = time.monotonic()
    plans = [Plan(each, home, data) for each in selected]
    for plan in plans:
        plan.run()
    sections = [section(plan) for plan in plans]
    sections.append(claimed(plans))
    if arguments.only is None:
        studies = end_to_end.studies(home, data)
        for study in studies:
            study.run()
        sections.append(end_to_end.section(studies))
    sys.stderr.write(f"It took {(time.monotonic() - started) / 60:.0f} minutes.\n")
    if arguments.only is None:
        text = (HERE / "reading.md").read_text(encoding="utf-8").replace("](../", "](")  # the page is one folder up
        (ROOT / "docs" / "results.md").write_text("\n\n".join([text.strip(), *sections]) + "\n", encoding="utf-8")
    else:
        sys.stdout.write("\n\n".join(sections) + "\n")


@dataclass(frozen=True)
class Plan:
    """The commands of a data set and what they write.

    Args:
        data_set: The data set.
        home: Workspace of caches and runs.
        data: Folder of the data.
    """

    data_set: DataSet
    home: Path
    data: Path

    @property
    def cache(self) -> Path:
        """The cache."""
        return self.home / "caches" / f"results-{self.data_set.cache}.h5"

    def result(self, name: str) -> Path:
        """Folder of runs: `table`, `frontier`, `balance` (clip level) or `noisy` (noise in training)."""
        return self.home / "runs" / "results" / f"{self.data_set.name}_{name}"

    def commands(self) -> Iterator[Command]:
        """Every command, after the file that says that it is finished; None if the command knows by itself."""
        of = self.data_set
        yield self.cache, (*of.make, "--out", str(self.cache))
        fit = ("--cache", str(self.cache), *of.fit)
        in_table = (*fit, "--folds", str(of.table_folds), "--epochs", str(TABLE_EPOCHS))
        in_table += () if of.table_methods is None else ("--method", of.table_methods)
        fit = (*fit, "--folds", str(of.folds), "--epochs", str(EPOCHS), "--seeds", str(SEEDS))
        table_folder, out = self.result("table"), ("--out", str(self.result("table")))
        options = ("--seeds", str(of.table_seeds), "--adapter-dim", "64")
        yield table_folder / "table.md", ("table", *in_table, *options, *out)
        people = ("--against", "people") if of.against_people else ()
        yield table_folder / "evaluation.json", ("evaluate", str(table_folder), *people, "--bootstrap", "0")
        frontier = self.result("frontier")
        yield frontier / "frontier.json", ("frontier", *fit, "--against", of.against, "--out", str(frontier))
        level = ("--amr-level", "clip", "--amr-weight", "3")
        out = ("--out", str(self.result("balance")))
        yield None, ("sweep", *fit, "--amr-ratio", f"none,{of.even}", *level, *out)
        if of.with_noise:
            options = ("--attribution", "grad_x_input,permutation", "--embedding-noise", "0,2")
            out = ("--out", str(self.result("noisy")))
            yield None, ("sweep", *fit, "--amr-ratio", f"none,{of.even},1:4", *options, *out)

    def run(self) -> None:
        """Run what is not finished; stop at the first command that fails."""
        run_unfinished(self.commands())

    def shown(self) -> str:
        """The commands as typed in the workspace."""
        return shown(self.commands(), self.home, self.data)

    def noise(self) -> UnderNoise:
        """Measures under noise."""
        return under_noise(self.home / "runs" / "results" / f"{self.data_set.name}_noise.json", self.result("frontier"))


def section(plan: Plan) -> str:
    """Section of a data set; writes its pictures."""
    of = plan.data_set
    evaluation = _read(plan.result("table") / "evaluation.json")
    frontier = _read(plan.result("frontier") / "frontier.json")
    measured = plan.noise()
    shutil.copyfile(plan.result("frontier") / "frontier.png", HERE / f"{of.name}-frontier.png")
    draw_noise(HERE / f"{of.name}-noise.png", of.title, measured)
    table_1 = (plan.result("table") / "table.md").read_text(encoding="utf-8").strip()
    parts = [
        f"## {of.title}\n\n### Table 1\n\n{table_1}",
        f"### What the methods rely on\n\n{table(tables.methods(evaluation))}",
        f"### Frontier\n\n![Accuracy over use share](results/{of.name}-frontier.png)",
        " ".join(reading(frontier)),
        table(tables.frontier(frontier)),
        f"### Noise\n\n![Accuracy and use over noise](results/{of.name}-noise.png)",
        table(tables.under_noise(measured)),
    ]
    if of.with_noise:
        beside = tables.beside_noise(plan.result("noisy"), measured.overlap)
        parts.append(f"### Noise in training\n\n{table(beside)}")
    if of.against_people:
        parts.append(f"### Against people\n\n{table(tables.people(evaluation))}")
    return "\n\n".join([*parts, plan.shown()])


def claimed(plans: Sequence[Plan]) -> str:
    """Section on the two claims, over all data sets."""
    gains = claims.gains({plan.data_set.name: _read(plan.result("table") / "evaluation.json") for plan in plans})
    folders = {plan.data_set.name: (plan.result("frontier"), plan.result("balance")) for plan in plans}
    overlaps = {plan.data_set.name: plan.noise().overlap for plan in plans}
    return "\n\n".join(
        [
            f"## Two claims\n\n### Gain over the best uni-modal head\n\n{table(gains)}",
            f"### Variance of contributions\n\n{table(claims.contributions(folders, overlaps))}",
        ]
    )


def _read(file: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


if __name__ == "__main__":
    main()
