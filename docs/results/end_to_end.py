"""Make the section of docs/results.md on trained encoders: table 1 end to end, on real clips, without and with AMR.

    python docs/results/end_to_end.py [--as-is]

The trainings take about an hour and a half of processor time. They go to $AMR_HOME/runs/grid-*-end-to-end*, from the
clips in $AMR_TEST_DATA; a stopped training continues at its epoch. `make results` runs this, too. With --as-is nothing
is trained: the section is written from what is finished.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from commands import ROOT, Command, places, run_unfinished, shown
from lessons import lessons, missing
from needs import needs, needs_text
from tables import table
from trained import FIRST_EPOCHS, LAST_EPOCHS, ORDER, Trainings, swings, table_of

from amr.fusion.methods import methods
from amr.fusion.sweep.table import TABLE_1

PAGE = ROOT / "docs" / "results.md"
TITLE = "## Trained end to end"
SEEDS = 3
PERMUTED = ("naive", "ogm-ge", "umt", "gradient-blending")  # methods that are also trained with AMR on permutation
LABELS = {"adverb": TABLE_1, "digit": ("unimodal", *PERMUTED)}  # label to the methods of its table
AUDIO = "audio=timm:test_resnet,picture=mel,channels=1,size=48x64,weights=random"
VIDEO = (
    "video=timm:test_resnet,modality=video,frames=12,stack=yes,channels=1,size=32,crop=0.32:0.66:0.54:0.84,"
    "weights=random"
)
MINUTES = 95  # of processor time
INTRODUCTION = """\
Encoders, fusion and R are trained together, which is [the paper's own setting](paper.md#trained-end-to-end): timm's
test_resnet on a mel picture of 48 x 64, and on the mouth in 12 gray frames of 32 x 32, from random weights. The clips
are GRID's, 700 of one talker, 140 of them in test; 20 epochs, a tenth of the learning rate after 14, batches of 32, 3
seeds. Adverbs have the paper's ten methods, digits four of them. R has its own optimizer and reaches no encoder; its
weight is 1 on gradient x input and 0.3 on permutation. 1:2 asks for more video, the weaker modality. With three seeds,
only large differences pass a corrected test. Wide intervals of gradient blending are seeds whose joint loss has hardly
any weight (`weight_joint` in `history.csv`): R then outweighs it.

*Probe* is the accuracy of a linear probe on an encoder's z, *against alone* that minus the accuracy on z of the encoder
that was trained alone with the same seed. *Accuracy against none* is the difference from the same method and seed
without AMR: ± is half of its 95 % interval, `p` the paired t-test, with Holm's correction over the table. The last two
rows are encoders trained alone, each with its own classifier."""
SWINGS = (
    "The share of audio on val after each epoch, by the attribution that is regularized; by gradient x input without "
    f"AMR. *Step* is the mean absolute change from one epoch to the next, from epoch {FIRST_EPOCHS} on; *range* is the "
    f"largest minus the smallest of the last {LAST_EPOCHS} epochs. Both are means over runs. `history.csv` of each run "
    "has the shares."
)


@dataclass(frozen=True)
class Study:
    """The commands of a label and what they write.

    Args:
        label: Column of the manifest.
        methods: Methods of its table.
        home: Workspace of runs.
        data: Folder of the data.
    """

    label: str
    methods: tuple[str, ...]
    home: Path
    data: Path

    @property
    def table(self) -> Path:
        """Folder of table 1, with AMR on gradient x input."""
        return self.home / "runs" / f"grid-{self.label}-end-to-end"

    @property
    def permutation(self) -> Path:
        """Folder of the trainings with AMR on permutation."""
        return self.table.with_name(f"{self.table.name}-permutation")

    def commands(self) -> Iterator[Command]:
        """Every command, after the file that says that it is finished."""
        training = ("--manifest", str(self.data / "grid" / "labels.csv"), "--label", self.label, "--epochs", "20")
        training += ("--lr", "0.03", "--lr-step", "14", "--batch-size", "32", "--shift", "0.05", "--seeds", str(SEEDS))
        training += ("--encoder", AUDIO, "--encoder", VIDEO)
        rows = () if self.methods == TABLE_1 else ("--method", ",".join(self.methods))
        yield self.table / "table.md", ("table", "--end-to-end", *training, *rows, "--out", str(self.table))
        yield _evaluated(self.table)
        options = ("--objective", "joint", "--method", ",".join(PERMUTED), "--amr-ratio", "1:1,1:2")
        options += ("--attribution", "permutation", "--out", str(self.permutation))
        yield self.permutation / "results.csv", ("train-encoders", *training, *options)
        yield _evaluated(self.permutation, "--unimodal", str(self.table))

    def run(self) -> None:
        """Train and evaluate what is not finished; stop at the first command that fails."""
        run_unfinished(self.commands())

    def planned(self) -> list[tuple[str, str | None]]:
        """Method and AMR of every setting that fuses."""
        joint = [name for name in self.methods if not methods[name].single_modality]
        in_table = [(name, amr) for name in joint for amr in ORDER[: 2 if methods[name].fuses else 1]]
        return [*in_table, *((name, amr) for name in PERMUTED for amr in ORDER[2:])]

    def read(self) -> Trainings:
        """Read what is finished."""
        return Trainings.read(self.label, self.table, self.permutation)


def _evaluated(folder: Path, *options: str) -> Command:
    """The command that evaluates a folder; an evaluation that is older than the results is made again."""
    evaluation, results = folder / "evaluation.json", folder / "results.csv"
    is_new = evaluation.is_file() and results.is_file() and evaluation.stat().st_mtime >= results.stat().st_mtime
    return evaluation if is_new else None, ("evaluate", str(folder), *options, "--bootstrap", "0")


def studies(home: Path, data: Path) -> list[Study]:
    """One study per label."""
    return [Study(label, rows, home, data) for label, rows in LABELS.items()]


def section(several: Sequence[Study]) -> str:
    """The section, from what is finished."""
    read = [study.read() for study in several]
    parts = [TITLE, INTRODUCTION, filled(missing(read, [study.planned() for study in several], SEEDS))]
    for each in read:
        parts += [f"### Trained encoders: {each.label}", table(table_of(each))]
    parts += ["### What there is to learn from trained encoders", *map(filled, lessons(read))]
    parts += ["### How much shares swing", filled(SWINGS), table(swings(read))]
    parts += [
        "### CREMA-D and VGGSound",
        *(filled(text) if text[0].isalpha() else text for text in needs_text(needs())),
    ]
    commands = [command for study in several for command in study.commands()]
    parts.append(shown(commands, several[0].home, several[0].data))
    return "\n\n".join(part for part in parts if part)


def filled(paragraph: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def replaced(page: str, text: str) -> str:
    """The page with a new section in place of the old one, or at its end."""
    before, found, after = page.partition(f"{TITLE}\n")
    _, more, rest = after.partition("\n## ") if found else ("", "", "")
    return f"{before.rstrip()}\n\n{text}\n" + (f"{more}{rest}" if more else "")


def main() -> None:
    """Train what is not finished, then replace the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-is", action="store_true", help="Train nothing; write the section from what is finished.")
    arguments = parser.parse_args()
    several = studies(*places())
    if not arguments.as_is:
        for study in several:
            study.run()
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), section(several)), encoding="utf-8")
    sys.stderr.write(f"The section is in {PAGE}.\n")


if __name__ == "__main__":
    main()
