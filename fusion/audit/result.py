"""Result of an audit: measures with intervals, as a table, per clip, and as a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from amr.fusion.audit.folder import AuditRecord, write_folder
from amr.fusion.choices import SCORES
from amr.fusion.evaluate.bootstrap import Resamples, fold_means, percentiles
from amr.fusion.evaluate.comparison import in_units
from amr.fusion.evaluate.measures.conflict import Conflict
from amr.fusion.evaluate.measures.conflict import derived as conflict_derived
from amr.fusion.evaluate.measures.missing import derived as missing_derived
from amr.fusion.evaluate.measures.noise import derived as noise_derived
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.evaluate.perturb import Name
from amr.fusion.runs.write import decision_columns
from amr.fusion.tasks import tasks

# Words of the table to a measure's name; {} is the modality. The scores of the task come first.
CALIBRATION = {
    "ECE": "calibration.clean.ece",
    "NLL": "calibration.clean.nll",
    "Brier": "calibration.clean.brier",
}
BY_MODALITY = {
    "share": "share.{}",
    "logit share": "share_logit.{}",
    "use": "perceptual.{}",
    "use share": "use_share.{}",
    "Shapley use share": "shapley_use_share.{}",
    "alone": "alone.{}",
    "follows under conflict": "conflict.{}",
    "robustness": "robustness.{}",
    "ECE under noise": "calibration.{} noise.ece",
}


def measures_of(per_clip: PerClip, weights: np.ndarray) -> dict[Name, np.ndarray]:
    """Measures under clip weights `(rows, clips)`, named as in evaluation.json: name to `(rows, 1)`."""
    means = fold_means(per_clip.values, per_clip.folds, weights)
    means |= missing_derived(means, per_clip.modalities)
    means |= noise_derived(means, per_clip.modalities)
    if per_clip.task in Conflict.tasks:
        means |= conflict_derived(means, per_clip.modalities)
    return in_units(means | per_clip.calibration_errors(weights), SCORES[per_clip.task])


@dataclass(frozen=True)
class Audit:
    """What a model relies on, from `amr.audit`.

    Print it, or look at `table` and `clips`; `save` writes a folder for `amr report`.

    Args:
        record: Model, classes, modalities and settings.
        per_clip: Results of each clip.
        logits: Logits, or numbers, `(clips, outputs)` on the CPU.
        target: Classes `(clips,)`, labels `(clips, labels)` or numbers `(clips,)`.
        num_bootstrap: Number of bootstrap samples for the intervals.
    """

    record: AuditRecord
    per_clip: PerClip
    logits: Tensor
    target: Tensor
    num_bootstrap: int

    @cached_property
    def values(self) -> dict[Name, float]:
        """Every measure by its name in evaluation.json."""
        found = {name: float(v[0, 0]) for name, v in measures_of(self.per_clip, np.ones((1, len(self.target)))).items()}
        of_task = tasks[self.record.task].measures(self.logits, self.target)
        rest = {name: of_task[name] for name in self.record.score.measures if (name,) not in found}
        return found | {(name,): np.nan if value is None else value for name, value in rest.items()}

    @cached_property
    def intervals(self) -> dict[Name, tuple[float, float]]:
        """95 % interval of each measure that is a mean over clips or follows from such means, by resampled clips."""
        if not self.num_bootstrap:
            return {}
        weights = Resamples(self.num_bootstrap, self.record.seed).of(np.arange(len(self.target)))
        bounds = {name: percentiles(v)[:, 0] for name, v in measures_of(self.per_clip, weights).items()}
        return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per measure and modality: measure, modality, value, low, high (the 95 % interval)."""
        scores = {words: name for name, words in self.record.score.measures.items()}
        rows = [(words, "", name) for words, name in (scores | CALIBRATION).items()]
        modalities = self.per_clip.modalities
        pairs = len(modalities) > 2
        for words, name in BY_MODALITY.items():
            if not (words.startswith("follows") and pairs):
                rows += [(words, m, name.format(m)) for m in modalities]
        flat = {".".join(name): value for name, value in self.values.items()}
        bounds = {".".join(name): pair for name, pair in self.intervals.items()}
        nothing = (np.nan, np.nan)
        return pd.DataFrame(
            [
                {"measure": words, "modality": m, "value": flat[name]}
                | dict(zip(("low", "high"), bounds.get(name, nothing), strict=True))
                for words, m, name in rows
                if name in flat and not np.isnan(flat[name])
            ],
            columns=["measure", "modality", "value", "low", "high"],
        )

    @cached_property
    def clips(self) -> pd.DataFrame:
        """One row per clip: target, prediction, probabilities, and the shares of its decision, if there are any.

        Columns are named as in the predictions.csv of a fit: `probability` is that of the predicted class,
        `probability_dog` that of the label dog.
        """
        columns = decision_columns(self.record.task, self.record.classes, self.logits, self.target)
        if self.record.encoders:
            columns |= {f"share_{m}": self.per_clip.share[0, :, i] for i, m in enumerate(self.per_clip.modalities)}
        return pd.DataFrame(columns)

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the audit into a folder, which `amr report` shows.

        Args:
            out: Name in runs/, or a path with a slash: a folder that is new, empty, or holds an earlier audit.
            overwrite: Whether the audit of another model may be replaced.

        Raises:
            ValueError: The folder holds something else.
        """
        return write_folder(self, out, overwrite=overwrite)

    def __str__(self) -> str:
        r = self.record
        units = "in units of the target" if r.score.least_is_best else "fractions of 1"
        use = "" if r.task == "multiclass" else f"use is the {r.score.lost}, "
        lines = [f"{r.model}, {len(self.target)} clips; {use}{units}, 95 % intervals over clips"]
        columns = [self.table[name].tolist() for name in ("measure", "modality", "value", "low", "high")]
        shown = [
            (words, m, f"{value:.3f}", _interval(low, high))
            for words, m, value, low, high in zip(*columns, strict=True)
        ]
        widths = [max((len(row[i]) for row in shown), default=0) for i in range(4)]
        last = ""
        for row in shown:
            cells = [row[0] if row[0] != last else "", *row[1:]]
            last = row[0]
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        return "\n".join([*lines, *r.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, float_format="{:.3f}".format, na_rep=""))


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
