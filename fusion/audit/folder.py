"""The folder of an audit: a run whose model is the user's own, with its evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amr.common.files import check_writable, checksummed, replacing, write_json
from amr.common.workspace import place, runs_dir
from amr.fusion.choices import SCORES, Score
from amr.fusion.config import FitConfig
from amr.fusion.evaluate.comparison import Measured, over_seeds
from amr.fusion.evaluate.config import FILES, FORMAT
from amr.fusion.evaluate.perturb import LEVELS
from amr.fusion.evaluate.write import VERSION, decisions, rounded, run_entry, write
from amr.fusion.runs.read import Run
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.statistics import CONFIDENCE

if TYPE_CHECKING:
    from amr.fusion.audit.result import Audit

TARGET = "target"  # name of what is predicted, if none is given
OWN_FILES = ("config.json", "metrics.json", "SHA256SUMS", *FILES)


@dataclass(frozen=True)
class AuditRecord:
    """What was audited, and how.

    Args:
        model: Name of the model.
        classes: Names of the classes or labels; of a number, its name.
        modalities: Names of the modalities.
        encoders: Modality to the module that was tapped; empty without shares.
        notes: Sentences about what was left out.
        seed: Seed of all draws.
        num_permutations: Number of draws of partners.
        noise_draws: Number of draws of noise per level.
        num_partners: Number of clips that partners were drawn from.
        task: Task of the model.
    """

    model: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    encoders: Mapping[str, str]
    notes: tuple[str, ...]
    seed: int
    num_permutations: int
    noise_draws: int
    num_partners: int
    task: str = "multiclass"

    @property
    def score(self) -> Score:
        """Score of the task."""
        return SCORES[self.task]

    @property
    def label(self) -> str:
        """Name of what is predicted."""
        return self.classes[0] if self.task == "regression" else TARGET

    def run_record(self) -> RunRecord:
        """As the record of a run."""
        infos = {
            m: {
                "embed_dim": 1,
                "modality": m,
                "encoder": self.encoders.get(m, "its inputs"),
                "weights_sha256": "",
                "fingerprint": "",
                "preprocessing": {},
            }
            for m in self.modalities
        }
        config = FitConfig(seed=self.seed, task=self.task)
        config = replace(config, label=self.label) if self.task == "regression" else config
        return RunRecord(config, self.classes, infos, "", self.notes, model=self.model)


def write_folder(audit: Audit, out: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Write config.json, metrics.json and the files of an evaluation.

    Raises:
        ValueError: The folder holds something else than an audit, or that of another model.
    """
    folder = place(out, runs_dir())
    check_writable(folder, "out", "Pass out= with another folder.")
    _check_replaceable(folder, audit.record, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    record = audit.record.run_record()
    measures = _measures(audit)
    run = Run(folder, record, None, measures, ({"val": None, "test": measures},))
    measured = Measured(run, audit.values, audit.intervals, {}, {}, 0.0)
    document = rounded(_document(audit, folder, measured))
    (folder / "metrics.json").unlink(missing_ok=True)
    record.save(folder)
    with checksummed(folder, *FILES):
        write(folder, document, [measured])
        _write_arrays(audit, folder)
    write_json(folder / "metrics.json", rounded({"val": None, "test": measures}))
    return folder


def _check_replaceable(folder: Path, record: AuditRecord, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {str(folder)!r}. Choose another name.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    foreign = [path.name for path in folder.iterdir() if path.name not in OWN_FILES]
    try:
        earlier = RunRecord.read(folder).model if not foreign else None
    except (FileNotFoundError, ValueError):
        earlier = None
    if earlier is None:
        raise ValueError(f"out must be new, empty or an earlier audit, got {str(folder)!r}. Choose another name.")
    if earlier != record.model and not overwrite:
        raise ValueError(
            f"out must be new or an audit of {record.model}, got {str(folder)!r}, one of {earlier}. "
            "Choose another name, or pass overwrite=True."
        )


def _measures(audit: Audit) -> dict[str, Any]:
    """Measures of metrics.json, as a fit has them."""
    v = audit.values
    modalities = audit.record.modalities
    by_modality = {
        name: {m: _number(v.get((key, m))) for m in modalities}
        for name, key in {
            "share": "share",
            "share_logit": "share_logit",
            "share_regularized": "share",
            "perceptual": "perceptual",
        }.items()
    }
    scores = {name: _number(v[(name,)]) for name in audit.record.score.measures}
    return {**scores, **by_modality, "num_clips": len(audit.target)}


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def _document(audit: Audit, folder: Path, measured: Measured) -> dict[str, Any]:
    """Content of evaluation.json."""
    record = audit.record
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": folder.name,
        "cache": "",
        "fitted_on": "",
        "model": record.model,
        "label": record.label,
        "task": record.task,
        "modalities": list(record.modalities),
        "classes": list(record.classes),
        "part": "test",
        "num_clips": len(audit.target),
        "settings": {
            "num_permutations": record.num_permutations,
            "num_partners": record.num_partners,
            "noise_levels": list(LEVELS),
            "noise_draws": record.noise_draws,
            "conflict_draws": record.num_permutations,
            "num_bootstrap": audit.num_bootstrap,
            "confidence": CONFIDENCE,
            "resampled": "clips",
            "folds": 0,
            "seed": record.seed,
            "unimodal": None,
        },
        "runs": [run_entry(measured)],
        "groups": over_seeds([measured]),
        "comparisons": [],
        "rank_correlations": None,
        "num_unfinished": 0,
    }


def _write_arrays(audit: Audit, folder: Path) -> None:
    """Write evaluation.npz: predictions and shares of each clip, as `amr evaluate` does."""
    arrays: dict[str, Any] = {
        **decisions(audit.record.task, audit.per_clip.probability),
        "shares": audit.per_clip.share.astype(np.float16),
        "target": audit.target.numpy(),
        "ids": np.arange(len(audit.target)).astype(str),
        "fold": np.zeros(len(audit.target), int),
    }
    with replacing(folder / "evaluation.npz") as partial:
        np.savez_compressed(partial, **arrays)
